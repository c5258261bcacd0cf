"""Restores of volumes, step by step: what is planned, what is refused, what is left and what is removed."""

from __future__ import annotations

from typing import Any

import pytest

from holdfast.edge import parse
from holdfast.errors import (
    AccessDeniedError,
    ConfigurationError,
    ConflictError,
    DamagedError,
    KeyUnavailableError,
    NotFoundError,
    PermanentError,
    SourceGoneError,
    UnavailableError,
)
from holdfast.model import tags as names
from holdfast.model.blocks import SEGMENT_BLOCKS
from holdfast.model.restore import RestorePlan, RestoreRequest
from holdfast.model.restore_point import Kind, RestorePoint
from holdfast.operations.restores.plan_restore import plan_restore
from holdfast.operations.restores.restore_segment import RestoreSegment, restore_segment
from holdfast.operations.restores.restore_volumes import (
    Abandonment,
    abandon_restore,
    check_restore,
    complete_restore,
    create_volumes,
    finish_restore,
)
from tests.repository_builders import block
from tests.restore_world import POINT, RestoreWorld
from tests.session_world import ACCOUNT, INSTALLATION, REGION, REPOSITORY, Snapshot

ROOT = {0: block("boot"), 5: block("kernel", compressible=True), 2000: block("data")}
KEY = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/mine"
DATA = {7: block("table")}


def asked(instance_id: str, **changes: Any) -> dict[str, Any]:
    """The event of a restore of volumes from the backup in the repository."""
    target = {"account": ACCOUNT, "region": REGION, "availability_zone": f"{REGION}a"}
    return {
        "restore_id": "restore-1",
        "kind": "volume",
        "instance_id": instance_id,
        "point_id": POINT,
        "repository": REPOSITORY,
        "target": target | changes.pop("target", {}),
        **changes,
    }


def merged(changes: dict[str, Any]) -> dict[str, Any]:
    """Changes of an event whose target is a change of the default target."""
    return {**changes, **({"target": asked("", **changes)["target"]} if "target" in changes else {})}


def backed_up(world: RestoreWorld, **instance: Any) -> str:
    """An instance of two volumes with a backup; its id."""
    instance_id = world.add_instance(sizes=(1, 2), volume_tags={"owner": "web"}, **instance)
    world.back_up(instance_id, {"/dev/xvda": ROOT, "/dev/sdb": DATA})
    return instance_id


def planned(world: RestoreWorld, event: dict[str, Any]) -> RestorePlan:
    return RestorePlan.model_validate(plan_restore(parse(RestoreRequest, event), world))


def move(world: RestoreWorld, plan: RestorePlan) -> None:
    """Every segment to its end, as the state machine's map does."""
    for item in world.work.read(plan.items_key):
        done = restore_segment(RestoreSegment(**item), world)
        assert done["done"]


def restored(world: RestoreWorld, event: dict[str, Any]) -> RestorePlan:
    """A whole restore of volumes."""
    plan = planned(world, event)
    move(world, plan)
    complete_restore(plan, world)
    assert check_restore(plan, world) == {"ready": True}
    plan = RestorePlan.model_validate(create_volumes(plan, world))
    return RestorePlan.model_validate(finish_restore(plan, world))


def with_snapshot(world: RestoreWorld, instance_id: str, **changes: Any) -> RestorePoint:
    """A cloud-native snapshot of an instance, in its account and in the catalog."""
    made = world.home.create_snapshots(
        instance_id,
        exclude_root=False,
        exclude_volumes=(),
        tags={names.INSTALLATION: INSTALLATION, names.POINT: POINT},
        copy_tags=False,
        description="",
    )
    point = RestorePoint(
        point_id=POINT,
        kind=Kind.SNAPSHOT,
        account=ACCOUNT,
        region=REGION,
        instance_id=instance_id,
        taken_at=world.clock.now(),
        snapshot_ids={one.volume_id: one.snapshot_id for one in made},
    ).model_copy(update=changes)
    world.catalog.add_point(point, world.home.machines[instance_id])
    return point


