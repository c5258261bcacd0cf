"""What the catalog lost comes back from tags alone: manual snapshots and copies, and whose a replica is."""

from __future__ import annotations

from datetime import timedelta

import pytest

from holdfast.errors import AccessDeniedError
from holdfast.model import tags as names
from holdfast.model.ids import stamp
from holdfast.model.restore_point import Kind
from holdfast.operations.manual.manual_snapshot import SESSION
from holdfast.operations.retention.retention_in_force import confirm, obsolete_in_force, waiting
from tests.retention_play import PassWorld, play_pass, problems, two_policies
from tests.session_world import ACCOUNT, REGION, START, configured

DAY = timedelta(days=1)
FOUR = START.replace(hour=4) + DAY
BY_HAND = {names.KIND: names.MANUAL}


def a_world() -> tuple[PassWorld, str]:
    world = PassWorld(configured(repository="", daily={"snapshots": {"hours": [7], "keep": 2}}))
    return world, world.add_instance()


def recovered(world: PassWorld) -> int:
    return int(play_pass(world, FOUR)["recovered"])


def test_a_manual_snapshot_is_listed_again_with_the_day_on_which_it_is_due():
    world, instance_id = a_world()
    until = {names.KEEP_UNTIL: stamp(START + 5 * DAY)}
    snapshot_id = world.put(instance_id, START - 3 * DAY, "", policy="", listed=False, **BY_HAND, **until)
    assert recovered(world) == 1
    (point,) = world.catalog.points(instance_id)
    assert (point.manual, point.keep_until, point.policy) == (True, START + 5 * DAY, "")
    assert list(point.snapshot_ids.values()) == [snapshot_id]
    ((part, body),) = world.catalog.parts(SESSION, "expiry/")
    assert part.startswith(f"expiry/{stamp(START + 5 * DAY)}/")
    assert body["role"] == "production"
    assert recovered(world) == 0


def test_a_copy_of_a_manual_snapshot_is_listed_again_where_it_lies():
    world, instance_id = a_world()
    world.put(instance_id, START - 3 * DAY, "", policy="", listed=False, kind=Kind.REPLICA)
    assert recovered(world) == 1
    (point,) = world.catalog.points(instance_id, Kind.REPLICA)
    assert (point.manual, point.taken_at) == (True, START - 3 * DAY)


@pytest.mark.parametrize("why", ["due", "young", "in error", "half", "of another installation"])
def test_what_is_about_to_go_or_is_not_whole_is_not_listed(why: str):
    world, instance_id = a_world()
    tags = {
        "due": {names.KEEP_UNTIL: stamp(START - DAY)},
        "half": {names.VOLUMES: "2"},
        "of another installation": {names.INSTALLATION: "holdfast-2"},
    }.get(why, {})
    taken_at = START + timedelta(hours=9) if why == "young" else START - 3 * DAY
    snapshot_id = world.put(instance_id, taken_at, "", policy="", listed=False, **BY_HAND, **tags)
    if why == "in error":
        world.spoke("", ACCOUNT, REGION).snapshots[snapshot_id].state = "error"
    assert recovered(world) == 0
    assert list(world.catalog.points(instance_id)) == []
    assert snapshot_id in world.spoke("", ACCOUNT, REGION).snapshots


def test_what_was_deleted_since_the_listing_is_not_listed():
    world, instance_id = a_world()
    world.put(instance_id, START - 3 * DAY, "", policy="", listed=False, **BY_HAND)
    spoke = world.spoke("", ACCOUNT, REGION)
    spoke.faults["read_snapshots"] = [spoke.snapshots.clear]
    assert recovered(world) == 0
    assert list(world.catalog.points(instance_id)) == []


@pytest.mark.parametrize("known", [True, False])
def test_whose_a_replica_is_follows_from_other_points_when_its_tags_do_not_say(known: bool):
    vault = "444444444444"
    replicas = {"snapshots": {"hours": [7], "keep": 9}, "replicas": {"hours": [7], "keep": 1}}
    world = PassWorld(
        two_policies(
            first={"daily": replicas},
            second={"daily": replicas},
            obsolete_snapshots={"mode": "after", "days": 15},
        )
    )
    instance_id = world.add_instance(tags={"backup": "first"})
    if known:
        world.put(instance_id, START - DAY, policy="first")
    for age in (30, 3):
        world.put(instance_id, START - age * DAY, policy="first", account=vault, kind=Kind.REPLICA)
    play_pass(world, FOUR)
    assert world.left(vault) == (["11-19"] if known else ["10-23", "11-19"])
    assert ("NotJudged" in problems(world)) is not known


def test_replicas_are_judged_by_the_owner_of_the_instance_they_are_copies_of():
    vault = "444444444444"
    replicas = {"daily": {"snapshots": {"hours": [7], "keep": 9}, "replicas": {"hours": [7], "keep": 2}}}
    world = PassWorld(
        two_policies(first=replicas, second={"daily": {"snapshots": {"hours": [7], "keep": 1}}})
    )
    instance_id = world.add_instance(tags={"backup": "first"})
    world.put(instance_id, START - DAY, policy="first")
    for age in (5, 4, 3):
        source = {names.SOURCE: f"{ACCOUNT}/{REGION}/snap-1"}
        taken = START - age * DAY
        world.put(instance_id, taken, policy="first", account=vault, kind=Kind.REPLICA, **source)
    play_pass(world, FOUR + DAY)
    assert (len(world.left()), world.left(vault)) == (1, ["11-18", "11-19"])


def test_replicas_of_an_instance_whose_account_cannot_be_read_stay():
    vault = "444444444444"
    world = PassWorld(
        two_policies(
            first={"daily": {"snapshots": {"hours": [7], "keep": 1}}},
            second={"daily": {"snapshots": {"hours": [7], "keep": 1}}},
            obsolete_snapshots={"mode": "after", "days": 15},
        )
    )
    obsolete_in_force(world)
    for found in waiting("obsolete", world.catalog):
        confirm(found, "somebody", world.clock.now(), world.catalog)
    instance_id = world.add_instance(tags={"backup": "first"})
    source = {names.SOURCE: f"{ACCOUNT}/{REGION}/snap-1"}
    world.put(instance_id, START - 5 * DAY, policy="first", account=vault, kind=Kind.REPLICA, **source)
    world.closed[ACCOUNT, REGION] = AccessDeniedError("denied")
    done = play_pass(world, START + 100 * DAY)
    assert (world.left(vault), done["state"]) == (["11-17"], "Warning")
