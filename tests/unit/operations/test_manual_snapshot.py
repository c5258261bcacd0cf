"""Manual snapshots: once per request, outside every policy, for as many days as asked."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from holdfast.edge import parse
from holdfast.errors import (
    AccessDeniedError,
    ConfigurationError,
    ConflictError,
    SourceGoneError,
    ThrottledError,
    UnavailableError,
)
from holdfast.model import tags as names
from holdfast.model.inventory import AttachedVolume
from holdfast.model.restore_point import Kind, RestorePoint
from holdfast.operations.manual.expire_manual_snapshots import ExpireManualSnapshots, expire_manual_snapshots
from holdfast.operations.manual.manual_snapshot import ManualSnapshot, take_manual_snapshot
from tests.restore_world import RestoreWorld
from tests.session_world import ACCOUNT, INSTALLATION, REGION

OTHER = "444455556666"


def take(world: RestoreWorld, instance_id: str, **changes: Any) -> dict[str, Any]:
    event = {"instance_id": instance_id, "region": REGION, **changes}
    return dict(take_manual_snapshot(parse(ManualSnapshot, event), world))


def expire(world: RestoreWorld, after: timedelta) -> dict[str, Any]:
    world.clock.advance(after)
    return dict(expire_manual_snapshots(ExpireManualSnapshots(), world))


def test_every_volume_is_in_the_snapshot_and_in_the_catalog() -> None:
    world = RestoreWorld()
    instance_id = world.add_instance(sizes=(1, 2))
    answer = take(world, instance_id)
    (point,) = world.catalog.points(instance_id)
    execution = f"arn:aws:states:{REGION}:999999999999:execution:holdfast-manual-snapshot:{point.point_id}"
    assert answer == {
        "point_id": point.point_id,
        "snapshots": point.snapshot_ids,
        "copying": False,
        "state": "pending",
        "execution": execution,
        "follow": f"aws stepfunctions describe-execution --region {REGION} --execution-arn {execution}",
        "warnings": [],
    }
    assert point.snapshot_ids.keys() == {volume.volume_id for volume in world.volumes(instance_id)}
    assert (point.manual, point.kind, point.keep_until) == (True, Kind.SNAPSHOT, None)
    assert world.catalog.configuration(instance_id, point.point_id).instance.instance_id == instance_id


def test_tags_tell_what_it_is_and_keep_it_out_of_every_policy() -> None:
    world = RestoreWorld()
    instance_id = world.add_instance()
    answer = take(world, instance_id, keep_days=14, tags={"reason": "before upgrade"})
    (snapshot,) = world.home.snapshots.values()
    volume = world.volumes(instance_id)[0]
    assert snapshot.tags == {
        "Name": "machine 1 manual",
        "reason": "before upgrade",
        names.INSTALLATION: INSTALLATION,
        names.POINT: answer["point_id"],
        names.INSTANCE: instance_id,
        names.KIND: "manual",
        names.VOLUMES: "1",
        names.SET: snapshot.tags[names.SET],
        names.VOLUME: volume.volume_id,
        names.DEVICE: volume.device,
        names.KEEP_UNTIL: "20261206T070000Z",
    }


def test_every_request_without_an_id_is_a_new_snapshot() -> None:
    world = RestoreWorld()
    instance_id = world.add_instance()
    assert take(world, instance_id)["point_id"] != take(world, instance_id)["point_id"]


def test_the_same_request_takes_one_snapshot_also_an_hour_later() -> None:
    world = RestoreWorld()
    instance_id = world.add_instance(sizes=(1, 1))
    first = take(world, instance_id, request_id="upgrade-7")
    world.clock.advance(timedelta(hours=1))
    assert take(world, instance_id, request_id="upgrade-7") == first
    assert len(world.home.snapshots) == 2


def test_a_request_id_belongs_to_one_request() -> None:
    world = RestoreWorld()
    instance_id = world.add_instance()
    take(world, instance_id, request_id="upgrade-7")
    with pytest.raises(ConflictError, match="another request"):
        take(world, instance_id, request_id="upgrade-7", keep_days=3)


def test_a_call_that_got_no_answer_is_found_again_not_repeated() -> None:
    world = RestoreWorld()
    instance_id = world.add_instance()
    world.home.answers_lost, world.unanswered = 1, UnavailableError("EC2 did not answer.")
    world.home.lag = timedelta(minutes=1)
    with pytest.raises(UnavailableError, match="EC2 did not answer"):
        take(world, instance_id, request_id="upgrade-7")
    with pytest.raises(UnavailableError, match="may still be at work"):
        take(world, instance_id, request_id="upgrade-7")
    world.clock.advance(timedelta(minutes=3))
    take(world, instance_id, request_id="upgrade-7")
    assert len(world.home.snapshots) == 1


def test_a_call_that_never_reached_aws_is_made_when_that_is_sure() -> None:
    world = RestoreWorld()
    instance_id = world.add_instance()
    world.home.faults["create_snapshots"] = [UnavailableError("No connection.")]
    with pytest.raises(UnavailableError):
        take(world, instance_id, request_id="upgrade-7")
    world.clock.advance(timedelta(minutes=3))
    assert take(world, instance_id, request_id="upgrade-7")["snapshots"]
    with_point = list(world.catalog.points(instance_id))
    assert len(with_point) == 1


def test_a_refused_call_can_be_made_again_at_once() -> None:
    world = RestoreWorld()
    instance_id = world.add_instance()
    world.home.faults["create_snapshots"] = [ThrottledError("Too many snapshots.")]
    with pytest.raises(ThrottledError):
        take(world, instance_id, request_id="upgrade-7")
    assert take(world, instance_id, request_id="upgrade-7")["snapshots"]


def test_a_terminated_instance_is_told() -> None:
    world = RestoreWorld()
    with pytest.raises(SourceGoneError):
        take(world, "i-0123456789abcdef0")


def test_an_instance_without_volumes_is_told() -> None:
    world = RestoreWorld()
    instance_id = world.add_instance(sizes=())
    with pytest.raises(ConfigurationError, match="has no volume"):
        take(world, instance_id)


def test_a_volume_detached_meanwhile_is_a_warning() -> None:
    world = RestoreWorld()
    instance_id = world.add_instance(sizes=(1, 1))
    taken = world.home.create_snapshots

    def without_the_second(instance: str, **wanted: Any) -> Any:
        return taken(instance, **{**wanted, "exclude_volumes": [world.volumes(instance_id)[1].volume_id]})

    world.home.create_snapshots = without_the_second  # type: ignore[method-assign]
    answer = take(world, instance_id)
    gone = world.volumes(instance_id)[1].volume_id
    assert answer["warnings"] == [f"{gone} is not in the snapshot: it was attached or detached meanwhile."]
    (snapshot,) = world.home.snapshots.values()
    assert snapshot.tags[names.VOLUMES] == "1"


@pytest.mark.parametrize(
    "changes,told",
    [
        ({"instance_id": "web"}, "instance_id"),
        ({"region": "Frankfurt"}, "region"),
        ({"keep_days": 0}, "keep_days"),
        ({"tags": {"holdfast:policy": "daily"}}, "reserved prefix"),
        ({"tags": {"holdfast:cbt-base": "1"}}, "reserved prefix"),
        ({"request_id": "a b"}, "request_id"),
        ({"copy_to": {"account": "12"}}, "copy_to.account"),
        ({"role_arn": "arn:aws:iam::1:role/Any"}, "role_arn"),
    ],
)
def test_an_event_that_cannot_be_right_is_refused_by_field(changes: dict[str, Any], told: str) -> None:
    world = RestoreWorld()
    with pytest.raises(ConfigurationError, match=told):
        take(world, **{"instance_id": world.add_instance(), **changes})


def test_the_account_is_that_of_the_named_role() -> None:
    world = RestoreWorld()
    take(world, world.add_instance(), role="production")
    assert set(world.roles) == {(ACCOUNT, REGION, "production")}


def test_the_account_may_be_known_from_earlier_restore_points() -> None:
    world = RestoreWorld()
    world.configuration = world.configuration.model_copy(update={"roles": ()})
    instance_id = world.add_instance(account=OTHER)
    with pytest.raises(ConfigurationError, match="account of the instance is not known"):
        take(world, instance_id)
    world.catalog.add_point(
        RestorePoint(
            point_id="p1",
            kind=Kind.SNAPSHOT,
            account=OTHER,
            region=REGION,
            instance_id=instance_id,
            taken_at=world.clock.now(),
        )
    )
    assert take(world, instance_id)["snapshots"]


def test_a_copy_is_started_with_everything_it_needs() -> None:
    world = RestoreWorld()
    instance_id = world.add_instance()
    answer = take(world, instance_id, keep_days=1, tags={"a": "b"}, copy_to={"region": "eu-west-1"})
    machine, event = world.executions(REGION).started[answer["point_id"]]
    assert machine == f"arn:aws:states:{REGION}:999999999999:stateMachine:holdfast-manual-snapshot"
    assert event == {
        "point_id": answer["point_id"],
        "instance_id": instance_id,
        "instance_name": "machine 1",
        "account": ACCOUNT,
        "region": REGION,
        "role": "",
        "snapshots": answer["snapshots"],
        "target": {"region": "eu-west-1", "account": ACCOUNT, "role": "", "kms_key_arn": ""},
        "tags": {"a": "b", names.KEEP_UNTIL: "20261123T070000Z"},
    }


@pytest.mark.parametrize("copy_to", [{}, {"region": REGION}, {"account": ACCOUNT}])
def test_a_copy_to_where_the_snapshot_is_is_refused_before_it_is_taken(copy_to: dict[str, str]) -> None:
    world = RestoreWorld()
    with pytest.raises(ConfigurationError, match="copied to where it is"):
        take(world, world.add_instance(), copy_to=copy_to)
    assert world.home.snapshots == {}


def test_a_snapshot_goes_when_its_days_are_over_and_not_before() -> None:
    world = RestoreWorld()
    instance_id = world.add_instance(sizes=(1, 1))
    answer = take(world, instance_id, keep_days=7)
    forever = take(world, instance_id)
    assert expire(world, timedelta(days=6)) == {"removed": [], "left": {}}
    assert expire(world, timedelta(days=1))["removed"] == sorted(answer["snapshots"].values())
    assert set(world.home.snapshots) == set(forever["snapshots"].values())
    assert [point.point_id for point in world.catalog.points(instance_id)] == [forever["point_id"]]
    assert expire(world, timedelta(days=1)) == {"removed": [], "left": {}}


def test_an_operator_keeps_a_snapshot_longer_by_its_tag() -> None:
    world = RestoreWorld()
    instance_id = world.add_instance()
    (snapshot_id,) = take(world, instance_id, keep_days=7)["snapshots"].values()
    world.home.snapshots[snapshot_id].tags[names.KEEP_UNTIL] = "20261202T070000Z"
    assert expire(world, timedelta(days=8))["left"] == {snapshot_id: "it is kept until 20261202T070000Z now"}
    assert expire(world, timedelta(days=2))["removed"] == [snapshot_id]


@pytest.mark.parametrize(
    "key,value",
    [
        (names.KEEP_UNTIL, None),
        (names.KEEP_UNTIL, "soon"),
        (names.INSTALLATION, "another"),
        (names.POINT, "another"),
        (names.INSTANCE, None),
        (names.KIND, "snapshot"),
    ],
)
def test_a_snapshot_whose_tags_changed_is_left_alone_for_good(key: str, value: str | None) -> None:
    world = RestoreWorld()
    instance_id = world.add_instance()
    (snapshot_id,) = take(world, instance_id, keep_days=7)["snapshots"].values()
    tags = world.home.snapshots[snapshot_id].tags
    tags.pop(key)
    tags |= {key: value} if value else {}
    answer = expire(world, timedelta(days=8))
    assert answer["removed"] == []
    assert key in answer["left"][snapshot_id]
    assert expire(world, timedelta(days=8)) == {"removed": [], "left": {}}
    assert list(world.catalog.points(instance_id))


def test_what_cannot_be_removed_does_not_keep_the_others_and_is_due_again() -> None:
    world = RestoreWorld()
    first, second = world.add_instance(1), world.add_instance(2)
    take(world, first, keep_days=7)
    take(world, second, keep_days=7)
    world.home.faults["read_snapshots"] = [AccessDeniedError("Not allowed.")]
    with pytest.raises(AccessDeniedError):
        expire(world, timedelta(days=8))
    assert len(world.home.snapshots) == 1
    assert len(expire(world, timedelta())["removed"]) == 1
    assert world.home.snapshots == {}


def test_a_snapshot_that_somebody_deleted_leaves_the_catalog_when_due() -> None:
    world = RestoreWorld()
    instance_id = world.add_instance()
    take(world, instance_id, keep_days=7)
    world.home.snapshots.clear()
    assert expire(world, timedelta(days=8)) == {"removed": [], "left": {}}
    assert list(world.catalog.points(instance_id)) == []


def test_a_volume_attached_after_the_snapshot_is_told_when_asked_again() -> None:
    world = RestoreWorld()
    instance_id = world.add_instance()
    instance = world.home.machines[instance_id].instance
    first = take(world, instance_id, request_id="r1")
    late = AttachedVolume(volume_id="vol-0000beef", device="/dev/sdz", size_bytes=1 << 30)
    world.adjust(instance_id, instance=instance.model_copy(update={"volumes": (*instance.volumes, late)}))
    again = take(world, instance_id, request_id="r1")
    assert again["snapshots"] == first["snapshots"]
    assert again["warnings"] == [
        "vol-0000beef is not in the snapshot: it was attached or detached meanwhile."
    ]