def test_every_volume_of_a_backup_is_restored_block_by_block() -> None:
    world = RestoreWorld()
    instance_id = backed_up(world)
    plan = restored(world, asked(instance_id))
    assert plan.finished
    volumes = world.restore_site(ACCOUNT, REGION).volumes
    contents = {v.source.device: volumes[v.volume_id]["content"] for v in plan.volumes}
    assert contents == {"/dev/xvda": ROOT, "/dev/sdb": DATA}


def test_a_restored_volume_carries_its_own_tags_and_where_it_came_from() -> None:
    world = RestoreWorld()
    plan = restored(world, asked(backed_up(world), target={"tags": {"owner": "restorer", "case": "7"}}))
    assert world.restore_site(ACCOUNT, REGION).volumes[plan.volumes[0].volume_id]["tags"] == {
        "owner": "restorer",
        "case": "7",
        names.INSTALLATION: INSTALLATION,
        names.POINT: POINT,
        "holdfast:restore": "restore-1",
    }


def test_temporary_snapshots_are_gone_at_the_end() -> None:
    world = RestoreWorld()
    restored(world, asked(backed_up(world)))
    assert world.home.snapshots == {}


def test_only_chosen_volumes_are_restored() -> None:
    world = RestoreWorld()
    instance_id = backed_up(world)
    chosen = world.volumes(instance_id)[1].volume_id
    plan = planned(world, asked(instance_id, volume_ids=[chosen]))
    assert [volume.source.volume_id for volume in plan.volumes] == [chosen]
    assert plan.segment_count == 1


def test_segments_without_blocks_are_not_moved() -> None:
    world = RestoreWorld()
    instance_id = world.add_instance(sizes=(20,))
    world.back_up(instance_id, {"/dev/xvda": {SEGMENT_BLOCKS + 3: block("late")}})
    plan = planned(world, asked(instance_id))
    assert [item["segment"] for item in world.work.read(plan.items_key)] == [1]
    assert restored(world, asked(instance_id)).finished


def test_an_empty_volume_is_restored_without_moving_anything() -> None:
    world = RestoreWorld()
    instance_id = world.add_instance()
    world.back_up(instance_id, {})
    plan = restored(world, asked(instance_id))
    assert (plan.segment_count, plan.finished) == (0, True)


def test_a_worker_out_of_time_goes_on_from_its_cursor() -> None:
    world = RestoreWorld()
    instance_id = world.add_instance()
    content = {index: block(index) for index in range(0, 60, 2)}
    world.back_up(instance_id, {"/dev/xvda": content})
    plan = planned(world, asked(instance_id))
    (item,) = world.work.read(plan.items_key)
    world.seconds_left = 0.0
    stopped = restore_segment(RestoreSegment(**item), world)
    assert not stopped["done"]
    world.seconds_left = float("inf")
    event = {key: value for key, value in stopped.items() if key != "done"}
    assert restore_segment(RestoreSegment(**event), world)["done"]
    complete_restore(plan, world)
    assert world.ebs.snapshots[plan.volumes[0].snapshot_id] == content


def test_a_step_that_is_repeated_makes_nothing_twice() -> None:
    world = RestoreWorld()
    event = asked(backed_up(world))
    first, second = planned(world, event), planned(world, event)
    assert first == second
    move(world, first)
    move(world, second)
    complete_restore(first, world)
    complete_restore(first, world)
    made = RestorePlan.model_validate(create_volumes(first, world))
    assert create_volumes(first, world) == made.model_dump(mode="json")
    assert finish_restore(made, world) == finish_restore(made, world)
    assert len(world.restore_site(ACCOUNT, REGION).volumes) == 2


@pytest.mark.parametrize(
    "target,expected",
    [
        ({}, (False, "")),
        ({"encrypted": True}, (True, "")),
        ({"kms_key_arn": KEY}, (True, KEY)),
    ],
)
def test_new_snapshots_are_encrypted_as_asked(target: dict[str, Any], expected: tuple[bool, str]) -> None:
    world = RestoreWorld()
    plan = planned(world, asked(backed_up(world), target=target))
    writer = world.snapshot_writer(ACCOUNT, REGION)
    assert {writer.encryption[volume.snapshot_id] for volume in plan.volumes} == {expected}


