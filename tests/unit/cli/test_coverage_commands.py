"""`holdfast coverage`, `explain`, `policy plan` and `policy cost` as a person sees them."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from holdfast.errors import AccessDeniedError
from holdfast.model.configuration import Configuration
from holdfast.model.ids import session_id
from holdfast.model.restore_point import Flag, Kind, RestorePoint
from holdfast.model.session import Outcome, Problem, Session, State
from holdfast.operations.coverage.record_coverage import RecordCoverage, record_coverage
from holdfast.operations.coverage.show_configuration import ShowConfiguration, show_configuration
from holdfast.operations.retention.retention_in_force import policy_in_force
from tests.session_world import ACCOUNT, REGION, configured
from tests.unit.cli.conftest import CommandWorld, Ended

SUNDAY = date(2026, 11, 22)
MORNING = datetime(2026, 11, 22, 7, tzinfo=UTC)
MONDAY = datetime(2026, 11, 23, 4, tzinfo=UTC)
DAY = timedelta(days=1)
Command = Callable[..., Ended]


def outcome(instance_id: str, *, why: str = "") -> Outcome:
    problems = (Problem(code="SourceGone", message=why),) if why else ()
    state = State.FAILED if why else State.SUCCESS
    kinds = () if why else ("snapshot",)
    return Outcome(
        account=ACCOUNT, region=REGION, instance_id=instance_id, state=state, problems=problems, kinds=kinds
    )


def point(instance_id: str, taken_at: datetime, kind: Kind = Kind.SNAPSHOT) -> RestorePoint:
    return RestorePoint(
        point_id=f"{taken_at:%Y%m%dT%H%M%SZ}-0123456789ab",
        kind=kind,
        account=ACCOUNT,
        region=REGION,
        instance_id=instance_id,
        taken_at=taken_at,
        policy="daily",
        flags=frozenset({Flag.DAILY}),
    )


@pytest.fixture
def world(aws: CommandWorld) -> CommandWorld:
    """Two instances; on Sunday one went well and one failed, and the ledger of it is there."""
    aws.configuration = configured(daily={"snapshots": {"hours": [7], "keep": 2}}, repository="")
    name = session_id("daily", MORNING)
    aws.catalog.write_session(
        Session(
            session_id=name,
            policy="daily",
            slot=MORNING,
            started_at=MORNING,
            ended_at=MORNING + timedelta(minutes=5),
            state=State.FAILED,
        )
    )
    aws.catalog.write_part(name, f"region/{REGION}", {"ended": True, "problems": []}, at=MORNING)
    for number, why in ((1, ""), (2, "the volume is gone")):
        one = outcome(aws.add_instance(number, name=("web", "db")[number - 1]), why=why)
        part = f"outcome/{REGION}/{ACCOUNT}/{one.instance_id}"
        aws.catalog.write_part(name, part, {"outcome": one.model_dump(mode="json")}, at=MORNING)
    aws.clock.current = MONDAY
    record_coverage(RecordCoverage(scheduled_at=MONDAY), aws)
    return aws


WEB, DB = f"i-{1:017x}", f"i-{2:017x}"


def test_the_newest_ledger_adds_up(world: CommandWorld, holdfast: Command) -> None:
    told = holdfast("coverage").result
    assert told["on"] == "2026-11-22"
    assert told["instances"] == {
        "protected": 1,
        "failed": 1,
        "excluded": 0,
        "not selected": 0,
        "unreachable": 0,
        "total": 2,
    }
    assert [(line["name"], line["standing"]) for line in told["lines"]] == [
        ("web", "protected"),
        ("db", "failed"),
    ]


def test_a_standing_limits_what_is_shown_and_not_the_sums(world: CommandWorld, holdfast: Command) -> None:
    told = holdfast("coverage", "--standing", "failed", "--date", "2026-11-22").result
    assert ([line["instance_id"] for line in told["lines"]], told["instances"]["total"]) == ([DB], 2)
    assert holdfast("coverage", "--standing", "not selected").result["lines"] == []


def test_the_sums_of_several_days_stand_below_each_other(world: CommandWorld, holdfast: Command) -> None:
    world.clock.current = MONDAY + DAY
    record_coverage(RecordCoverage(scheduled_at=world.clock.now()), world)
    rows = holdfast("coverage", "--days", "14").result
    assert [(row["on"], row["protected"], row["failed"], row["total"]) for row in rows] == [
        ("2026-11-23", 0, 2, 2),
        ("2026-11-22", 1, 1, 2),
    ]
    assert len(holdfast("coverage", "--days", "1").result) == 1


def test_a_table_shows_sums_accounts_and_what_needs_attention(world: CommandWorld, holdfast: Command) -> None:
    shown = holdfast("coverage", "--output", "table").out
    assert "Coverage of 2026-11-22" in shown
    assert DB in shown
    assert WEB not in shown
    assert WEB in holdfast("coverage", "--standing", "protected", "--output", "table").out


def test_a_spreadsheet_gets_one_row_for_each_instance(world: CommandWorld, holdfast: Command) -> None:
    rows = list(csv.DictReader(io.StringIO(holdfast("coverage", "--output", "csv").out)))
    assert [(row["instance_id"], row["standing"]) for row in rows] == [(WEB, "protected"), (DB, "failed")]


def test_a_check_ends_by_the_gravest_that_it_finds(world: CommandWorld, holdfast: Command) -> None:
    assert holdfast("coverage", "--check").code == 1
    world.refused[ACCOUNT] = AccessDeniedError("The role is gone.")
    world.clock.current = MONDAY + DAY
    record_coverage(RecordCoverage(scheduled_at=world.clock.now()), world)
    ended = holdfast("coverage", "--check")
    assert (ended.code, ended.result["instances"]["unreachable"]) == (3, 2)
    assert holdfast("coverage").code == 0


def test_a_look_at_this_moment_is_asked_of_the_installation(world: CommandWorld, holdfast: Command) -> None:
    request = RecordCoverage(live=True, accounts=(ACCOUNT,))
    world.answers["record-coverage"] = record_coverage(request, world)
    told = holdfast("coverage", "--live", "--account", ACCOUNT).result
    assert told["on"] == "2026-11-23"
    assert world.invoked == [("record-coverage", {"live": True, "accounts": [ACCOUNT]}, REGION)]


@pytest.mark.parametrize(
    "words, code, text",
    [
        (("coverage", "--date", "2026-11-20"), 4, "no coverage ledger of that day"),
        (("coverage", "--date", "yesterday"), 2, "is no date"),
        (("coverage", "--date", "2026-11-20", "--live"), 2, "cannot be combined"),
        (("explain", "i-0fffffffffffffff0"), 4, "in no inventory"),
        (("policy", "cost", "weekly"), 1, "There is no policy 'weekly'"),
    ],
)
def test_what_is_not_there_is_said(
    world: CommandWorld, holdfast: Command, words: tuple[str, ...], code: int, text: str
) -> None:
    ended = holdfast(*words)
    assert ended.code == code
    assert text in " ".join(ended.err.split())


def test_without_any_ledger_the_command_says_how_to_get_one(aws: CommandWorld, holdfast: Command) -> None:
    for words in (("coverage",), ("policy", "cost", "daily")):
        ended = holdfast(*words)
        assert (ended.code, "--live" in ended.err) == (4, True)


def test_an_instance_is_explained(world: CommandWorld, holdfast: Command) -> None:
    for days in range(1, 3):
        world.catalog.add_point(point(WEB, MORNING - days * DAY))
    told = holdfast("explain", WEB, "--slots", "2").result
    assert (told["owner"], told["name"], told["restore_points"]) == ("daily", "web", 2)
    assert told["ledger"] == {
        "on": "2026-11-22",
        "standing": "protected",
        "reason": "restore point of 2026-11-22 07:00 UTC by policy 'daily'",
    }
    assert [slot["at"] for slot in told["slots"]] == [
        "2026-11-23T07:00:00+00:00",
        "2026-11-24T07:00:00+00:00",
    ]
    assert told["slots"][0]["flags"] == {"snapshot": "D"}
    assert [removal["removed_at"][:10] for removal in told["removals"]] == ["2026-11-23", "2026-11-24"]


def test_a_retention_that_waits_for_its_confirmation_is_noted(world: CommandWorld, holdfast: Command) -> None:
    (owner,) = world.configuration.policies
    policy_in_force(owner, Kind.SNAPSHOT, REGION, world)
    world.configuration = configured(daily={"snapshots": {"hours": [7], "keep": 1}}, repository="")
    policy_in_force(world.configuration.policies[0], Kind.SNAPSHOT, REGION, world)
    (note,) = holdfast("explain", WEB).result["notes"]
    assert note.startswith("a shorter retention of daily waits for a confirmation")


def test_an_explanation_reads_as_text(world: CommandWorld, holdfast: Command) -> None:
    world.refused[ACCOUNT] = AccessDeniedError("The role is gone.")
    world.clock.current = MONDAY + DAY
    record_coverage(RecordCoverage(scheduled_at=world.clock.now()), world)
    lines = holdfast("explain", WEB, "--output", "text").out.splitlines()
    assert lines[0] == f"{WEB} (web), account {ACCOUNT} production, {REGION}, running"
    assert lines[1] == "  as seen at 2026-11-23 04:00 UTC"
    assert lines[2].startswith("  NOTE: on 2026-11-23 the account could not be looked at: AccessDenied:")
    assert "protected by daily" in lines
    assert "  -> daily: protected: all instances are selected" in lines
    assert "next slots (in UTC)" in lines
    assert lines[-1] == "  nothing"


def test_who_switched_a_policy_off_is_told(world: CommandWorld, holdfast: Command) -> None:
    world.catalog.switch_policy("daily", off=True, by="anna", at=MONDAY)
    told = holdfast("explain", WEB).result
    assert told["owner"] in (None, "")
    assert "the policy daily was switched off by anna at 2026-11-23 04:00 UTC" in told["notes"]
    world.catalog.switch_policy("daily", off=False, by="anna", at=MONDAY)
    assert not any("switched off" in note for note in holdfast("explain", WEB).result["notes"])


def test_an_instance_that_is_gone_is_explained_by_its_restore_points(
    world: CommandWorld, holdfast: Command
) -> None:
    world.catalog.add_point(point(WEB, MORNING), world.home.machines.pop(WEB))
    world.clock.current = MONDAY + DAY
    record_coverage(RecordCoverage(scheduled_at=world.clock.now()), world)
    told = holdfast("explain", WEB).result
    assert told["notes"] == ["the instance does not exist any more"]
    assert (told["owner"], told["policies"][0]["reason"]) == (None, "the instance is terminated")


def test_without_an_inventory_the_newest_restore_point_tells(aws: CommandWorld, holdfast: Command) -> None:
    instance_id = aws.add_instance(1)
    aws.catalog.add_point(point(instance_id, MORNING), aws.home.machines[instance_id])
    told = holdfast("explain", instance_id).result
    assert (told["owner"], told["seen_at"], told["ledger"]) == ("daily", None, None)
    assert "never looked at" in told["notes"][0]


def test_an_account_is_looked_at_before_it_is_explained(world: CommandWorld, holdfast: Command) -> None:
    world.catalog.add_point(point(WEB, MORNING))
    world.answers["record-coverage"] = {"ledger": "live"}
    assert holdfast("explain", WEB, "--live").code == 0
    assert world.invoked[0][1] == {"live": True, "accounts": [ACCOUNT]}


def written(folder: Path, made: Configuration) -> str:
    folder.mkdir()
    (folder / "all.yaml").write_text(made.model_dump_json(exclude_defaults=True))
    return str(folder)


def changed(**policy: Any) -> Configuration:
    return configured(**({"daily": {"snapshots": {"hours": [7], "keep": 2}}, "repository": ""} | policy))


def test_a_plan_compares_with_what_is_deployed(
    world: CommandWorld, holdfast: Command, tmp_path: Path
) -> None:
    world.answers["show-configuration"] = show_configuration(ShowConfiguration(), world)
    same = holdfast("policy", "plan", "--config", written(tmp_path / "same", world.configuration))
    assert (same.code, same.result["needs_confirmation"], same.result["policies"]["changed"]) == (
        0,
        False,
        [],
    )
    for days in range(2):
        world.catalog.add_point(point(WEB, MORNING - days * DAY))
    fewer = changed(
        daily={"snapshots": {"hours": [7], "keep": 1}},
        selection={"instances": [WEB], "exclude_instances": [DB]},
    )
    ended = holdfast("policy", "plan", "--config", written(tmp_path / "fewer", fewer))
    assert ended.code == 3
    told = ended.result
    assert [one["instance_id"] for one in told["lost"]] == [DB]
    assert [one["taken_at"][:10] for one in told["removed_points"]] == ["2026-11-21"]
    assert told["confirm_with"] == ["holdfast policy confirm daily"]
    assert told["usd_a_month_delta"] < 0
    assert (told["before"]["instances"], told["after"]["instances"]) == (2, 1)


def test_points_that_go_because_an_instance_moves_are_told_apart(
    world: CommandWorld, holdfast: Command, tmp_path: Path
) -> None:
    """The retention of no policy is shortened by that, so there is nothing to confirm when it happens."""
    for days in range(40, 42):
        world.catalog.add_point(point(WEB, MORNING - days * DAY))
    old = written(tmp_path / "old", changed(obsolete_snapshots={"mode": "after", "days": 30}))
    elsewhere = changed(obsolete_snapshots={"mode": "after", "days": 30}, selection={"instances": [DB]})
    new = written(tmp_path / "new", elsewhere)
    ended = holdfast("policy", "plan", "--against", old, "--config", new)
    assert (ended.code, ended.result["confirm_with"]) == (3, [])
    shown = holdfast("policy", "plan", "--against", old, "--config", new, "--output", "text").out
    assert "nobody is asked again about 2 restore points of instances that move" in shown


def test_a_plan_against_a_directory_asks_nothing_of_the_installation(
    world: CommandWorld, holdfast: Command, tmp_path: Path
) -> None:
    old = written(tmp_path / "old", changed(selection={"instances": [WEB]}))
    new = written(tmp_path / "new", changed(repository="main", daily={"backups": {"hours": [7]}}))
    shown = holdfast("policy", "plan", "--against", old, "--config", new, "--output", "text").out
    assert world.invoked == []
    assert f"  + {DB} in {ACCOUNT} {REGION}: daily" in shown.splitlines()
    assert "policies changed: daily" in shown
    assert f"first backups in {ACCOUNT} {REGION}: 0.00 h at the quota" in shown
    assert "ebs:GetSnapshotBlock a month: 0 -> " in shown


def test_a_policy_that_is_switched_off_owns_nothing_in_a_plan(
    world: CommandWorld, holdfast: Command, tmp_path: Path
) -> None:
    world.catalog.switch_policy("daily", off=True)
    old = written(tmp_path / "old", changed())
    told = holdfast("policy", "plan", "--against", old, "--config", old).result
    assert (told["before"]["instances"], told["after"]["instances"]) == (0, 0)


def test_a_configuration_of_another_version_is_refused_with_a_way_out(
    world: CommandWorld, holdfast: Command, tmp_path: Path
) -> None:
    world.answers["show-configuration"] = {"version": "9.0.0", "configuration": {"novelty": 1}}
    ended = holdfast("policy", "plan", "--config", written(tmp_path / "new", changed()))
    assert ended.code == 1
    assert "version 9.0.0" in ended.err
    assert "--against" in ended.err


def test_costs_are_shown_per_instance_and_exported(world: CommandWorld, holdfast: Command) -> None:
    rows = holdfast("policy", "cost", "daily").result
    assert [(row["instance_id"], row["total"] > 0) for row in rows] == [(WEB, True), (DB, True)]
    exported = list(csv.DictReader(io.StringIO(holdfast("policy", "cost", "daily", "--as", "csv").out)))
    assert [row["name"] for row in exported] == ["web", "db"]
    assert holdfast("policy", "cost", "daily", "--as", "xml").out.startswith('<estimates currency="USD"')
    dearer = holdfast("policy", "cost", "daily", "--used", "1").result
    assert dearer[0]["total"] > rows[0]["total"]
