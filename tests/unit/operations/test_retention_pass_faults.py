"""A retention pass that dies at any call, runs twice, or meets a session: never more goes than should."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from holdfast.errors import NotFoundError
from holdfast.model import tags as names
from holdfast.model.restore_point import Kind
from holdfast.operations.retention.apply_retention import ApplyRetention, apply_retention
from holdfast.operations.retention.start_retention import StartRetention, start_retention
from tests.retention_play import PassWorld, newest_pass, play_pass, problems, two_policies
from tests.session_play import Crash
from tests.session_world import ACCOUNT, POLICY, REGION, START, AccountRegion, configured
from tests.unit.operations.test_take_snapshots import event

DAY = timedelta(days=1)
FOUR = START.replace(hour=4) + DAY


def daily(keep: int) -> dict[str, Any]:
    return {"daily": {"snapshots": {"hours": [7], "keep": keep}}}


def moved_world() -> PassWorld:
    """An instance that moved to a policy which keeps fewer: flags lapse, points go, one of them temporary."""
    world = PassWorld(two_policies(first=daily(5), second=daily(2)))
    instance_id = world.add_instance(tags={"backup": "second"})
    for age in (5, 4, 3, 2, 1):
        world.put(instance_id, START - age * DAY, "DW" if age == 4 else "D", policy="first")
    world.put(instance_id, START - 6 * DAY, "", policy="first", **{names.KIND: names.TEMPORARY})
    world.put(instance_id, START - 7 * DAY, policy="first", listed=False)
    return world


def there(world: PassWorld) -> AccountRegion:
    return world.spoke("", ACCOUNT, REGION)


def wrap(owner: Any, name: str, around: Callable[[Callable[[], Any]], Any]) -> None:
    plain = getattr(owner, name)
    setattr(owner, name, lambda *given, **more: around(lambda: plain(*given, **more)))


def crashing_pass(die_at: int | None, *, after: bool) -> tuple[PassWorld, int]:
    """A pass whose function dies at one call, before or after it took effect; and how many calls it makes."""
    world = moved_world()
    made = 0

    def counted(call: Callable[[], Any]) -> Any:
        nonlocal made
        made += 1
        mine = made
        if mine == die_at and not after:
            raise Crash
        result = call()
        if mine == die_at:
            raise Crash
        return result

    for name in ("tag_snapshot", "untag_snapshot", "delete_snapshot", "find_snapshots", "read_snapshots"):
        wrap(there(world), name, counted)
    for name in ("write_part", "write_session", "begin_session", "add_point", "remove_point"):
        wrap(world.catalog, name, counted)
    wrap(world.work, "write", counted)
    play_pass(world, FOUR)
    return world, made


def kept(world: PassWorld) -> dict[str, str]:
    """Flags of the snapshots that are left, by day."""
    return {
        one.tags[names.POINT][:8]: one.tags[names.FLAGS]
        for one in there(world).snapshots.values()
        if one.tags[names.KIND] == Kind.SNAPSHOT
    }


EXPECTED = {"20261118": "W", "20261120": "D", "20261121": "D"}


def test_a_pass_that_dies_at_any_call_ends_as_if_it_had_not():
    _, calls = crashing_pass(None, after=False)
    assert calls > 25
    for die_at in range(1, calls + 1):
        for after in (False, True):
            world, _ = crashing_pass(die_at, after=after)
            play_pass(world, FOUR + DAY)
            assert kept(world) == EXPECTED, (die_at, after)
            offered = [one for one in world.catalog.point_records.values() if one.complete]
            assert {one.point_id[:8]: "".join(sorted(one.flags)) for one in offered} == EXPECTED
            snapshots = {found for one in offered for found in one.snapshot_ids.values()}
            assert snapshots == there(world).snapshots.keys()
            assert newest_pass(world).ended_at is not None


def test_no_point_that_is_offered_lacks_a_snapshot_at_any_moment():
    world = moved_world()
    calls = 0

    def checked(call: Callable[[], Any]) -> Any:
        nonlocal calls
        calls += 1
        result = call()
        offered = [one for one in world.catalog.point_records.values() if one.complete]
        missing = [
            one for one in offered if not set(one.snapshot_ids.values()) <= there(world).snapshots.keys()
        ]
        assert missing == []
        return result

    wrap(there(world), "delete_snapshot", checked)
    play_pass(world, FOUR)
    play_pass(world, FOUR + DAY)
    assert calls == 4, "three points and a temporary one"


def test_two_passes_at_once_remove_what_one_would():
    world = moved_world()
    inside = False

    def again(call: Callable[[], Any]) -> Any:
        """The other pass runs from end to end just before this one deletes its first snapshot."""
        nonlocal inside
        if not inside:
            inside = True
            play_pass(world, world.clock.now() + timedelta(seconds=1))
        return call()

    wrap(there(world), "delete_snapshot", again)
    play_pass(world, FOUR)
    play_pass(world, FOUR + DAY)
    assert inside
    assert kept(world) == EXPECTED


@pytest.mark.parametrize("where", ["find_snapshots", "read_snapshots", "delete_snapshot"])
@pytest.mark.parametrize("session_first", [True, False])
def test_a_session_and_a_pass_at_once_remove_what_both_would_one_after_the_other(
    where: str, session_first: bool
):
    """R-NODEL under races: counts that were judged on an older listing never add up to more."""
    world = PassWorld(configured(repository="", **daily(2)))
    instance_id = world.add_instance()
    for age in (4, 3, 2, 1):
        world.put(instance_id, START - age * DAY)
    world.clock.current = FOUR
    inside = False

    def session() -> None:
        world.put(instance_id, START + timedelta(hours=20))
        apply_retention(ApplyRetention.model_validate(event(instance_id)), world)

    def other(call: Callable[[], Any]) -> Any:
        nonlocal inside
        if not inside:
            inside = True
            play_pass(world) if session_first else session()
        return call()

    wrap(there(world), where, other)
    session() if session_first else play_pass(world)
    assert inside
    days = sorted(one.tags[names.POINT][:8] for one in there(world).snapshots.values())
    assert days[-2:] == ["20261121", "20261123"]
    play_pass(world, FOUR + timedelta(hours=1))
    assert sorted(one.tags[names.POINT][:8] for one in there(world).snapshots.values()) == days[-2:]


def test_a_snapshot_that_became_another_kind_after_the_verdict_stays():
    world = moved_world()
    spoke = there(world)
    before = set(spoke.snapshots)

    def keep_by_hand() -> None:
        for one in spoke.snapshots.values():
            one.tags[names.KIND] = names.MANUAL

    spoke.faults["read_snapshots"] = [keep_by_hand]
    assert play_pass(world, FOUR)["state"] == "Warning"
    assert set(spoke.snapshots) == before


def test_a_retention_event_that_is_delivered_twice_starts_one_pass():
    world = moved_world()
    answers = [start_retention(StartRetention(scheduled_at=FOUR), world) for _ in range(2)]
    assert answers == [
        {"name": "20261123T040000Z-daily", "started": True},
        {"name": "20261123T040000Z-daily", "started": False},
    ]
    ((machine, given),) = world.executions(REGION).started.values()
    assert (machine, given) == (
        "arn:aws:states:eu-central-1:999999999999:stateMachine:holdfast-retention",
        {},
    )


def test_a_pass_without_a_plan_leaves_a_record():
    world = moved_world()
    with pytest.raises(NotFoundError):
        world.catalog.read_session("retention-1")
    world.configuration = two_policies(first=daily(5), second=daily(2))
    assert play_pass(world, FOUR, policy="nobody")["broken"] is True
    assert newest_pass(world).ended_at == world.clock.now()
    assert POLICY not in {one.policy for one in world.catalog.session_records.values()}


def test_however_much_went_wrong_the_message_fits_into_a_topic():
    world = moved_world()
    for number in range(2, 202):
        world.put(world.add_instance(number), START - 3 * DAY, "x" * 9, policy="first", account=ACCOUNT)
    for one in there(world).snapshots.values():
        one.tags[names.FLAGS] = "edited by hand"
    play_pass(world, FOUR)
    play_pass(world, FOUR + DAY)
    (_, subject, text, document) = world.notifier.notices[-1]
    assert subject == "[Warning] Retention: 101 issues"
    assert problems(world)["More"].message.startswith("107 more problems of account")
    assert text.splitlines()[-1].startswith("All ")
    assert len(json.dumps(document)) + len(text) < 60_000