def test_an_unknown_point_is_not_found() -> None:
    world = RestoreWorld()
    with pytest.raises(NotFoundError):
        planned(world, asked(backed_up(world), point_id="20200101T000000Z-000000000000"))


def test_an_unknown_volume_is_named_with_the_known_ones() -> None:
    world = RestoreWorld()
    instance_id = backed_up(world)
    with pytest.raises(NotFoundError, match=r"no volume vol-0000beef; it has vol-0000000100"):
        planned(world, asked(instance_id, volume_ids=["vol-0000beef"]))
    assert world.home.snapshots == {}


@pytest.mark.parametrize(
    "changes,told",
    [
        ({"restore_id": "../../etc"}, "restore_id"),
        ({"instance_id": "i-1'; drop"}, "instance_id"),
        ({"point_id": "../../secrets"}, "point_id"),
        ({"target": {"availability_zone": ""}}, "availability_zone"),
        ({"target": {"availability_zone": "us-east-1a"}}, "not in eu-central-1"),
        ({"target": {"account": "12"}}, "target.account"),
        ({"target": {"tags": {"holdfast:policy": "daily"}}}, "reserved prefix"),
        ({"target": {"tags": {"aws:cloudformation:stack-name": "x"}}}, "reserved prefix"),
        ({"target": {"tags": {"k": "v" * 257}}}, "256"),
        (
            {"target": {"encrypted": False, "kms_key_arn": KEY}},
            "encrypted is false",
        ),
        ({"kind": "image"}, "kind"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_an_event_that_cannot_be_right_is_refused_by_field(changes: dict[str, Any], told: str) -> None:
    world = RestoreWorld()
    with pytest.raises(ConfigurationError, match=told):
        planned(world, asked(backed_up(world)) | merged(changes))


def test_a_block_that_ebs_received_otherwise_fails_the_restore() -> None:
    world = RestoreWorld()
    plan = planned(world, asked(backed_up(world)))
    move(world, plan)
    world.ebs.snapshots[plan.volumes[0].snapshot_id][5] = block("somebody else's")
    with pytest.raises(PermanentError, match="aggregate"):
        complete_restore(plan, world)


def test_a_damaged_pack_fails_its_segment_and_is_named() -> None:
    world = RestoreWorld()
    plan = planned(world, asked(backed_up(world)))
    store = world.stores[REPOSITORY]
    for key in [key for key in store.objects if key.startswith("packs/")]:
        body = bytearray(store.objects[key])
        body[600] ^= 1
        store.objects[key] = bytes(body)
    with pytest.raises(DamagedError) as error:
        move(world, plan)
    assert error.value.resource.startswith("packs/")


@pytest.mark.parametrize(
    "refusal",
    [AccessDeniedError("The role was refused."), KeyUnavailableError("The key is disabled.")],
)
def test_what_refuses_a_new_snapshot_ends_the_plan(refusal: PermanentError) -> None:
    world = RestoreWorld()
    event = asked(backed_up(world))
    world.snapshot_writer(ACCOUNT, REGION).faults["start"] = [refusal]
    with pytest.raises(type(refusal)):
        planned(world, event)


def test_snapshots_are_waited_for() -> None:
    world = RestoreWorld()
    plan = planned(world, asked(backed_up(world)))
    assert check_restore(plan, world) == {"ready": False}


def test_a_snapshot_that_ebs_gave_up_ends_the_restore_with_its_reason() -> None:
    world = RestoreWorld()
    plan = planned(world, asked(backed_up(world)))
    broken = world.home.snapshots[plan.volumes[1].snapshot_id]
    broken.state, broken.reason = "error", "the key was disabled"
    with pytest.raises(PermanentError, match="the key was disabled"):
        check_restore(plan, world)


def test_a_snapshot_that_somebody_deleted_ends_the_restore() -> None:
    world = RestoreWorld()
    plan = planned(world, asked(backed_up(world)))
    del world.home.snapshots[plan.volumes[0].snapshot_id]
    with pytest.raises(SourceGoneError):
        check_restore(plan, world)


def test_volumes_are_waited_for() -> None:
    world = RestoreWorld()
    plan = planned(world, asked(backed_up(world)))
    plan = RestorePlan.model_validate(create_volumes(plan, world))
    world.restore_site(ACCOUNT, REGION).slow = 1
    assert finish_restore(plan, world)["finished"] is False
    assert len(world.home.snapshots) == 2
    assert finish_restore(plan, world)["finished"] is True


def test_a_snapshot_still_in_use_is_removed_later() -> None:
    world = RestoreWorld()
    plan = planned(world, asked(backed_up(world)))
    plan = RestorePlan.model_validate(create_volumes(plan, world))
    world.home.faults["delete_snapshot"] = [ConflictError("It is in use by ami-1.")]
    with pytest.raises(UnavailableError, match="in use by ami-1"):
        finish_restore(plan, world)
    assert finish_restore(plan, world)["finished"] is True
    assert world.home.snapshots == {}


def test_abandoning_removes_only_what_carries_the_tags_of_this_restore() -> None:
    world = RestoreWorld()
    event = asked(backed_up(world))
    plan = planned(world, event)
    other = planned(world, asked(event["instance_id"], restore_id="restore-2"))
    retagged = plan.volumes[1].snapshot_id
    world.home.snapshots["snap-foreign"] = Snapshot(
        "snap-foreign", "vol-1", "completed", world.clock.now(), 1, {}
    )

    found = world.home.find_snapshots

    def found_before_somebody_retagged(tags: dict[str, str]) -> Any:
        seen = found(tags)
        world.home.snapshots[retagged].tags["holdfast:restore"] = "kept by hand"
        return seen

    world.home.find_snapshots = found_before_somebody_retagged  # type: ignore[method-assign]
    answer = abandon_restore(Abandonment(request=event, problem={}), world)
    assert answer == {"removed": [plan.volumes[0].snapshot_id], "left": []}
    assert set(world.home.snapshots) == {
        retagged,
        "snap-foreign",
        *(volume.snapshot_id for volume in other.volumes),
    }


def test_abandoning_twice_is_harmless() -> None:
    world = RestoreWorld()
    event = asked(backed_up(world))
    planned(world, event)
    assert len(abandon_restore(Abandonment(request=event, problem={}), world)["removed"]) == 2
    assert abandon_restore(Abandonment(request=event, problem={}), world) == {"removed": [], "left": []}


def test_abandoning_a_request_that_nobody_could_read_does_nothing() -> None:
    world = RestoreWorld()
    answer = abandon_restore(Abandonment(request={"restore_id": 7}, problem={"Error": "x"}), world)
    assert answer == {"removed": [], "left": []}


def test_abandoning_tells_what_it_may_not_remove() -> None:
    world = RestoreWorld()
    event = asked(backed_up(world))
    planned(world, event)
    world.refused[ACCOUNT] = AccessDeniedError("The role was refused.")
    answer = abandon_restore(Abandonment(request=event, problem={}), world)
    assert answer == {"removed": [], "left": ["The role was refused."]}


def test_abandoning_is_tried_again_while_aws_does_not_answer() -> None:
    world = RestoreWorld()
    event = asked(backed_up(world))
    planned(world, event)
    world.home.faults["find_snapshots"] = [UnavailableError("EC2 did not answer.")]
    with pytest.raises(UnavailableError):
        abandon_restore(Abandonment(request=event, problem={}), world)


def test_a_cloud_native_snapshot_is_restored_where_it_is() -> None:
    world = RestoreWorld()
    instance_id = world.add_instance(sizes=(1, 2))
    for volume, content in zip(world.volumes(instance_id), (ROOT, DATA), strict=True):
        world.disks[volume.volume_id] = content
    point = with_snapshot(world, instance_id)
    plan = restored(world, asked(instance_id, repository=""))
    volumes = world.restore_site(ACCOUNT, REGION).volumes
    assert [volumes[v.volume_id]["content"] for v in plan.volumes] == [ROOT, DATA]
    assert set(world.home.snapshots) == set(point.snapshot_ids.values())


def test_abandoning_a_restore_from_a_snapshot_leaves_the_snapshot() -> None:
    world = RestoreWorld()
    instance_id = world.add_instance()
    point = with_snapshot(world, instance_id)
    event = asked(instance_id, repository="")
    planned(world, event)
    assert abandon_restore(Abandonment(request=event, problem={}), world)["removed"] == []
    assert set(world.home.snapshots) == set(point.snapshot_ids.values())


def test_a_snapshot_is_encrypted_anew_only_when_asked() -> None:
    world = RestoreWorld()
    instance_id = world.add_instance()
    with_snapshot(world, instance_id)
    plain = create_volumes(planned(world, asked(instance_id, repository="")), world)
    wished = asked(instance_id, repository="", restore_id="restore-2", target={"kms_key_arn": KEY})
    anew = create_volumes(planned(world, wished), world)
    volumes = world.restore_site(ACCOUNT, REGION).volumes
    made = [volumes[plan["volumes"][0]["volume_id"]] for plan in (plain, anew)]
    assert [(one["encrypted"], one["kms_key_arn"]) for one in made] == [(None, ""), (True, KEY)]


def test_no_unencrypted_volume_can_be_made_from_an_encrypted_snapshot() -> None:
    world = RestoreWorld()
    instance_id = world.add_instance()
    (volume,) = world.volumes(instance_id)
    instance = world.home.machines[instance_id].instance
    encrypted = instance.model_copy(update={"volumes": (volume.model_copy(update={"encrypted": True}),)})
    world.adjust(instance_id, instance=encrypted)
    with_snapshot(world, instance_id)
    with pytest.raises(PermanentError, match="no unencrypted volume"):
        planned(world, asked(instance_id, repository="", target={"encrypted": False}))


def test_an_unknown_snapshot_is_not_found() -> None:
    world = RestoreWorld()
    with pytest.raises(NotFoundError, match="points list"):
        planned(world, asked(world.add_instance(), repository=""))


def test_a_point_that_is_being_removed_is_not_offered() -> None:
    world = RestoreWorld()
    instance_id = world.add_instance()
    with_snapshot(world, instance_id, complete=False)
    with pytest.raises(NotFoundError):
        planned(world, asked(instance_id, repository=""))


def test_a_snapshot_of_another_account_is_refused_with_where_it_is() -> None:
    world = RestoreWorld()
    instance_id = world.add_instance()
    with_snapshot(world, instance_id)
    event = asked(instance_id, repository="", target={"account": "444455556666"})
    with pytest.raises(PermanentError, match=f"The snapshot is in account {ACCOUNT}, {REGION}"):
        planned(world, event)


def test_a_replica_is_restored_in_its_own_region() -> None:
    world = RestoreWorld()
    instance_id = world.add_instance()
    point = with_snapshot(world, instance_id)
    world.catalog.add_point(point.model_copy(update={"kind": Kind.REPLICA, "region": "eu-west-1"}))
    there = world.spoke("", ACCOUNT, "eu-west-1")
    there.snapshots.update(world.home.snapshots)
    target = {"region": "eu-west-1", "availability_zone": "eu-west-1b"}
    plan = planned(world, asked(instance_id, repository="", target=target))
    assert [volume.snapshot_id for volume in plan.volumes] == list(point.snapshot_ids.values())


def test_a_snapshot_that_was_deleted_by_hand_is_told_before_anything_is_made() -> None:
    world = RestoreWorld()
    instance_id = world.add_instance()
    with_snapshot(world, instance_id)
    world.home.snapshots.clear()
    with pytest.raises(SourceGoneError, match="was deleted"):
        planned(world, asked(instance_id, repository=""))


def test_a_restore_from_a_snapshot_has_nothing_to_seal() -> None:
    world = RestoreWorld()
    instance_id = world.add_instance()
    with_snapshot(world, instance_id)
    assert complete_restore(planned(world, asked(instance_id, repository="")), world) == {"completed": 0}
