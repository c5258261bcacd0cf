"""Replicas over many sessions: which ones are made, and which ones stay, in the place where they lie."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from holdfast.edge import parse
from holdfast.errors import AccessDeniedError, PermanentError
from holdfast.model import tags as names
from holdfast.model.restore_point import Flag, Kind, RestorePoint
from holdfast.model.session import State
from holdfast.operations.replicas.replicate_snapshots import ReplicateSnapshots, replicate_snapshots
from holdfast.operations.sessions.take_snapshots import TakeSnapshots, take_snapshots
from tests.restore_world import RestoreWorld
from tests.session_play import play
from tests.session_world import ACCOUNT, POLICY, REGION, START, AccountRegion, Snapshot, configured
from tests.sla_world import play_slot, sla_configuration

OTHER, WEST, NORTH = "444455556666", "eu-west-1", "eu-north-1"
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
VAULT = {"name": "vault", "arn": f"arn:aws:iam::{OTHER}:role/HoldfastVault"}
ROLES = [{"name": "production", "arn": f"arn:aws:iam::{ACCOUNT}:role/HoldfastBackup"}, VAULT]


def replicating(keep: int = 2, **changes: Any) -> RestoreWorld:
    """A world whose policy replicates every hour to the vault, and keeps as many replicas as asked."""
    policy: dict[str, Any] = {
        "daily": {
            "snapshots": {"hours": list(range(24)), "keep": 30},
            "replicas": {"hours": list(range(24)), "keep": keep},
        },
        "repository": "",
        "retries": 1,
        "replication": [{"source_region": REGION, "region": WEST, "role": "vault"}],
        **changes,
    }
    return RestoreWorld(configured(roles=ROLES, **policy))


def there(world: RestoreWorld, region: str = WEST) -> AccountRegion:
    return world.spoke("", OTHER, region)


def replicas(world: RestoreWorld, instance_id: str) -> list[RestorePoint]:
    return [one for one in world.catalog.points(instance_id, Kind.REPLICA) if one.complete]


def hours_of(points: list[RestorePoint]) -> list[int]:
    return [point.taken_at.hour for point in points]


def taken(world: RestoreWorld, instance_id: str, **changes: str) -> dict[str, Any]:
    """The event of the replica step, with the snapshots taken."""
    item = {
        "session_id": "20261122T070000Z-daily-0123abcd",
        "policy": POLICY,
        "slot": START.isoformat(),
        "region": REGION,
        "account": ACCOUNT,
        "instance_id": instance_id,
        "snapshot_flags": "D",
        "replica_flags": "D",
        **changes,
    }
    return {**item, **take_snapshots(parse(TakeSnapshots, item), world)}


def outcome(world: RestoreWorld, instance_id: str) -> Any:
    (session_id,) = [one for one in world.catalog.session_records if one.startswith("20261122T07")]
    return world.outcomes(session_id)[instance_id]


def test_a_session_makes_a_replica_and_says_so() -> None:
    world = replicating()
    instance_id = world.add_instance(sizes=(1, 2))
    play(world)
    ended = outcome(world, instance_id)
    assert (ended.state, ended.kinds) == (State.SUCCESS, ("snapshot", "replica"))
    (point,) = replicas(world, instance_id)
    assert set(point.snapshot_ids.values()) == set(there(world).snapshots)


def test_a_failed_replica_fails_the_instance_and_leaves_its_snapshots_and_backup() -> None:
    world = replicating(
        daily={
            "snapshots": {"hours": [7], "keep": 3},
            "replicas": {"hours": [7], "keep": 3},
            "backups": {"hours": [7], "keep": {"days": 7}},
        },
        repository="main",
    )
    instance_id = world.add_instance()
    world.refused[OTHER] = AccessDeniedError("The role cannot be assumed.")
    play(world)
    ended = outcome(world, instance_id)
    assert (ended.state, ended.kinds) == (State.FAILED, ("snapshot", "backup"))
    assert [one.code for one in ended.problems if one.severity is State.FAILED] == ["AccessDenied"]
    assert {point.kind for point in world.catalog.points(instance_id)} == {Kind.SNAPSHOT, Kind.BACKUP}


def test_a_snapshot_without_room_for_another_tag_is_replicated_all_the_same() -> None:
    world = replicating()
    instance_id = world.add_instance()
    event = taken(world, instance_id)
    world.home.faults["tag_snapshot"] = [PermanentError("TagLimitExceeded.")]
    replicate_snapshots(parse(ReplicateSnapshots, event), world)
    there(world).complete_snapshots()
    assert replicate_snapshots(parse(ReplicateSnapshots, event), world)["made"] is True


def test_a_retry_makes_up_for_a_copy_that_failed() -> None:
    world = replicating()
    instance_id = world.add_instance()
    world.snapshot_copier(OTHER, WEST).refusals = [AccessDeniedError("The key policy denies it.")]
    play(world)
    assert outcome(world, instance_id).state is State.SUCCESS
    assert len(replicas(world, instance_id)) == len(world.home.snapshots) == 1


def test_an_encrypted_source_without_a_key_is_a_warning_that_is_not_retried() -> None:
    world = replicating()
    instance_id = world.add_instance()
    machine = world.home.machines[instance_id]
    (volume,) = machine.instance.volumes
    secret = volume.model_copy(
        update={"encrypted": True, "kms_key_arn": f"arn:aws:kms:{REGION}:{ACCOUNT}:key/1"}
    )
    world.adjust(instance_id, instance=machine.instance.model_copy(update={"volumes": (secret,)}))
    assert play(world)["attempt"] == 0
    ended = outcome(world, instance_id)
    assert (ended.state, ended.kinds) == (State.WARNING, ("snapshot",))


def test_the_newest_replicas_stay_and_their_snapshots_have_a_count_of_their_own() -> None:
    world = replicating(keep=2)
    instance_id = world.add_instance(sizes=(1, 1))
    for passed in range(4):
        play(world, START + passed * HOUR)
    assert hours_of(replicas(world, instance_id)) == [9, 10]
    assert len(there(world).snapshots) == 4
    assert len(world.home.snapshots) == 8


def test_a_shorter_retention_of_replicas_waits_until_it_is_confirmed() -> None:
    world = replicating(keep=3)
    instance_id = world.add_instance()
    for passed in range(3):
        play(world, START + passed * HOUR)
    world.configuration = replicating(keep=1).configuration
    play(world, START + 3 * HOUR)
    assert hours_of(replicas(world, instance_id)) == [8, 9, 10]
    (body,) = [
        body
        for session_id in world.catalog.session_records
        for _, body in world.catalog.parts(session_id, "held/")
    ]
    assert [one.partition("/")[0] for one in body["points"]] == ["replica", "replica"]


def test_a_session_without_a_replica_judges_none() -> None:
    world = replicating(
        daily={"snapshots": {"hours": [7, 8], "keep": 9}, "replicas": {"hours": [7], "keep": 1}}
    )
    world.add_instance()
    play(world)
    there(world).calls.clear()
    play(world, START + HOUR)
    assert there(world).calls == []


def test_a_replica_of_a_manual_run_carries_the_flag_of_the_most_frequent_schedule() -> None:
    world = replicating()
    instance_id = world.add_instance()
    play(world, manual=True)
    (point,) = replicas(world, instance_id)
    assert (point.flags, point.manual) == ({Flag.DAILY}, False)


def test_replicas_in_a_former_target_are_a_chain_of_their_own() -> None:
    world = replicating(keep=1)
    instance_id = world.add_instance()
    play(world)
    moved = replicating(keep=1, replication=[{"source_region": REGION, "region": NORTH, "role": "vault"}])
    world.configuration = moved.configuration
    for passed in (1, 2):
        play(world, START + passed * HOUR)
    assert sorted((one.region, one.taken_at.hour) for one in replicas(world, instance_id)) == [
        (NORTH, 9),
        (WEST, 7),
    ]


def test_a_place_that_nobody_can_enter_any_more_is_told_and_keeps_no_other() -> None:
    world = replicating(keep=1)
    instance_id = world.add_instance()
    play(world)
    here = [{"source_region": REGION, "region": WEST}]
    world.configuration = replicating(keep=1, replication=here).configuration
    world.refused[OTHER] = AccessDeniedError("The role is gone.")
    for passed in (1, 2):
        play(world, START + passed * HOUR)
    assert {(one.account, one.taken_at.hour) for one in replicas(world, instance_id)} == {
        (ACCOUNT, 9),
        (OTHER, 7),
    }
    (session_id,) = [one for one in world.catalog.session_records if one.startswith("20261122T09")]
    ended = world.outcomes(session_id)[instance_id]
    assert (ended.state, [one.code for one in ended.problems]) == (State.WARNING, ["AccessDenied"])


def test_what_others_copied_with_all_our_tags_is_no_surplus_and_hides_no_replica() -> None:
    world = replicating(keep=2)
    instance_id = world.add_instance()
    play(world)
    (known,) = there(world).snapshots.values()
    theirs = Snapshot("snap-theirs", "vol-ffffffff", "completed", START - HOUR, 1 << 30, dict(known.tags))
    there(world).snapshots["snap-theirs"] = theirs
    for passed in (HOUR, DAY + 2 * HOUR):
        play(world, START + passed)
    assert known.snapshot_id not in there(world).snapshots
    assert "snap-theirs" in there(world).snapshots
    assert hours_of(replicas(world, instance_id))[-2:] == [8, 9]


def test_a_set_of_copies_that_never_became_whole_goes_a_day_later() -> None:
    world = replicating(keep=5)
    instance_id = world.add_instance(sizes=(1, 1))
    world.snapshot_copier(OTHER, WEST).room = 1
    event = taken(world, instance_id)
    replicate_snapshots(parse(ReplicateSnapshots, event), world)
    replicate_snapshots(parse(ReplicateSnapshots, event | {"abandon": True}), world)
    (lonely,) = there(world).snapshots
    there(world).complete_snapshots()
    world.snapshot_copier(OTHER, WEST).room = 20
    for passed in (DAY + HOUR, DAY + 2 * HOUR):
        play(world, START + passed)
    assert lonely not in there(world).snapshots
    assert len(replicas(world, instance_id)) == 2


def test_replicas_whose_flags_somebody_removed_are_kept_and_told() -> None:
    world = replicating(keep=1)
    instance_id = world.add_instance()
    play(world)
    (copy,) = there(world).snapshots.values()
    del copy.tags[names.FLAGS]
    play(world, START + HOUR)
    assert copy.snapshot_id in there(world).snapshots
    (session_id,) = [one for one in world.catalog.session_records if one.startswith("20261122T08")]
    assert [one.code for one in world.outcomes(session_id)[instance_id].problems] == ["FlagsChanged"]


def sla_world(every: str, **template: Any) -> RestoreWorld:
    return RestoreWorld(
        sla_configuration(
            {
                "snapshots": {"daily": {"hours": 2}},
                "snapshot_window": {"start": "08:00", "end": "16:00"},
                "replicas": {"every": every, "keep": {"days": 3}},
                **template,
            },
            roles=ROLES,
            replication=[{"source_region": REGION, "region": WEST, "role": "vault"}],
        )
    )


def test_the_first_snapshot_of_a_day_is_replicated() -> None:
    world = sla_world("day")
    instance_id = world.add_instance()
    for day in range(3):
        for hour in (1, 3, 5):
            play_slot(world, START + day * DAY + hour * HOUR)
    assert [(one.taken_at.day, one.taken_at.hour) for one in replicas(world, instance_id)] == [
        (22, 8),
        (23, 8),
        (24, 8),
    ]
    assert {flag for one in replicas(world, instance_id) for flag in one.flags} == {Flag.DAILY}


def test_the_first_snapshot_of_a_week_or_month_is_replicated_with_its_flag() -> None:
    for every, flag, days in (("week", Flag.WEEKLY, [22, 23]), ("month", Flag.MONTHLY, [22])):
        world = sla_world(every)
        instance_id = world.add_instance()
        for day in range(4):  # a Sunday and the days after it
            play_slot(world, START + day * DAY + HOUR)
        found = replicas(world, instance_id)
        assert [one.taken_at.day for one in found] == days
        assert {one for point in found for one in point.flags} == {flag}


def test_the_next_snapshot_of_the_day_makes_up_for_a_replica_that_failed() -> None:
    world = sla_world("day")
    instance_id = world.add_instance()
    world.refused[OTHER] = AccessDeniedError("The role cannot be assumed.")
    play_slot(world, START + HOUR)
    world.refused.clear()
    play_slot(world, START + 3 * HOUR)
    play_slot(world, START + 5 * HOUR)
    assert hours_of(replicas(world, instance_id)) == [10]


def test_a_replica_under_way_is_not_begun_again_by_the_next_session_of_the_day() -> None:
    world = sla_world("day")
    instance_id = world.add_instance()
    event = taken(
        world,
        instance_id,
        session_id="20261122T080000Z-daily-0123abcd",
        slot=(START + HOUR).isoformat(),
        replica_flags="-",
    )
    assert replicate_snapshots(parse(ReplicateSnapshots, event), world)["done"] is False
    play_slot(world, START + 3 * HOUR)
    assert replicas(world, instance_id) == []
    there(world).complete_snapshots()
    assert replicate_snapshots(parse(ReplicateSnapshots, event), world)["made"] is True


def test_replicas_of_a_template_are_not_counted_in_sessions() -> None:
    world = sla_world("day")
    instance_id = world.add_instance()
    for day in range(6):
        play_slot(world, START + day * DAY + HOUR)
    assert len(replicas(world, instance_id)) == 6


def test_a_backup_of_its_own_makes_no_replica_of_its_temporary_snapshot() -> None:
    world = sla_world(
        "day",
        backups={"daily": {"hours": 8, "keep": {"days": 7}}},
        backup_window={"start": "17:00", "end": "20:00"},
    )
    instance_id = world.add_instance()
    play_slot(world, START + 10 * HOUR)
    assert [one.kind for one in world.catalog.points(instance_id) if one.kind is Kind.REPLICA] == []
    assert there(world).snapshots == {}


def test_a_snapshot_after_the_first_of_the_day_owes_no_replica() -> None:
    world = sla_world("day")
    instance_id = world.add_instance()
    for hour in (1, 3):
        play_slot(world, START + hour * HOUR)
    first, second = sorted(world.catalog.session_records)
    assert world.outcomes(first)[instance_id].products["replica"] is State.SUCCESS
    assert "replica" not in world.outcomes(second)[instance_id].products


def test_an_account_of_an_organization_replicates_under_its_own_role_and_the_targets() -> None:
    company = {"name": "company", "management_role": "arn:aws:iam::777777777777:role/HoldfastOrganization"}
    for target, expected in (({"role": "vault"}, (OTHER, WEST, "vault")), ({}, (ACCOUNT, WEST, "company"))):
        world = replicating(
            source={"organization": "company"},
            organizations=[company],
            replication=[{"source_region": REGION, "region": WEST, **target}],
        )
        world.configuration = world.configuration.model_copy(update={"roles": world.configuration.roles[1:]})
        instance_id = world.add_instance()
        event = taken(world, instance_id)
        while not replicate_snapshots(parse(ReplicateSnapshots, event), world)["done"]:
            world.spoke("", *expected[:2]).complete_snapshots()
        assert {(ACCOUNT, REGION, "company"), expected} == set(world.roles)
        assert len(replicas(world, instance_id)) == 1
