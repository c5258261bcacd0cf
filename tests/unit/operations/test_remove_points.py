"""What a person has removed goes, exactly that, and what may not go is told by name."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from holdfast.errors import AccessDeniedError, ConflictError
from holdfast.model import tags as names
from holdfast.model.configuration import Configuration
from holdfast.model.ids import stamp
from holdfast.model.restore_point import Kind, RestorePoint
from holdfast.operations.retention.expire_backups import ExpireBackups, expire_backups
from holdfast.operations.retention.remove_points import RemovePoints, remove_points
from holdfast.planning.removing import Scope, in_scope, key_of
from tests.restore_world import RestoreWorld
from tests.session_play import play
from tests.session_world import ACCOUNT, REGION, REPOSITORY, START, Snapshot, configured
from tests.snapshots import block

ANNA = "arn:aws:iam::999999999999:user/anna"
VAULT, FAR = "444455556666", "eu-west-1"
DAY = timedelta(days=1)


def a_world(configuration: Configuration | None = None) -> tuple[RestoreWorld, str]:
    """Snapshots and backups of two days, a manual snapshot, and a replica of either kind."""
    world = RestoreWorld(configuration)
    instance_id = world.add_instance()
    world.disks[world.volumes(instance_id)[0].volume_id] = {0: block("boot")}
    play(world, START)
    play(world, START + DAY)
    add(world, instance_id, "m1", kind="manual", manual=True)
    add(world, instance_id, "m1", kind="replica", manual=True, account=VAULT)
    add(world, instance_id, "r1", kind="replica", account=VAULT, policy="daily", region=FAR)
    return world, instance_id


def add(
    world: RestoreWorld,
    instance_id: str,
    point_id: str,
    *,
    kind: str,
    manual: bool = False,
    account: str = ACCOUNT,
    region: str = REGION,
    policy: str = "",
) -> RestorePoint:
    """A snapshot with the tags it has in AWS, and its restore point in the catalog."""
    snapshot_id = f"snap-{point_id}{kind}{account}"
    tags = {
        names.INSTALLATION: "holdfast",
        names.INSTANCE: instance_id,
        names.POINT: point_id,
        names.KIND: kind,
        **({names.POLICY: policy, names.FLAGS: "D"} if policy else {}),
    }
    made = Snapshot(snapshot_id, "vol-1", "completed", START, 1 << 30, tags)
    world.spoke("", account, region).snapshots[snapshot_id] = made
    point = RestorePoint(
        point_id=point_id,
        kind=Kind.REPLICA if kind == "replica" else Kind.SNAPSHOT,
        account=account,
        region=region,
        instance_id=instance_id,
        taken_at=START,
        manual=manual,
        policy=policy,
        snapshot_ids={"vol-1": snapshot_id},
    )
    world.catalog.add_point(point)
    return point


def remove(world: RestoreWorld, instance_id: str, scope: Scope, **changes: Any) -> dict[str, Any]:
    """What a person asks for who confirmed all that the scope means."""
    points = [key_of(point) for point in in_scope(world.catalog.points(instance_id), scope)]
    request = {"instance_id": instance_id, "scope": scope, "points": points, "by": ANNA, **changes}
    return remove_points(RemovePoints.model_validate(request), world)


def listed(world: RestoreWorld, instance_id: str) -> set[str]:
    return {key_of(point) for point in world.catalog.points(instance_id)}


def snapshots(world: RestoreWorld) -> set[str]:
    return {snapshot_id for place in world.regions.values() for snapshot_id in place.snapshots}


@pytest.mark.parametrize(
    "scope,native,backups",
    [
        (Scope.SNAPSHOTS, {"snapshot", "manual", "copy", "replica"}, False),
        (Scope.MANUAL, {"manual", "copy"}, False),
        (Scope.LOCAL, {"snapshot"}, False),
        (Scope.REPLICAS, {"replica"}, False),
        (Scope.BACKUPS, set(), True),
        (Scope.STANDARD, set(), True),
        (Scope.ARCHIVED, set(), False),
        (Scope.EVERYTHING, {"snapshot", "manual", "copy", "replica"}, True),
    ],
)
def test_every_scope_removes_exactly_its_class(scope: Scope, native: set[str], backups: bool):
    world, instance_id = a_world()
    kinds = {key: kind_of(key) for key in listed(world, instance_id)}
    before = snapshots(world)
    answer = remove(world, instance_id, scope)
    assert answer["left"] == {}
    gone = {key for key, kind in kinds.items() if kind in native}
    assert set(answer["removed"]) == gone
    assert listed(world, instance_id) == kinds.keys() - gone
    assert len(before) - len(snapshots(world)) == len(gone)
    assert {kinds[key] for key in answer["noted"]} == ({"backup"} if backups else set())


def kind_of(key: str) -> str:
    kind, point_id, place = key.split("/")
    if point_id == "m1":
        return "manual" if kind == "snapshot" else "copy"
    return kind if REPOSITORY not in place else "backup"


def test_a_backup_goes_with_the_daily_retention_a_day_after_it_was_noted():
    world, instance_id = a_world()
    backups = {key for key in listed(world, instance_id) if key.startswith("backup/")}
    world.clock.current = START + DAY + timedelta(hours=2)
    assert set(remove(world, instance_id, Scope.BACKUPS)["noted"]) == backups
    assert backups <= listed(world, instance_id)
    soon = expire_backups(ExpireBackups(), world)
    assert (soon["expired"], soon["noted"], soon["removed"]) == (2, 0, 0)
    world.clock.advance(timedelta(hours=25))
    assert expire_backups(ExpireBackups(), world)["removed"] == 2
    assert not backups & listed(world, instance_id)
    assert list(world.repository(REPOSITORY).list_points(instance_id)) == []
    assert list(world.catalog.parts("removals", "backup/")) == []


def test_a_note_that_is_taken_back_keeps_the_backup():
    world, instance_id = a_world()
    remove(world, instance_id, Scope.STANDARD)
    assert len(remove(world, instance_id, Scope.STANDARD, take_back=True)["kept"]) == 2
    world.clock.advance(timedelta(hours=25))
    assert expire_backups(ExpireBackups(), world)["removed"] == 0
    assert len(list(world.repository(REPOSITORY).list_points(instance_id))) == 2


def test_the_next_backup_after_its_base_was_removed_reads_everything_and_is_right():
    world, instance_id = a_world()
    assert remove(world, instance_id, Scope.LOCAL)["left"] == {}
    ended = play(world, START + 2 * DAY)
    outcome = world.outcomes(ended["session_id"])[instance_id]
    assert (outcome.state, outcome.problems, outcome.blocks_read) == ("Success", (), 1)


def test_a_point_that_a_backup_reads_stays_and_is_told():
    world, instance_id = a_world()
    for one in world.home.snapshots.values():
        one.tags[names.IN_USE] = stamp(world.clock.now())
    before = snapshots(world)
    answer = remove(world, instance_id, Scope.LOCAL)
    assert (answer["removed"], len(answer["left"])) == ([], 2)
    assert all("may still be reading it" in reason for reason in answer["left"].values())
    assert snapshots(world) == before
    assert all(point.complete for point in world.catalog.points(instance_id))


def test_one_that_fails_stops_no_other_and_stays_a_restore_point():
    world, instance_id = a_world()
    world.home.faults["delete_snapshot"] = [ConflictError("The snapshot is locked until 2027-01-01.")]
    answer = remove(world, instance_id, Scope.LOCAL)
    ((left, reason),) = answer["left"].items()
    assert len(answer["removed"]) == 1
    assert "locked until 2027-01-01" in reason
    (point,) = [point for point in world.catalog.points(instance_id) if key_of(point) == left]
    assert point.complete is True


def test_a_base_that_stays_is_a_base_again():
    world, instance_id = a_world()
    based = {one.snapshot_id for one in world.home.snapshots.values() if names.BASE in one.tags}
    world.home.faults["delete_snapshot"] = [ConflictError("It is locked.")] * 2
    assert len(remove(world, instance_id, Scope.LOCAL)["left"]) == 2
    assert {one.snapshot_id for one in world.home.snapshots.values() if names.BASE in one.tags} == based


def test_a_snapshot_with_the_tags_of_another_point_is_left_alone():
    world, instance_id = a_world()
    point = add(world, instance_id, "x1", kind="snapshot", policy="daily")
    (snapshot_id,) = point.snapshot_ids.values()
    world.home.snapshots[snapshot_id].tags[names.POINT] = "another"
    answer = remove(world, instance_id, Scope.LOCAL)
    assert "'another', not 'x1'" in answer["left"][key_of(point)]
    assert snapshot_id in world.home.snapshots


def test_a_manual_snapshot_that_is_not_of_this_installation_is_left_alone():
    world, instance_id = a_world()
    world.home.snapshots[f"snap-m1manual{ACCOUNT}"].tags[names.INSTALLATION] = "another"
    answer = remove(world, instance_id, Scope.MANUAL)
    assert len(answer["removed"]) == len(answer["left"]) == 1
    assert f"snap-m1manual{ACCOUNT}" in world.home.snapshots


def test_an_account_that_cannot_be_entered_keeps_the_others_from_nothing():
    world, instance_id = a_world()
    world.refused[VAULT] = AccessDeniedError("The role does not trust us.")
    answer = remove(world, instance_id, Scope.SNAPSHOTS)
    assert (len(answer["removed"]), len(answer["left"])) == (3, 2)


def test_an_immutable_repository_is_refused_by_name():
    base = configured().model_dump(exclude_defaults=True)
    base["repositories"][0]["immutable"] = True
    world, instance_id = a_world(Configuration.model_validate(base))
    answer = remove(world, instance_id, Scope.BACKUPS)
    assert answer["noted"] == []
    assert all("'main' is immutable" in reason for reason in answer["left"].values())


def test_backups_of_a_repository_that_is_not_configured_are_told():
    world, instance_id = a_world()
    (first, *_) = [point for point in world.catalog.points(instance_id) if point.kind is Kind.BACKUP]
    world.catalog.add_point(first.model_copy(update={"repository": "gone", "kind": Kind.ARCHIVE}))
    answer = remove(world, instance_id, Scope.ARCHIVED)
    ((_, reason),) = answer["left"].items()
    assert "'gone' is not in the configuration" in reason


def test_nothing_but_what_was_confirmed_goes():
    world, instance_id = a_world()
    confirmed = sorted(listed(world, instance_id))[-1:]
    remove(world, instance_id, Scope.LOCAL, points=["snapshot/unknown/place", *confirmed])
    assert snapshots(world) >= {f"snap-m1manual{ACCOUNT}", f"snap-m1replica{VAULT}"}
    outside = [key for key in listed(world, instance_id) if key.startswith("replica/")]
    answer = remove(world, instance_id, Scope.LOCAL, points=outside)
    assert set(outside) <= listed(world, instance_id)
    assert answer["left"] == dict.fromkeys(outside, "It does not belong to local-snapshots.")
    assert answer["removed"] == []


def test_what_there_is_no_time_for_is_handed_back():
    world, instance_id = a_world()
    world.seconds_left = 10
    answer = remove(world, instance_id, Scope.EVERYTHING)
    assert (answer["removed"], set(answer["more"])) == ([], listed(world, instance_id))


def test_the_role_is_that_of_the_policy():
    replication = [{"source_region": REGION, "region": FAR, "role": "vault"}]
    base = configured().model_dump(exclude_defaults=True)
    base["roles"] = [*base["roles"], {"name": "vault", "arn": f"arn:aws:iam::{VAULT}:role/HoldfastVault"}]
    base["policies"][0]["replication"] = replication
    world, instance_id = a_world(Configuration.model_validate(base))
    remove(world, instance_id, Scope.SNAPSHOTS)
    assert set(world.roles) == {
        (ACCOUNT, REGION, "production"),
        (ACCOUNT, REGION, ""),
        (VAULT, REGION, ""),
        (VAULT, FAR, "vault"),
    }
