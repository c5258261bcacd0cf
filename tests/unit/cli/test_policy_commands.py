"""Policies switched, stopped and listed from the command line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from holdfast.errors import ConflictError, NotFoundError
from holdfast.model.configuration import Configuration
from tests.session_world import REGION, configured
from tests.unit.cli.conftest import ANNA, CommandWorld

Command = Callable[..., Any]
SLA = {
    "sla_templates": [
        {
            "name": "gold",
            "snapshot_window": {"start": "20:00", "end": "23:59"},
            "snapshots": {"daily": {"hours": 1, "keep": {"days": 3}}},
        }
    ],
    "sla_policies": [
        {
            "name": "agreed",
            "source": {"role": "production"},
            "regions": [REGION, "us-east-1"],
            "selection": {"tags": [{"key": "sla"}]},
            "sla_template": "gold",
        }
    ],
}


@pytest.fixture
def both(aws: CommandWorld, monkeypatch: pytest.MonkeyPatch) -> CommandWorld:
    """A world with a policy of either kind."""
    from holdfast.cli.context import CommandContext

    aws.configuration = Configuration.model_validate(
        {**configured().model_dump(exclude_defaults=True), **SLA}
    )
    monkeypatch.setattr(CommandContext, "configuration", aws.configuration)
    return aws


def test_a_policy_that_is_switched_off_says_by_whom_and_has_no_next_run(
    holdfast: Command, aws: CommandWorld
) -> None:
    ended = holdfast("policy", "disable", "daily")
    said = {"by": ANNA, "at": "2026-11-22T07:00:00+00:00"}
    assert (ended.code, ended.result["switched_off"], ended.result["enabled"]) == (0, said, True)
    (listed,) = holdfast("policy", "list").result
    assert (listed["switched_off"], listed["next"]) == (said, None)
    assert aws.catalog.is_switched_off("daily")


def test_a_policy_is_switched_on_again(holdfast: Command, aws: CommandWorld) -> None:
    holdfast("policy", "disable", "daily")
    ended = holdfast("policy", "enable", "daily")
    assert (ended.code, ended.result["switched_off"], ended.result["by"]) == (0, None, ANNA)
    assert ended.result["next"] is not None
    assert not aws.catalog.is_switched_off("daily")


def test_a_policy_that_the_configuration_disables_stays_so_and_that_is_told(
    holdfast: Command, aws: CommandWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    from holdfast.cli.context import CommandContext

    monkeypatch.setattr(CommandContext, "configuration", configured(enabled=False))
    ended = holdfast("policy", "enable", "daily")
    assert (ended.code, ended.result["enabled"], ended.result["next"]) == (3, False, None)
    assert "`enabled: false`" in ended.err


def test_policies_of_both_kinds_are_listed_in_their_order_of_precedence(
    holdfast: Command, both: CommandWorld
) -> None:
    listed = holdfast("policy", "list").result
    assert [(one["name"], one["kind"]) for one in listed] == [("agreed", "sla"), ("daily", "schedule")]
    slots = holdfast("policy", "slots", "agreed", "--count", "12").result
    assert [slot["at"] for slot in slots] == sorted(slot["at"] for slot in slots)
    assert {slot["region"] for slot in slots} == {REGION, "us-east-1"}
    assert listed[0]["next"] == slots[0]["at"] == "2026-11-22T19:00:00+00:00"
    assert holdfast("policy", "disable", "agreed").result["switched_off"]["by"] == ANNA


@pytest.mark.parametrize(
    "words,event",
    [
        (("policy", "stop", "daily"), {"policy": "daily", "by": ANNA}),
        (("session", "stop", "s1"), {"session_id": "s1", "by": ANNA}),
    ],
)
def test_what_runs_is_stopped_by_the_function(
    holdfast: Command, aws: CommandWorld, words: tuple[str, ...], event: dict[str, str]
) -> None:
    aws.answers["stop-session"] = {"stopping": ["s1"]}
    ended = holdfast(*words)
    assert (ended.code, ended.result) == (0, {"stopping": ["s1"]})
    assert aws.invoked == [("stop-session", event, REGION)]


def test_stopping_what_does_not_run_is_told(holdfast: Command, aws: CommandWorld) -> None:
    aws.answers["stop-session"] = NotFoundError("No session of the policy is running.")
    assert holdfast("policy", "stop", "daily").code == 4
    aws.answers["stop-session"] = ConflictError("The session has ended: Success.")
    assert holdfast("session", "stop", "s1").code == 1


@pytest.mark.parametrize("verb", ["enable", "disable", "stop", "start", "slots"])
def test_a_policy_that_is_not_there_is_exit_code_4(holdfast: Command, aws: CommandWorld, verb: str) -> None:
    ended = holdfast("policy", verb, "weekly")
    assert (ended.code, aws.invoked, aws.catalog.switches()) == (4, [], {})
