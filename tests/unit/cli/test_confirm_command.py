"""``holdfast policy confirm``."""

from __future__ import annotations

from collections.abc import Callable

from holdfast.model.restore_point import Kind
from holdfast.operations.retention.retention_in_force import OBSOLETE, policy_in_force, waiting
from tests.restore_world import RestoreWorld
from tests.session_world import POLICY, REGION, configured
from tests.unit.cli.conftest import ANNA, CommandWorld, Ended


def shorten(world: RestoreWorld, *counts: int) -> None:
    """A policy that keeps fewer and fewer snapshots, as functions see it after each deployment."""
    for count in counts:
        world.configuration = configured(daily={"snapshots": {"hours": [7], "keep": count}}, repository="")
        policy_in_force(world.configuration.policies[0], Kind.SNAPSHOT, REGION, world)


def test_what_waits_is_shown_and_applies_from_then_on(aws: CommandWorld, holdfast: Callable[..., Ended]):
    shorten(aws, 5, 2)
    ended = holdfast("--output", "json", "policy", "confirm", POLICY, "--yes")
    assert ended.code == 0
    (change,) = ended.result["confirmed"]
    assert change == {"of": "snapshot", "before": ["D 5; newest 1"], "now": "D 2; newest 1"}
    assert list(waiting(f"policy/{POLICY}/", aws.catalog)) == []
    force = policy_in_force(aws.configuration.policies[0], Kind.SNAPSHOT, REGION, aws)
    assert not force.waiting
    body = aws.catalog.read_part("retention-in-force", f"policy/{POLICY}/snapshot")
    assert body is not None
    assert body["confirmed_by"] == ANNA


def test_nothing_is_confirmed_when_nobody_is_there_to_say_so(
    aws: CommandWorld, holdfast: Callable[..., Ended]
):
    shorten(aws, 5, 2)
    ended = holdfast("--output", "json", "policy", "confirm", POLICY)
    assert ended.code != 0
    assert "D 5; newest 1 -> D 2; newest 1" in ended.err
    assert len(list(waiting(f"policy/{POLICY}/", aws.catalog))) == 1


def test_nothing_to_confirm_is_no_error(aws: CommandWorld, holdfast: Callable[..., Ended]):
    shorten(aws, 2, 5)
    ended = holdfast("--output", "json", "policy", "confirm", POLICY, "--yes")
    assert (ended.code, ended.result["confirmed"]) == (0, [])


def test_the_rule_for_obsolete_snapshots_is_confirmed_by_its_own_option(
    aws: CommandWorld, holdfast: Callable[..., Ended]
):
    aws.catalog.write_part(
        "retention-in-force",
        OBSOLETE,
        {
            "held": [{"keep": {}, "fallback": None, "keep_last": 0}],
            "wanted": {"keep": {}, "fallback": {"days": 30}, "keep_last": 0},
        },
        at=aws.clock.now(),
    )
    ended = holdfast("--output", "json", "policy", "confirm", "--obsolete", "--yes")
    assert ended.result["confirmed"] == [{"of": "obsolete", "before": ["for ever"], "now": "others 30 days"}]
    assert list(waiting(OBSOLETE, aws.catalog)) == []


def test_what_to_confirm_has_to_be_said(aws: CommandWorld, holdfast: Callable[..., Ended]):
    for words in ([], [POLICY, "--obsolete"]):
        ended = holdfast("--output", "json", "policy", "confirm", *words)
        assert ended.code != 0
        assert "Name a policy, or add --obsolete" in ended.err
