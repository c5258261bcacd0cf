"""Tags that somebody else wrote never make Holdfast remove what it would have kept."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from holdfast.model import tags as names
from holdfast.model.ids import stamp
from holdfast.model.restore_point import Kind
from holdfast.operations.retention.retention_in_force import confirm, obsolete_in_force, waiting
from holdfast.operations.sessions.conclude_instance import ConcludeInstance, conclude_instance
from holdfast.operations.sessions.take_snapshots import TakeSnapshots, take_snapshots
from tests.retention_play import PassWorld, play_pass, problems, two_policies
from tests.session_play import step
from tests.session_world import ACCOUNT, POLICY, REGION, START, SessionWorld
from tests.unit.operations.test_take_snapshots import event

DAY = timedelta(days=1)
FOUR = START.replace(hour=4) + DAY
VAULT = "444444444444"
FOREIGN = "666666666666"
OBSOLETE = {"mode": "after", "days": 15}


def daily(keep: int, **more: Any) -> dict[str, Any]:
    return {"daily": {"snapshots": {"hours": [7], "keep": keep}, **more}}


def confirm_obsolete(world: PassWorld) -> None:
    obsolete_in_force(world)
    for found in waiting("obsolete", world.catalog):
        confirm(found, "somebody", world.clock.now(), world.catalog)


def replicating(**parts: Any) -> PassWorld:
    """Three replicas, in an account of their own, of an instance whose policy keeps nine."""
    first = daily(9, replicas={"hours": [7], "keep": 9})
    configuration = two_policies(first=first, second=daily(1), obsolete_snapshots=OBSOLETE, **parts)
    world = PassWorld(configuration)
    confirm_obsolete(world)
    instance_id = world.add_instance(tags={"backup": "first"})
    for age in (5, 4, 3):
        world.put(
            instance_id,
            START - age * DAY,
            policy="first",
            account=VAULT,
            kind=Kind.REPLICA,
            **{names.SOURCE: f"{ACCOUNT}/{REGION}/snap-1"},
        )
    return world


def newest(world: PassWorld, account: str = ACCOUNT) -> dict[str, str]:
    """The tags of the newest snapshot of an account."""
    found = max(world.spoke("", account, REGION).snapshots.values(), key=lambda one: one.tags[names.POINT])
    return found.tags


@pytest.mark.parametrize("forged", [f"{FOREIGN}/{REGION}/snap-1", f"{ACCOUNT}/eu-north-1/snap-1"])
def test_a_replica_that_names_another_source_makes_no_replica_obsolete(forged: str):
    world = replicating()
    newest(world, VAULT)[names.SOURCE] = forged
    done = play_pass(world, START + 60 * DAY)
    assert (world.left(VAULT), done["state"]) == (["11-17", "11-18", "11-19"], "Warning")
    assert "NotJudged" in problems(world)


def test_a_replica_never_leads_into_an_account_that_is_in_no_scope():
    world = replicating()
    for one in world.spoke("", VAULT, REGION).snapshots.values():
        one.tags[names.SOURCE] = f"{FOREIGN}/{REGION}/snap-1"
    play_pass(world, START + 60 * DAY)
    assert FOREIGN not in world.entered
    assert world.left(VAULT) == ["11-17", "11-18", "11-19"]


@pytest.mark.parametrize(
    "forged",
    [{names.KIND: names.TEMPORARY}, {names.KEEP_UNTIL: stamp(START - 90 * DAY)}],
    ids=["temporary", "lapsed"],
)
def test_the_newest_point_stays_whatever_its_tags_say_of_its_time(forged: dict[str, str]):
    world = PassWorld(two_policies(first=daily(2), second=daily(1)))
    instance_id = world.add_instance(tags={"backup": "first"})
    world.put(instance_id, START - 3 * DAY, "", policy="first")
    newest(world).update(forged)
    play_pass(world, FOUR)
    assert world.left() == ["11-19"]


def test_a_snapshot_that_is_said_to_be_of_another_instance_is_no_point_of_it():
    world = PassWorld(two_policies(first=daily(2), second=daily(1)))
    one = world.add_instance(tags={"backup": "first"})
    other = world.add_instance(2, tags={"backup": "first"})
    for age in (5, 4):
        world.put(one, START - age * DAY, policy="first")
    for age in (3, 2):
        snapshot_id = world.put(other, START - age * DAY, policy="first")
        world.spoke("", ACCOUNT, REGION).snapshots[snapshot_id].tags[names.INSTANCE] = one
    play_pass(world, FOUR)
    play_pass(world, FOUR + DAY)
    assert world.left() == ["11-17", "11-18", "11-19", "11-20"]


def test_what_another_tool_copied_with_all_our_tags_is_neither_judged_nor_counted():
    world = PassWorld(two_policies(first=daily(2), second=daily(1), obsolete_snapshots=OBSOLETE))
    confirm_obsolete(world)
    instance_id = world.add_instance(tags={"backup": "first"})
    for age in (90, 89):
        world.put(instance_id, START - age * DAY, policy="first")
    here = world.spoke("", ACCOUNT, REGION)
    before = [*here.snapshots.values()]
    for number, one in enumerate(before):
        copy = replace(one, snapshot_id=f"snap-c{number}", volume_id="vol-ffffffff", tags=dict(one.tags))
        here.snapshots[copy.snapshot_id] = copy
    done = play_pass(world, FOUR)
    assert (len(world.left()), done["state"], done["kept"]) == (4, "Success", 2)


@pytest.mark.parametrize("made_by", ["", "second"])
def test_a_point_that_is_said_to_be_of_another_policy_stays(made_by: str):
    """A manual snapshot, which no policy made, and one of another policy."""
    world = PassWorld(two_policies(first=daily(2), second=daily(1)))
    instance_id = world.add_instance(tags={"backup": "first"})
    for age in (5, 4):
        world.put(instance_id, START - age * DAY, policy="first")
    oldest = world.put(instance_id, START - 9 * DAY, "", policy=made_by)
    world.spoke("", ACCOUNT, REGION).snapshots[oldest].tags[names.POLICY] = "first"
    play_pass(world, FOUR)
    play_pass(world, FOUR + DAY)
    assert "11-13" in world.left()


def test_a_set_that_was_there_before_its_session_is_not_taken_for_its_restore_point():
    """Ids of restore points can be foretold: old content under the tags of tomorrow is no restore point."""
    world = SessionWorld()
    instance_id = world.add_instance(sizes=(1, 2))
    here = world.spoke(POLICY, ACCOUNT, REGION)
    first = step(TakeSnapshots, take_snapshots, event(instance_id), world)
    for one in [*here.snapshots.values()]:
        forged = one.snapshot_id.replace("snap-0", "snap-f")
        old = replace(one, snapshot_id=forged, started_at=START - DAY, state="completed")
        here.snapshots = {**here.snapshots, forged: old}
        del here.snapshots[one.snapshot_id]
    world.catalog.part_records.clear()
    taken = step(TakeSnapshots, take_snapshots, event(instance_id), world)
    own = {one["snapshot_id"] for one in taken["snapshots"]}
    assert first["point_id"] == taken["point_id"]
    assert len(own) == 2
    assert {here.snapshots[snapshot_id].started_at for snapshot_id in own} == {START}
    failed = {**event(instance_id), "error": {"Error": "PermanentError", "Cause": "refused"}}
    step(ConcludeInstance, conclude_instance, failed, world)
    assert own <= here.snapshots.keys()


def test_flags_that_somebody_added_push_out_no_point_that_earned_them():
    monthly = {"monthly": {"snapshots": {"keep": 1}}}
    world = PassWorld(two_policies(first={**daily(3), **monthly}, second=daily(1)))
    instance_id = world.add_instance(tags={"backup": "first"})
    world.put(instance_id, START.replace(day=1), "M", policy="first")
    for age in (5, 4, 3):
        world.put(instance_id, START - age * DAY, policy="first")
    newest(world)[names.FLAGS] = "DM"
    done = play_pass(world, FOUR)
    assert (world.left(), done["state"]) == (["11-01", "11-17", "11-18", "11-19"], "Warning")
    assert "FlagsChanged" in problems(world)


def test_a_flag_that_somebody_added_is_not_taken_off_while_the_point_is_in_use():
    world = PassWorld(two_policies(first=daily(1), second=daily(1)))
    instance_id = world.add_instance(tags={"backup": "first"})
    edited = world.put(instance_id, START - 5 * DAY, policy="first", **{names.IN_USE: stamp(START)})
    world.put(instance_id, START - 4 * DAY, policy="first")
    tags = world.spoke("", ACCOUNT, REGION).snapshots[edited].tags
    tags[names.FLAGS] = "DM"
    play_pass(world, FOUR)
    assert tags[names.FLAGS] == "DM"
    del tags[names.IN_USE]
    play_pass(world, FOUR + DAY)
    assert world.left() == world.listed == ["11-17", "11-18"]
    assert "FlagsChanged" in problems(world)
