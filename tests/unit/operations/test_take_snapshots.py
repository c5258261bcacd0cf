"""One set of snapshots per restore point, whatever happens to the calls that make it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from holdfast.errors import (
    AccessDeniedError,
    ConfigurationError,
    PermanentError,
    SourceGoneError,
    ThrottledError,
    UnavailableError,
)
from holdfast.model import tags as names
from holdfast.model.restore_point import Flag, Kind
from holdfast.operations.sessions.check_snapshots import CheckSnapshots, check_snapshots
from holdfast.operations.sessions.take_snapshots import TakeSnapshots, take_snapshots
from tests.session_world import ACCOUNT, POLICY, REGION, START, AccountRegion, SessionWorld, configured


def event(instance_id: str, **more: Any) -> dict[str, Any]:
    return {
        "session_id": "20261122T070000Z-daily-1",
        "policy": POLICY,
        "slot": START,
        "snapshot_flags": "D",
        "region": REGION,
        "account": ACCOUNT,
        "instance_id": instance_id,
        "instance_name": "web",
        **more,
    }


def take(world: SessionWorld, instance_id: str, **more: Any) -> dict[str, Any]:
    return take_snapshots(TakeSnapshots.model_validate(event(instance_id, **more)), world)


def check(world: SessionWorld, instance_id: str, taken: dict[str, Any], **more: Any) -> dict[str, Any]:
    return check_snapshots(CheckSnapshots.model_validate({**event(instance_id), **taken, **more}), world)


def there(world: SessionWorld) -> AccountRegion:
    return world.spoke(POLICY, ACCOUNT, REGION)


def created(world: SessionWorld) -> int:
    return sum(operation == "create_snapshots" for operation, _ in there(world).calls)


def test_all_volumes_are_taken_in_one_call_with_their_tags():
    world = SessionWorld(configured(tags={"custom": {"team": "shop", names.POLICY: "forged"}}))
    instance_id = world.add_instance(sizes=(8, 20))
    taken = take(world, instance_id)
    assert created(world) == 1
    assert [one["device"] for one in taken["snapshots"]] == ["/dev/xvda", "/dev/sdb"]
    tags = there(world).snapshots[taken["snapshots"][1]["snapshot_id"]].tags
    assert tags == {
        "Name": "web 2026-11-22 07:00Z",
        "team": "shop",
        names.INSTALLATION: "holdfast",
        names.POLICY: POLICY,
        names.SESSION: "20261122T070000Z-daily-1",
        names.POINT: taken["point_id"],
        names.INSTANCE: instance_id,
        names.SLOT: "20261122T070000Z",
        names.FLAGS: "D",
        names.KIND: "snapshot",
        names.VOLUMES: "2",
        names.SET: tags[names.SET],
        names.VOLUME: world.volumes(instance_id)[1].volume_id,
        names.DEVICE: "/dev/sdb",
    }


def test_a_repeated_step_finds_the_set_that_it_made():
    world = SessionWorld()
    instance_id = world.add_instance(sizes=(1, 1))
    assert take(world, instance_id) == take(world, instance_id)
    assert created(world) == 1


def test_a_lost_answer_makes_no_second_set():
    world = SessionWorld()
    instance_id = world.add_instance(sizes=(1, 1))
    there(world).answers_lost, world.unanswered = 1, UnavailableError("no answer")
    there(world).lag = timedelta(seconds=90)
    with pytest.raises(UnavailableError):
        take(world, instance_id)
    world.clock.advance(timedelta(seconds=30))
    with pytest.raises(UnavailableError, match="whether it made some"):
        take(world, instance_id)
    world.clock.advance(timedelta(seconds=70))
    assert len(take(world, instance_id)["snapshots"]) == 2
    assert created(world) == 1


def test_a_call_that_made_nothing_is_repeated_once_that_is_sure():
    world = SessionWorld()
    instance_id = world.add_instance()
    there(world).faults["create_snapshots"] = [UnavailableError("no answer")]
    with pytest.raises(UnavailableError):
        take(world, instance_id)
    world.clock.advance(timedelta(minutes=2))
    assert len(take(world, instance_id)["snapshots"]) == 1


def test_a_refused_call_is_repeated_without_waiting():
    world = SessionWorld()
    instance_id = world.add_instance()
    there(world).faults["create_snapshots"] = [AccessDeniedError("not yet")]
    with pytest.raises(AccessDeniedError):
        take(world, instance_id)
    assert len(take(world, instance_id)["snapshots"]) == 1


def test_a_full_quota_is_waited_for():
    world = SessionWorld()
    instance_id = world.add_instance()
    there(world).faults["create_snapshots"] = [ThrottledError("PendingSnapshotLimitExceeded")]
    assert take(world, instance_id) == {"waiting": True, "wait_seconds": 60}
    assert len(take(world, instance_id)["snapshots"]) == 1


def test_a_quota_that_stays_full_for_a_day_is_told():
    world = SessionWorld()
    instance_id = world.add_instance()
    there(world).faults["create_snapshots"] = [ThrottledError("PendingSnapshotLimitExceeded")]
    world.clock.advance(timedelta(hours=21))
    with pytest.raises(PermanentError, match="PendingSnapshotLimitExceeded"):
        take(world, instance_id)


def test_excluded_volumes_are_left_out():
    world = SessionWorld(configured(exclude_volumes={"system_volumes": True, "tags": [{"key": "scratch"}]}))
    instance_id = world.add_instance(sizes=(1, 2, 3))
    root, data, _ = world.volumes(instance_id)
    there(world).machines[instance_id] = with_tags(world, instance_id, 2, {"scratch": "1"})
    taken = take(world, instance_id)
    assert [one["volume_id"] for one in taken["snapshots"]] == [data.volume_id]
    assert taken["warnings"] == []
    assert root.volume_id not in {one.volume_id for one in there(world).snapshots.values()}


def with_tags(world: SessionWorld, instance_id: str, number: int, tags: dict[str, str]):
    machine = there(world).machines[instance_id]
    volumes = list(machine.instance.volumes)
    volumes[number] = volumes[number].model_copy(update={"tags": tags})
    instance = machine.instance.model_copy(update={"volumes": tuple(volumes)})
    return machine.model_copy(update={"instance": instance})


def test_an_instance_whose_volumes_are_all_excluded_is_a_configuration_error():
    world = SessionWorld(configured(exclude_volumes={"system_volumes": True}))
    instance_id = world.add_instance(sizes=(1,))
    with pytest.raises(ConfigurationError, match="no volume"):
        take(world, instance_id)


def test_tags_of_volumes_are_copied_but_never_ours():
    world = SessionWorld(configured(tags={"copy_from_volumes": True}))
    instance_id = world.add_instance(
        volume_tags={"data": "orders", names.BASE: "main", names.KEEP_UNTIL: "x"}
    )
    (snapshot,) = take(world, instance_id)["snapshots"]
    tags = there(world).snapshots[snapshot["snapshot_id"]].tags
    assert tags["data"] == "orders"
    assert names.BASE not in tags
    assert names.KEEP_UNTIL not in tags


def test_more_tags_than_fit_never_push_ours_out():
    world = SessionWorld(configured(tags={"copy_from_volumes": True}))
    instance_id = world.add_instance(
        sizes=(1, 1), volume_tags={f"key{number:02}": "v" for number in range(50)}
    )
    for snapshot in take(world, instance_id)["snapshots"]:
        tags = there(world).snapshots[snapshot["snapshot_id"]].tags
        assert len(tags) == 50
        assert tags[names.VOLUME] == snapshot["volume_id"]


def test_an_instance_that_is_gone_is_told_and_nothing_is_made():
    world = SessionWorld()
    with pytest.raises(SourceGoneError):
        take(world, "i-0123456789abcdef0")
    assert there(world).snapshots == {}


def test_a_volume_that_goes_away_while_asking_is_tried_again_with_what_is_left():
    world = SessionWorld()
    instance_id = world.add_instance(sizes=(1, 1))
    there(world).faults["create_snapshots"] = [SourceGoneError("InvalidVolume.NotFound")]
    with pytest.raises(UnavailableError, match="volumes changed"):
        take(world, instance_id)
    there(world).machines[instance_id] = without_last_volume(world, instance_id)
    assert len(take(world, instance_id)["snapshots"]) == 1


def without_last_volume(world: SessionWorld, instance_id: str):
    machine = there(world).machines[instance_id]
    volumes = machine.instance.volumes[:-1]
    return machine.model_copy(update={"instance": machine.instance.model_copy(update={"volumes": volumes})})


def test_a_volume_detached_between_describing_and_taking_is_a_warning():
    world = SessionWorld()
    instance_id = world.add_instance(sizes=(1, 1))
    gone = world.volumes(instance_id)[1].volume_id
    smaller = without_last_volume(world, instance_id)
    there(world).faults["create_snapshots"] = [lambda: there(world).machines.update({instance_id: smaller})]
    taken = take(world, instance_id)
    assert taken["warnings"] == [
        f"{gone} was detached while the snapshots were taken; it is not in the restore point."
    ]
    check(world, instance_id, taken)
    assert [len(point.snapshot_ids) for point in world.catalog.points(instance_id)] == [1]


def test_a_volume_attached_between_describing_and_taking_is_in_the_restore_point():
    world = SessionWorld()
    instance_id = world.add_instance(sizes=(1, 1))
    larger = there(world).machines[instance_id]
    new = world.volumes(instance_id)[1].volume_id
    there(world).machines[instance_id] = without_last_volume(world, instance_id)
    there(world).faults["create_snapshots"] = [lambda: there(world).machines.update({instance_id: larger})]
    taken = take(world, instance_id)
    assert taken["warnings"] == [
        f"{new} was attached while the snapshots were taken; its device is not known."
    ]
    check(world, instance_id, taken)
    assert [len(point.snapshot_ids) for point in world.catalog.points(instance_id)] == [2]


def test_a_new_snapshot_that_cannot_be_tagged_yet_is_tried_again():
    world = SessionWorld()
    instance_id = world.add_instance(sizes=(1, 1))
    there(world).faults["tag_snapshot"] = [SourceGoneError("InvalidSnapshot.NotFound")]
    with pytest.raises(UnavailableError, match="not to be seen"):
        take(world, instance_id)
    snapshot, _ = take(world, instance_id)["snapshots"]
    assert there(world).snapshots[snapshot["snapshot_id"]].tags[names.VOLUME] == snapshot["volume_id"]
    world.clock.advance(timedelta(minutes=3))
    del there(world).snapshots[snapshot["snapshot_id"]].tags[names.VOLUME]
    there(world).faults["tag_snapshot"] = [SourceGoneError("InvalidSnapshot.NotFound")]
    with pytest.raises(SourceGoneError):
        take(world, instance_id)


def test_missing_permission_is_told_as_it_is():
    world = SessionWorld()
    instance_id = world.add_instance()
    there(world).faults["create_snapshots"] = [AccessDeniedError("denied ec2:CreateSnapshots")]
    with pytest.raises(AccessDeniedError, match="CreateSnapshots"):
        take(world, instance_id)


def test_a_set_with_a_failed_snapshot_is_removed_and_taken_anew():
    world = SessionWorld()
    instance_id = world.add_instance(sizes=(1, 1))
    there(world).fates[world.volumes(instance_id)[1].volume_id] = "error"
    broken = {one["snapshot_id"] for one in take(world, instance_id)["snapshots"]}
    there(world).fates.clear()
    world.clock.advance(timedelta(minutes=5))
    fresh = {one["snapshot_id"] for one in take(world, instance_id)["snapshots"]}
    assert fresh.isdisjoint(broken)
    assert set(there(world).snapshots) == fresh
    recorded = [part for _, part in world.catalog.part_records if part.startswith("removal/")]
    assert len(recorded) == 1


def test_a_set_that_is_only_partly_visible_is_waited_for():
    world = SessionWorld()
    instance_id = world.add_instance(sizes=(1, 1))
    taken = take(world, instance_id)
    hidden = there(world).snapshots.pop(taken["snapshots"][1]["snapshot_id"])
    with pytest.raises(UnavailableError, match="not visible as a whole"):
        take(world, instance_id)
    there(world).snapshots[hidden.snapshot_id] = hidden
    assert take(world, instance_id) == taken


def test_a_set_is_no_restore_point_while_a_snapshot_is_pending():
    world = SessionWorld()
    instance_id = world.add_instance(sizes=(1, 1))
    there(world).pending = True
    taken = take(world, instance_id)
    assert check(world, instance_id, taken) == {"pending": True, "wait_seconds": 5, "polls": 1}
    assert list(world.catalog.points(instance_id)) == []
    assert check(world, instance_id, taken, polls=6)["wait_seconds"] == 120


def test_a_complete_set_is_listed_with_the_configuration_of_its_moment():
    world = SessionWorld()
    instance_id = world.add_instance(sizes=(1, 2))
    taken = take(world, instance_id)
    there(world).machines.clear()
    assert check(world, instance_id, taken)["pending"] is False
    (point,) = world.catalog.points(instance_id)
    assert (point.kind, point.flags, point.complete) == (Kind.SNAPSHOT, frozenset({Flag.DAILY}), True)
    assert point.snapshot_ids == {one["volume_id"]: one["snapshot_id"] for one in taken["snapshots"]}
    assert world.catalog.configuration(instance_id, point.point_id).user_data == "#!/bin/sh\n"


def test_a_snapshot_that_ends_in_error_fails_the_instance_with_the_reason():
    world = SessionWorld()
    instance_id = world.add_instance()
    taken = take(world, instance_id)
    snapshot = there(world).snapshots[taken["snapshots"][0]["snapshot_id"]]
    snapshot.state, snapshot.reason = "error", "Given key ID is not accessible"
    with pytest.raises(PermanentError, match="Given key ID is not accessible"):
        check(world, instance_id, taken)
    assert list(world.catalog.points(instance_id)) == []


def test_a_snapshot_deleted_by_somebody_else_is_told():
    world = SessionWorld()
    instance_id = world.add_instance()
    taken = take(world, instance_id)
    there(world).snapshots.clear()
    with pytest.raises(UnavailableError, match="not to be seen"):
        check(world, instance_id, taken)
    world.clock.advance(timedelta(minutes=2))
    with pytest.raises(SourceGoneError):
        check(world, instance_id, taken)


def test_a_set_whose_tags_were_taken_away_is_never_listed():
    world = SessionWorld()
    instance_id = world.add_instance()
    taken = take(world, instance_id)
    del there(world).snapshots[taken["snapshots"][0]["snapshot_id"]].tags[names.INSTALLATION]
    with pytest.raises(PermanentError, match="tags"):
        check(world, instance_id, taken)
    assert list(world.catalog.points(instance_id)) == []


def test_what_is_left_of_a_broken_set_never_becomes_part_of_the_next_one():
    world = SessionWorld()
    instance_id = world.add_instance(sizes=(1, 1))
    there(world).fates[world.volumes(instance_id)[1].volume_id] = "error"
    first = take(world, instance_id)
    there(world).fates.clear()
    world.clock.advance(timedelta(minutes=30))
    there(world).faults["delete_snapshot"] = [AccessDeniedError("denied ec2:DeleteSnapshot")] * 2
    second = take(world, instance_id)
    assert {one["snapshot_id"] for one in second["snapshots"]}.isdisjoint(
        one["snapshot_id"] for one in first["snapshots"]
    )
    assert len(second["warnings"]) == 2
    assert "denied ec2:DeleteSnapshot" in second["warnings"][0]
    check(world, instance_id, second)
    (point,) = world.catalog.points(instance_id)
    assert len({there(world).snapshots[one].started_at for one in point.snapshot_ids.values()}) == 1
