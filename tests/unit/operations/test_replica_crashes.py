"""A sandbox that dies at any change on the way of a replica: the next step completes it, nothing is left."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from holdfast.model import tags as names
from holdfast.model.restore_point import Kind
from holdfast.model.session import State
from holdfast.operations.replicas.copying import WORK
from tests.restore_world import RestoreWorld
from tests.session_play import Crash, play
from tests.session_world import ACCOUNT, REGION, START, configured

OTHER, WEST = "444455556666", "eu-west-1"
DEFAULT_KEY = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/aws-ebs"
TARGET = {
    "source_region": REGION,
    "region": WEST,
    "role": "vault",
    "key_arn": f"arn:aws:kms:{WEST}:{OTHER}:key/theirs",
    "transfer_key_arn": f"arn:aws:kms:{REGION}:{ACCOUNT}:key/transfer",
}


def a_world() -> tuple[RestoreWorld, str]:
    """An instance with a plain volume and one under the default key; one replica is kept."""
    hours = list(range(24))
    world = RestoreWorld(
        configured(
            roles=[
                {"name": "production", "arn": f"arn:aws:iam::{ACCOUNT}:role/HoldfastBackup"},
                {"name": "vault", "arn": f"arn:aws:iam::{OTHER}:role/HoldfastVault"},
            ],
            daily={"snapshots": {"hours": hours, "keep": 2}, "replicas": {"hours": hours, "keep": 1}},
            repository="",
            retries=0,
            replication=[TARGET],
        )
    )
    instance_id = world.add_instance(sizes=(1, 1))
    machine = world.home.machines[instance_id]
    plain, other = machine.instance.volumes
    secret = other.model_copy(update={"encrypted": True, "kms_key_arn": DEFAULT_KEY})
    world.adjust(instance_id, instance=machine.instance.model_copy(update={"volumes": (plain, secret)}))
    return world, instance_id


def crashing(world: RestoreWorld, log: list[str], die_at: int | None, *, after: bool) -> None:
    """Count every call that changes something; die before or after the ``die_at``-th."""

    def wrap(owner: Any, name: str) -> None:
        plain = getattr(owner, name)

        def call(*arguments: Any, **more: Any) -> Any:
            log.append(name)
            dies = len(log) == die_at
            if dies and not after:
                raise Crash
            result = plain(*arguments, **more)
            if dies:
                raise Crash
            return result

        setattr(owner, name, call)

    for account, region in ((ACCOUNT, REGION), (OTHER, WEST)):
        for name in ("create_snapshots", "tag_snapshot", "untag_snapshot", "delete_snapshot"):
            wrap(world.spoke("", account, region), name)
        for name in ("share", "unshare", "copy"):
            wrap(world.snapshot_copier(account, region), name)
    for name in ("begin_session", "write_session", "write_part", "remove_part", "add_point", "remove_point"):
        wrap(world.catalog, name)


def second_session(die_at: int | None, *, after: bool) -> tuple[RestoreWorld, list[str], str]:
    """Two sessions; the second one, in which the sandbox dies, removes the replica of the first."""
    world, instance_id = a_world()
    play(world)
    log: list[str] = []
    crashing(world, log, die_at, after=after)
    play(world, START + timedelta(hours=1))
    return world, log, instance_id


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_crash_at_any_change_leaves_one_whole_replica_and_nothing_lent(after: bool) -> None:
    total = len(second_session(None, after=after)[1])
    assert total > 30
    for die_at in range(1, total + 1):
        world, log, instance_id = second_session(die_at, after=after)
        where = f"{'after' if after else 'before'} change {die_at}: {log[die_at - 1]}"
        session_id = max(world.catalog.session_records)
        assert world.catalog.read_session(session_id).state is State.SUCCESS, where
        (replica,) = [one for one in world.catalog.points(instance_id, Kind.REPLICA) if one.complete]
        assert replica.session_id == session_id, where
        vault = world.spoke("", OTHER, WEST).snapshots
        assert set(vault) == set(replica.snapshot_ids.values()), where
        assert {one.tags[names.VOLUME] for one in vault.values()} == replica.snapshot_ids.keys(), where
        home = world.home.snapshots.values()
        assert {one.tags[names.KIND] for one in home} == {"snapshot"}, where
        assert not any(names.COPYING in one.tags for one in home), where
        assert not any(world.snapshot_copier(ACCOUNT, REGION).shared.values()), where
        assert list(world.catalog.parts(WORK, "")) == [], where
