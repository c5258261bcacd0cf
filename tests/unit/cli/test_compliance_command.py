"""`holdfast policy compliance`: the ledger, and beside it what today's template would say."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime
from fractions import Fraction
from typing import Any

import pytest

from holdfast.cli.context import CommandContext
from holdfast.model.restore_point import Kind
from holdfast.model.session import Session, State
from holdfast.operations.sla.sla_records import write_page
from holdfast.planning.compliance import LedgerEntry, Share
from holdfast.planning.ledger import Member
from tests.session_world import ACCOUNT, POLICY, REGION
from tests.sla_world import WINDOW, sla_configuration
from tests.unit.cli.conftest import CommandWorld

Command = Callable[..., Any]
WEB, DB = "i-00000000000000001", "i-00000000000000002"
FOUR_A_DAY = {"snapshots": {"daily": {"hours": 2}}, "snapshot_window": WINDOW}


@pytest.fixture
def sla(aws: CommandWorld, monkeypatch: pytest.MonkeyPatch) -> CommandWorld:
    """Sunday, 22nd of November 2026, of a policy with four snapshots a day."""
    use(aws, monkeypatch, FOUR_A_DAY)
    return aws


def use(aws: CommandWorld, monkeypatch: pytest.MonkeyPatch, template: dict[str, Any]) -> None:
    aws.configuration = sla_configuration(template)
    monkeypatch.setattr(CommandContext, "configuration", aws.configuration)


def rate(aws: CommandWorld, on: date, *shares: Share, kind: Kind = Kind.SNAPSHOT) -> None:
    members = {one: Member(one, ACCOUNT, REGION, f"name of {one}") for one in (WEB, DB)}
    write_page(LedgerEntry(POLICY, kind, on, Fraction(97, 100), shares), members, aws.catalog)


def rows(holdfast: Command, *words: str, product: str = "snapshot") -> dict[str, dict[str, Any]]:
    ended = holdfast("policy", "compliance", POLICY, *words)
    assert ended.code == 0, ended.err
    return {one["period"]: one for one in ended.result if one["product"] == product}


def test_fourteen_days_are_shown_and_days_without_a_ledger_are_not_available(
    holdfast: Command, sla: CommandWorld
):
    rate(sla, date(2026, 11, 21), Share(WEB, 4, 4), Share(DB, 4, 3))
    found = rows(holdfast)
    assert next(iter(found)) == "2026-11-09"
    assert (len(found), list(found)[-1]) == (14, "2026-11-22")
    assert found["2026-11-22"]["status"] == "Not available"
    assert found["2026-11-21"] == {
        "period": "2026-11-21",
        "product": "snapshot",
        "status": "SLA Missed",
        "percent": 87.5,
        "target": 97.0,
        "rerated_percent": 87.5,
        "rerated_status": "SLA Missed",
        "instances": 2,
        "missed": 1,
        "removed": 0,
    }
    assert rows(holdfast, product="backup")["2026-11-21"]["status"] == "Not configured"


def test_an_edited_template_leaves_the_ledger_and_shows_what_it_would_say(
    holdfast: Command, sla: CommandWorld, monkeypatch: pytest.MonkeyPatch
):
    rate(sla, date(2026, 11, 21), Share(WEB, 4, 4))
    use(sla, monkeypatch, {"snapshots": {"daily": {"hours": 1}}, "snapshot_window": WINDOW})
    row = rows(holdfast)["2026-11-21"]
    assert (row["percent"], row["status"]) == (100.0, "SLA Met")
    assert (row["rerated_percent"], row["rerated_status"]) == (50.0, "SLA Missed")


def test_a_product_that_the_template_no_longer_has_keeps_its_ledger(
    holdfast: Command, sla: CommandWorld, monkeypatch: pytest.MonkeyPatch
):
    rate(sla, date(2026, 11, 21), Share(WEB, 2, 2), kind=Kind.BACKUP)
    row = rows(holdfast, product="backup")["2026-11-21"]
    assert (row["status"], row["percent"]) == ("SLA Met", 100.0)
    assert (row["rerated_status"], row["rerated_percent"]) == ("Not configured", None)


def test_weeks_add_up_their_days_and_the_week_that_runs_is_not_rated_yet(
    holdfast: Command, sla: CommandWorld
):
    rate(sla, date(2026, 11, 14), Share(WEB, 4, 4))
    rate(sla, date(2026, 11, 15), Share(WEB, 4, 2))
    rate(sla, date(2026, 11, 16), Share(WEB, 4, 4))
    found = rows(holdfast, "--view", "week")
    assert len(found) == 12
    assert (found["2026-W46"]["percent"], found["2026-W46"]["status"]) == (75.0, "SLA Missed")
    assert (found["2026-W47"]["percent"], found["2026-W47"]["status"]) == (100.0, "Not available")


def test_archives_have_months_alone(holdfast: Command, sla: CommandWorld):
    assert rows(holdfast, product="archive") == {}
    found = rows(holdfast, "--view", "month", product="archive")
    assert (len(found), next(iter(found)), list(found)[-1]) == (12, "2025-12", "2026-11")
    assert {one["status"] for one in found.values()} == {"Not configured"}


def test_one_instance_is_shown_with_its_labels(holdfast: Command, sla: CommandWorld):
    rate(sla, date(2026, 11, 20), Share(WEB, 4, 4), Share(DB, 4, 1, credited=1))
    rate(sla, date(2026, 11, 21), Share(WEB, 4, 4), Share(DB, 4, 1, removed=True))
    ended = holdfast("policy", "compliance", POLICY, "--instance", DB)
    assert [(one["period"], one["ledger"]) for one in ended.result] == [
        ("2026-11-20", "Missed SLA (50%, 2/4)"),
        ("2026-11-21", "Removed"),
    ]
    every = holdfast("policy", "compliance", POLICY, "--instances").result
    assert [one["instance_id"] for one in every] == [WEB, DB, WEB, DB]


def test_the_result_is_a_table_when_asked_for(holdfast: Command, sla: CommandWorld):
    rate(sla, date(2026, 11, 21), Share(WEB, 4, 4))
    ended = holdfast("policy", "compliance", POLICY, "--output", "table")
    assert "rerated_percent" in ended.out
    assert "SLA Met" in ended.out


def test_a_day_that_is_ahead_of_ours_is_shown(holdfast: Command, sla: CommandWorld):
    sla.clock.current = datetime(2026, 11, 21, 19, tzinfo=UTC)
    rate(sla, date(2026, 11, 22), Share(WEB, 4, 4))
    assert rows(holdfast)["2026-11-22"]["status"] == "SLA Met"


@pytest.mark.parametrize(
    "words, code, said",
    [
        (("gone",), 4, "There is no SLA-based policy 'gone'"),
        ((POLICY, "--instance", "i-0123456789abcdef0"), 4, "does not know i-0123456789abcdef0"),
        ((POLICY, "--view", "year"), 2, "year"),
    ],
)
def test_what_is_not_there_is_named(
    holdfast: Command, sla: CommandWorld, words: tuple[str, ...], code: int, said: str
):
    ended = holdfast("policy", "compliance", *words)
    assert ended.code == code
    assert said in ended.err


def test_a_policy_with_schedules_promises_no_sla(holdfast: Command, aws: CommandWorld):
    ended = holdfast("policy", "compliance", POLICY)
    assert ended.code == 1
    assert "has schedules" in ended.err


def test_a_start_by_hand_runs_what_is_open_in_every_region(
    holdfast: Command, aws: CommandWorld, monkeypatch: pytest.MonkeyPatch
):
    aws.configuration = sla_configuration(FOUR_A_DAY, regions=(REGION, "us-east-1"))
    monkeypatch.setattr(CommandContext, "configuration", aws.configuration)
    aws.answers["start-session"] = {"started": False, "session_id": "", "reason": "No window is open."}
    ended = holdfast("policy", "start", POLICY, "--wait")
    assert ended.code == 0
    assert [(one["region"], one["reason"]) for one in ended.result] == [
        (REGION, "No window is open."),
        ("us-east-1", "No window is open."),
    ]
    assert aws.invoked[1] == (
        "start-session",
        {"policy": POLICY, "region": "us-east-1", "now": True},
        REGION,
    )


@pytest.mark.parametrize("state, code", [(State.SUCCESS, 0), (State.WARNING, 3), (State.FAILED, 1)])
def test_a_start_that_is_waited_for_ends_as_the_worst_of_its_sessions(
    holdfast: Command, sla: CommandWorld, state: State, code: int
):
    slot = sla.clock.now()
    sla.catalog.begin_session(
        Session(session_id="s1", policy=POLICY, slot=slot, started_at=slot, ended_at=slot, state=state)
    )
    sla.answers["start-session"] = {"started": True, "session_id": "s1"}
    sla.outputs["session"] = {}
    ended = holdfast("policy", "start", POLICY, "--wait")
    assert (ended.code, [one["state"] for one in ended.result]) == (code, [state.value])
