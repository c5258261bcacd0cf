"""Replicas that policies want: whole or not at all, made once, and nothing of the way is left behind."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from holdfast.edge import parse
from holdfast.errors import (
    AccessDeniedError,
    PermanentError,
    SourceGoneError,
    StoppedError,
    UnavailableError,
)
from holdfast.model import tags as names
from holdfast.model.inventory import AttachedVolume
from holdfast.model.restore import RestoreRequest
from holdfast.model.restore_point import Flag, Kind
from holdfast.model.session import State
from holdfast.operations.replicas.copying import DEAD_AFTER, clear_remains, read_work
from holdfast.operations.replicas.replicate_snapshots import ReplicateSnapshots, replicate_snapshots
from holdfast.operations.restores.plan_restore import plan_restore
from holdfast.operations.sessions.stop_marks import STOP
from holdfast.operations.sessions.take_snapshots import TakeSnapshots, take_snapshots
from tests.restore_world import Copier, RestoreWorld
from tests.session_play import play
from tests.session_world import (
    ACCOUNT,
    INSTALLATION,
    POLICY,
    REGION,
    START,
    AccountRegion,
    configured,
)

OTHER, WEST = "444455556666", "eu-west-1"
OWN_KEY = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/own"
DEFAULT_KEY = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/aws-ebs"
TRANSFER_KEY = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/transfer"
THEIR_KEY = f"arn:aws:kms:{WEST}:{OTHER}:key/theirs"
POINT = "20261122T070000Z"


def replicating(target: dict[str, Any], **changes: Any) -> RestoreWorld:
    """A world whose policy replicates at 7 and 8; ``target`` is where to."""
    policy: dict[str, Any] = {
        "daily": {
            "snapshots": {"hours": list(range(24)), "keep": 30},
            "replicas": {"hours": [7, 8], "keep": 2},
        },
        "repository": "",
        "tags": {"copy_from_volumes": True, "custom": {"protected": "yes"}},
        "replication": [{"source_region": REGION, "region": WEST, **target}],
        **changes,
    }
    roles = [
        {"name": "production", "arn": f"arn:aws:iam::{ACCOUNT}:role/HoldfastBackup"},
        {"name": "vault", "arn": f"arn:aws:iam::{OTHER}:role/HoldfastVault"},
    ]
    return RestoreWorld(configured(roles=roles, **policy))


def with_keys(world: RestoreWorld, instance_id: str, *keys: str) -> None:
    """Let the volumes of an instance be encrypted with these keys (empty: not)."""
    machine = world.home.machines[instance_id]
    volumes = tuple(
        volume.model_copy(update={"encrypted": bool(key), "kms_key_arn": key})
        for volume, key in zip(machine.instance.volumes, keys, strict=True)
    )
    world.adjust(instance_id, instance=machine.instance.model_copy(update={"volumes": volumes}))


def session(world: RestoreWorld, instance_id: str, **changes: Any) -> dict[str, Any]:
    """The event of the replica step, with the snapshots taken."""
    item = {
        "session_id": f"{POINT}-daily-0123abcd",
        "policy": POLICY,
        "slot": START.isoformat(),
        "region": REGION,
        "account": ACCOUNT,
        "instance_id": instance_id,
        "instance_name": "web",
        "snapshot_flags": "D",
        "replica_flags": "D",
        **changes,
    }
    return {**item, **take_snapshots(parse(TakeSnapshots, item), world)}


def replicate(world: RestoreWorld, event: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return replicate_snapshots(parse(ReplicateSnapshots, event | changes), world)


def finished(world: RestoreWorld, event: dict[str, Any], rounds: int = 6) -> dict[str, Any]:
    """The answer of the last step; copies complete between steps."""
    for polls in range(rounds):
        answer = replicate(world, event, polls=polls)
        if answer["done"]:
            return answer
        world.clock.advance(timedelta(seconds=answer["wait_seconds"]))
        for place in world.regions.values():
            place.complete_snapshots()
    raise AssertionError("the replica was never done")


def vault(world: RestoreWorld, account: str = OTHER) -> AccountRegion:
    return world.spoke("", account, WEST)


def lender(world: RestoreWorld) -> Copier:
    return world.snapshot_copier(ACCOUNT, REGION)


def nothing_left(world: RestoreWorld) -> bool:
    """Whether nothing is shared, marked, or waiting to be taken back."""
    kinds = {one.tags.get(names.KIND) for one in world.home.snapshots.values()}
    marked = any(names.COPYING in one.tags for one in world.home.snapshots.values())
    shared = any(lender(world).shared.values())
    return names.TRANSFER not in kinds and not marked and not shared


@pytest.mark.parametrize("target,account", [({}, ACCOUNT), ({"role": "vault"}, OTHER)])
def test_a_replica_is_a_restore_point_when_all_its_volumes_are_there(
    target: dict[str, str], account: str
) -> None:
    world = replicating(target)
    instance_id = world.add_instance(sizes=(1, 2))
    event = session(world, instance_id)
    assert replicate(world, event)["made"] is False
    first, second = vault(world, account).snapshots.values()
    first.state = "completed"
    assert replicate(world, event)["done"] is False
    assert list(world.catalog.points(instance_id, Kind.REPLICA)) == []
    second.state = "completed"
    assert replicate(world, event)["made"] is True
    (point,) = world.catalog.points(instance_id, Kind.REPLICA)
    assert set(point.snapshot_ids.values()) == set(vault(world, account).snapshots)
    assert (point.account, point.region, point.flags) == (account, WEST, {Flag.DAILY})
    assert (point.policy, point.session_id, point.manual) == (POLICY, event["session_id"], False)
    assert point.taken_at == START
    assert nothing_left(world)


def test_a_replica_carries_the_tags_of_its_snapshot_and_ours() -> None:
    world = replicating({"role": "vault"})
    instance_id = world.add_instance(volume_tags={"data": "orders", "aws:x": "y"})
    event = session(world, instance_id)
    finished(world, event)
    (copy,), volume = vault(world).snapshots.values(), world.volumes(instance_id)[0]
    assert {key: value for key, value in copy.tags.items() if key not in (names.SET, names.CALL)} == {
        "Name": "web 2026-11-22 07:00Z",
        "protected": "yes",
        "data": "orders",
        names.INSTALLATION: INSTALLATION,
        names.POLICY: POLICY,
        names.SESSION: event["session_id"],
        names.POINT: event["point_id"],
        names.INSTANCE: instance_id,
        names.VOLUME: volume.volume_id,
        names.DEVICE: volume.device,
        names.SLOT: POINT,
        names.FLAGS: "D",
        names.KIND: "replica",
        names.VOLUMES: "1",
        names.SOURCE: f"{ACCOUNT}/{REGION}/{event['snapshots'][0]['snapshot_id']}",
    }


def test_more_tags_than_aws_allows_are_left_behind() -> None:
    world = replicating({})
    instance_id = world.add_instance()
    event = session(world, instance_id)
    (snapshot,) = world.home.snapshots.values()
    snapshot.tags |= {f"own {number:02}": "x" for number in range(49 - len(snapshot.tags))}
    finished(world, event)
    (copy,) = vault(world, ACCOUNT).snapshots.values()
    assert len(copy.tags) == 50
    assert copy.tags[names.KIND] == "replica"


@pytest.mark.parametrize(
    "encrypt,source,expected",
    [
        ("encrypted_only", (OWN_KEY, ""), [THEIR_KEY, ""]),
        ("all", (OWN_KEY, ""), [THEIR_KEY, THEIR_KEY]),
        ("all", ("", ""), [THEIR_KEY, THEIR_KEY]),
        ("encrypted_only", ("", ""), ["", ""]),
    ],
)
def test_the_key_of_the_target_encrypts_all_volumes_or_those_that_were(
    encrypt: str, source: tuple[str, str], expected: list[str]
) -> None:
    world = replicating({"role": "vault", "key_arn": THEIR_KEY, "encrypt": encrypt})
    instance_id = world.add_instance(sizes=(1, 1))
    with_keys(world, instance_id, *source)
    finished(world, session(world, instance_id))
    copies = sorted(vault(world).snapshots.values(), key=lambda one: one.tags[names.VOLUME])
    assert [one.kms_key_arn for one in copies] == expected


def test_an_encrypted_source_without_a_key_for_the_target_is_a_warning_and_no_replica() -> None:
    world = replicating({"role": "vault"})
    instance_id = world.add_instance()
    with_keys(world, instance_id, OWN_KEY)
    answer = replicate(world, session(world, instance_id))
    assert (answer["done"], answer["made"]) == (True, False)
    (problem,) = answer["problems"]
    assert (problem["severity"], problem["code"]) == (State.WARNING, "NotReplicated")
    assert "names no key" in problem["message"]
    assert vault(world).snapshots == {}


def test_a_region_without_a_target_is_a_warning() -> None:
    world = replicating({"source_region": WEST})
    (problem,) = replicate(world, session(world, world.add_instance()))["problems"]
    assert (problem["severity"], "has no replication target" in problem["message"]) == (State.WARNING, True)


def test_the_default_key_without_a_transfer_key_fails_before_anything_is_made() -> None:
    world = replicating({"role": "vault", "key_arn": THEIR_KEY})
    instance_id = world.add_instance()
    with_keys(world, instance_id, DEFAULT_KEY)
    (problem,) = replicate(world, session(world, instance_id))["problems"]
    assert (problem["severity"], "cannot be shared" in problem["message"]) == (State.FAILED, True)
    assert vault(world).snapshots == {}
    assert nothing_left(world)


def test_the_default_key_is_no_matter_within_an_account() -> None:
    world = replicating({"key_arn": f"arn:aws:kms:{WEST}:{ACCOUNT}:key/there"})
    instance_id = world.add_instance()
    with_keys(world, instance_id, DEFAULT_KEY)
    assert finished(world, session(world, instance_id))["made"] is True
    assert {one.tags[names.KIND] for one in world.home.snapshots.values()} == {"snapshot"}


def test_volumes_under_the_default_key_go_by_the_transfer_key_and_the_others_directly() -> None:
    world = replicating({"role": "vault", "key_arn": THEIR_KEY, "transfer_key_arn": TRANSFER_KEY})
    instance_id = world.add_instance(sizes=(1, 1, 1))
    with_keys(world, instance_id, DEFAULT_KEY, OWN_KEY, "")
    event = session(world, instance_id)
    replicate(world, event)
    transfers = [one for one in world.home.snapshots.values() if one.tags[names.KIND] == names.TRANSFER]
    assert [one.kms_key_arn for one in transfers] == [TRANSFER_KEY]
    assert len(vault(world).snapshots) == 2
    assert finished(world, event)["made"] is True
    (point,) = world.catalog.points(instance_id, Kind.REPLICA)
    assert set(point.snapshot_ids.values()) == set(vault(world).snapshots)
    assert nothing_left(world)


def test_a_transfer_is_never_taken_for_a_snapshot_of_the_restore_point() -> None:
    world = replicating({"role": "vault", "key_arn": THEIR_KEY, "transfer_key_arn": TRANSFER_KEY})
    instance_id = world.add_instance()
    with_keys(world, instance_id, DEFAULT_KEY)
    event = session(world, instance_id)
    replicate(world, event)
    world.home.complete_snapshots()
    assert session(world, instance_id)["snapshots"] == event["snapshots"]


def test_what_was_lent_and_made_for_a_replica_is_taken_back_when_it_fails() -> None:
    world = replicating({"role": "vault", "key_arn": THEIR_KEY, "transfer_key_arn": TRANSFER_KEY})
    instance_id = world.add_instance(sizes=(1, 1))
    with_keys(world, instance_id, DEFAULT_KEY, "")
    event = session(world, instance_id)
    replicate(world, event)
    assert not nothing_left(world)
    answer = replicate(world, event, abandon=True)
    assert (answer["done"], answer["made"], answer["problems"]) == (True, False, [])
    assert nothing_left(world)


def test_what_cannot_be_taken_back_is_told_and_done_by_a_later_pass() -> None:
    world = replicating({"role": "vault"})
    event = session(world, world.add_instance())
    replicate(world, event)
    world.refused[ACCOUNT] = AccessDeniedError("The role cannot be assumed.")
    (problem,) = replicate(world, event, abandon=True)["problems"]
    assert (problem["severity"], problem["code"]) == (State.WARNING, "AccessDenied")
    world.refused.clear()
    world.clock.advance(DEAD_AFTER + timedelta(minutes=1))
    assert clear_remains("", world) == []
    assert nothing_left(world)
    assert read_work(event["instance_id"], event["point_id"], world) is None


def test_what_a_crashed_session_left_goes_a_day_later_and_not_before() -> None:
    world = replicating({"role": "vault", "key_arn": THEIR_KEY, "transfer_key_arn": TRANSFER_KEY})
    instance_id = world.add_instance()
    with_keys(world, instance_id, DEFAULT_KEY)
    event = session(world, instance_id)
    replicate(world, event)
    clear_remains(instance_id, world)
    assert not nothing_left(world)
    world.clock.advance(DEAD_AFTER + timedelta(minutes=1))
    clear_remains(instance_id, world)
    assert nothing_left(world)


def test_a_transfer_that_nobody_wrote_down_is_found_by_its_tags() -> None:
    world = replicating({"role": "vault", "key_arn": THEIR_KEY, "transfer_key_arn": TRANSFER_KEY})
    instance_id = world.add_instance()
    with_keys(world, instance_id, DEFAULT_KEY)
    replicate(world, session(world, instance_id))
    world.catalog.part_records.clear()
    (lost,) = [one for one in world.home.snapshots.values() if one.tags[names.KIND] == names.TRANSFER]
    world.clock.advance(DEAD_AFTER + timedelta(minutes=1))
    later = {"session_id": "20261123T080000Z-daily-0123abcd", "slot": world.clock.now().isoformat()}
    finished(world, session(world, instance_id, **later))
    assert lost.snapshot_id not in world.home.snapshots


def test_a_full_region_is_a_queue_with_an_age() -> None:
    world = replicating({})
    event = session(world, world.add_instance(sizes=(1, 1, 1)))
    world.snapshot_copier(ACCOUNT, WEST).room = 1
    answer = replicate(world, event)
    assert (answer["done"], answer["queued"]) == (False, 2)
    since = answer["queued_since"]
    assert since == START.isoformat()
    world.clock.advance(timedelta(hours=2))
    answer = replicate(world, event, polls=9)
    assert (answer["queued"], answer["queued_since"], answer["wait_seconds"]) == (2, since, 300)
    world.snapshot_copier(ACCOUNT, WEST).room = 20
    assert replicate(world, event)["queued_since"] is None
    assert finished(world, event)["made"] is True


def test_a_queue_that_outlasts_the_session_is_told_with_its_age() -> None:
    world = replicating({})
    event = session(world, world.add_instance(sizes=(1, 1)))
    world.snapshot_copier(ACCOUNT, WEST).room = 1
    replicate(world, event)
    world.clock.advance(timedelta(hours=21))
    with pytest.raises(PermanentError, match=r"1 of 2 copies .*1 have waited .* since 2026-11-22 07:00"):
        replicate(world, event)


def test_snapshots_being_copied_are_left_alone_by_retention_of_other_sessions() -> None:
    world = replicating(
        {}, daily={"snapshots": {"hours": [7, 8, 9], "keep": 1}, "replicas": {"hours": [7], "keep": 2}}
    )
    instance_id = world.add_instance()
    event = session(world, instance_id)
    world.snapshot_copier(ACCOUNT, WEST).room = 0
    replicate(world, event)
    play(world, START + timedelta(hours=1))
    assert event["snapshots"][0]["snapshot_id"] in world.home.snapshots
    world.snapshot_copier(ACCOUNT, WEST).room = 20
    assert finished(world, event)["made"] is True


def test_a_copy_that_ebs_gave_up_is_removed_and_made_anew_by_the_retry() -> None:
    world = replicating({"role": "vault"})
    instance_id = world.add_instance(sizes=(1, 1))
    event = session(world, instance_id)
    replicate(world, event)
    good, broken = vault(world).snapshots.values()
    broken.state, broken.reason = "error", "Given key ID is not accessible"
    good.state = "completed"
    with pytest.raises(PermanentError, match="Given key ID is not accessible"):
        replicate(world, event)
    replicate(world, event, abandon=True)
    assert set(vault(world).snapshots) == {good.snapshot_id}
    world.clock.advance(timedelta(minutes=3))
    assert finished(world, event | {"attempt": 1})["made"] is True
    (point,) = world.catalog.points(instance_id, Kind.REPLICA)
    assert good.snapshot_id in point.snapshot_ids.values()
    assert set(point.snapshot_ids.values()) == set(vault(world).snapshots)


def test_a_broken_transfer_is_removed_and_told() -> None:
    world = replicating({"role": "vault", "key_arn": THEIR_KEY, "transfer_key_arn": TRANSFER_KEY})
    instance_id = world.add_instance()
    with_keys(world, instance_id, DEFAULT_KEY)
    event = session(world, instance_id)
    replicate(world, event)
    (transfer,) = [one for one in world.home.snapshots.values() if one.tags[names.KIND] == names.TRANSFER]
    transfer.state, transfer.reason = "error", "the key is disabled"
    with pytest.raises(PermanentError, match="the key is disabled"):
        replicate(world, event)
    assert transfer.snapshot_id not in world.home.snapshots


def test_a_call_without_an_answer_makes_no_second_copy() -> None:
    world = replicating({"role": "vault"})
    event = session(world, world.add_instance())
    copier = world.snapshot_copier(OTHER, WEST)
    copier.answers_lost, vault(world).lag = 1, timedelta(minutes=1)
    with pytest.raises(UnavailableError):
        replicate(world, event)
    assert replicate(world, event)["done"] is False
    assert finished(world, event)["made"] is True
    assert len(vault(world).snapshots) == 1


def test_a_copy_made_twice_is_removed_when_the_replica_is_done() -> None:
    world = replicating({"role": "vault"})
    event = session(world, world.add_instance())
    copier = world.snapshot_copier(OTHER, WEST)
    copier.answers_lost, vault(world).lag = 1, timedelta(minutes=10)
    with pytest.raises(UnavailableError):
        replicate(world, event)
    world.clock.advance(timedelta(minutes=3))
    replicate(world, event)
    assert len(vault(world).snapshots) == 2
    world.clock.advance(timedelta(minutes=10))
    assert finished(world, event)["made"] is True
    assert len(vault(world).snapshots) == 1


def test_a_snapshot_that_only_looks_like_our_copy_is_never_taken_for_it() -> None:
    world = replicating({"role": "vault"})
    instance_id = world.add_instance()
    event = session(world, instance_id)
    replicate(world, event)
    (copy,) = vault(world).snapshots.values()
    for number, call in enumerate(("", "0" * 16, copy.tags[names.CALL])):
        forged = replace(copy, snapshot_id=f"snap-forged{number}", state="completed")
        forged.tags = copy.tags | {names.CALL: call}
        forged.started_at = copy.started_at + timedelta(seconds=1)
        vault(world).snapshots[forged.snapshot_id] = forged
    assert finished(world, event)["made"] is True
    (point,) = world.catalog.points(instance_id, Kind.REPLICA)
    assert set(point.snapshot_ids.values()) == {copy.snapshot_id}
    assert len(vault(world).snapshots) == 4


def test_a_repeated_step_finds_the_replica_that_was_made() -> None:
    world = replicating({"role": "vault"})
    instance_id = world.add_instance()
    event = session(world, instance_id)
    finished(world, event)
    before = dict(vault(world).snapshots)
    assert replicate(world, event)["made"] is True
    assert vault(world).snapshots == before
    assert len(list(world.catalog.points(instance_id, Kind.REPLICA))) == 1


def test_a_source_that_was_deleted_ends_the_replica() -> None:
    world = replicating({})
    event = session(world, world.add_instance())
    world.home.snapshots.clear()
    with pytest.raises(SourceGoneError, match="was deleted"):
        replicate(world, event)


def test_a_replica_is_restored_where_it_lies_and_as_it_is_encrypted() -> None:
    world = replicating({"role": "vault", "key_arn": THEIR_KEY, "encrypt": "all"})
    instance_id = world.add_instance()
    event = session(world, instance_id)
    world.catalog.configurations[instance_id, event["point_id"]] = world.home.machines[instance_id]
    finished(world, event)
    target = {"account": OTHER, "region": WEST, "availability_zone": f"{WEST}a"}
    wish = {
        "restore_id": "restore-1",
        "kind": "volume",
        "instance_id": instance_id,
        "point_id": event["point_id"],
        "target": target,
    }
    plan = plan_restore(parse(RestoreRequest, wish), world)
    assert [one["snapshot_id"] for one in plan["volumes"]] == list(vault(world).snapshots)
    plain = wish | {"target": target | {"encrypted": False}}
    with pytest.raises(PermanentError, match="no unencrypted volume"):
        plan_restore(parse(RestoreRequest, plain), world)


def test_a_stopped_session_starts_no_replica() -> None:
    world = replicating({})
    event = session(world, world.add_instance())
    world.catalog.write_part(event["session_id"], STOP, {"by": "anna"}, at=START)
    with pytest.raises(StoppedError):
        replicate(world, event)
    assert vault(world, ACCOUNT).snapshots == {}


def test_an_excluded_volume_needs_no_key() -> None:
    world = replicating({"role": "vault"}, exclude_volumes={"tags": [{"key": "scratch"}]})
    instance_id = world.add_instance(sizes=(1, 1))
    with_keys(world, instance_id, "", OWN_KEY)
    machine = world.home.machines[instance_id]
    first, second = machine.instance.volumes
    volumes: tuple[AttachedVolume, ...] = (first, second.model_copy(update={"tags": {"scratch": ""}}))
    world.adjust(instance_id, instance=machine.instance.model_copy(update={"volumes": volumes}))
    assert finished(world, session(world, instance_id))["made"] is True
