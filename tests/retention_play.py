"""Plays a retention pass as its state machine does, step after step, on the operations themselves."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from holdfast.errors import HoldfastError
from holdfast.model import tags as names
from holdfast.model.configuration import Configuration
from holdfast.model.ids import point_id, session_id, slot_of, stamp
from holdfast.model.inventory import InstanceConfiguration
from holdfast.model.restore_point import Kind, RestorePoint
from holdfast.model.session import Problem, Session
from holdfast.operations.retention.conclude_retention import ConcludeRetention, conclude_retention
from holdfast.operations.retention.expire_backups import ExpireBackups, expire_backups
from holdfast.operations.retention.plan_retention import PlanRetention, plan_retention
from holdfast.operations.retention.retain_snapshots import RetainSnapshots, retain_snapshots
from tests.session_play import Event, Failed, step
from tests.session_world import (
    ACCOUNT,
    INSTALLATION,
    POLICY,
    REGION,
    AccountRegion,
    SessionWorld,
    Snapshot,
)


class PassWorld(SessionWorld):
    """The small world of sessions with what a pass needs besides: accounts entered by number.

    ``entered`` are the roles by which accounts were entered; ``closed`` maps (account, Region) to why nobody
    can enter there.
    """

    def __init__(self, configuration: Configuration | None = None) -> None:
        super().__init__(configuration)
        self.entered: dict[str, str] = {}
        self.closed: dict[tuple[str, str], HoldfastError] = {}

    def spoke_in(self, account: str, region: str, role: str = "") -> AccountRegion:
        self.entered[account] = role
        if (account, region) in self.closed:
            raise self.closed[account, region]
        return self.spoke("", account, region)

    def terminate(self, instance_id: str) -> None:
        """Nobody sees the instance any more."""
        for spoke in self.regions.values():
            spoke.machines.pop(instance_id, None)

    def retag(self, instance_id: str, **tags: str) -> None:
        """Give an instance these tags, and no others."""
        for spoke in self.regions.values():
            if instance_id in spoke.machines:
                machine = spoke.machines[instance_id]
                instance = machine.instance.model_copy(update={"tags": tags})
                spoke.machines[instance_id] = InstanceConfiguration(instance=instance)

    def put(
        self,
        instance_id: str,
        taken_at: datetime,
        flags: str = "D",
        *,
        policy: str = POLICY,
        account: str = ACCOUNT,
        region: str = REGION,
        kind: Kind = Kind.SNAPSHOT,
        listed: bool = True,
        **tags: str,
    ) -> str:
        """A restore point of one volume, as a session of ``policy`` left it; returns the snapshot's id."""
        session = session_id(policy, taken_at)
        point = point_id(session, instance_id)
        snapshot_id = f"snap-{next(self.numbers):017x}"
        volume_id = "vol-" + instance_id.removeprefix("i-")
        own = {
            names.INSTALLATION: INSTALLATION,
            names.POLICY: policy,
            names.INSTANCE: instance_id,
            names.POINT: point,
            names.SESSION: session,
            names.SLOT: stamp(taken_at),
            names.FLAGS: flags or "-",
            names.KIND: kind.value,
            names.VOLUME: volume_id,
            names.VOLUMES: "1",
            names.SET: point,
        }
        merged = {key: value for key, value in (own | tags).items() if value}
        spoke = self.spoke(policy, account, region)
        spoke.snapshots[snapshot_id] = Snapshot(
            snapshot_id, volume_id, "completed", taken_at, 1 << 30, merged
        )
        if listed:
            self.catalog.add_point(
                RestorePoint(
                    point_id=point,
                    kind=kind,
                    account=account,
                    region=region,
                    instance_id=instance_id,
                    taken_at=taken_at,
                    session_id=session,
                    policy=policy,
                    flags=names.decode_flags(flags),
                    temporary=merged.get(names.KIND) == names.TEMPORARY,
                    snapshot_ids={volume_id: snapshot_id},
                )
            )
        return snapshot_id

    def left(self, account: str = ACCOUNT, region: str = REGION) -> list[str]:
        """The snapshots that are there, as month and day."""
        return sorted(f"{_age(one):%m-%d}" for one in self.spoke("", account, region).snapshots.values())

    @property
    def listed(self) -> list[str]:
        """The restore points of the catalog that are offered, as month and day."""
        points = self.catalog.point_records.values()
        return sorted(f"{one.taken_at:%m-%d}" for one in points if one.complete)


def _age(one: Snapshot) -> datetime:
    return slot_of(one.tags.get(names.POINT, "")) or one.started_at


def play_pass(world: PassWorld, at: datetime | None = None, policy: str = "") -> Event:
    """Run a pass to its end; returns what conclude_retention answered."""
    world.clock.current = at or world.clock.current
    event: Event = {"pass_id": f"retention-{stamp(world.clock.now())}-daily", "policy": policy}
    end: Event = {**event, "error": None, "backups": None, "backups_error": None}
    try:
        planned = step(PlanRetention, plan_retention, event, world)
    except Failed as failed:
        return step(ConcludeRetention, conclude_retention, {**end, "error": failed.output}, world)
    for place in world.work.read(planned["items_key"]):
        play_place(world, {**event, **place})
    if not policy:
        try:
            end["backups"] = step(ExpireBackups, expire_backups, {}, world)
        except Failed as failed:
            end["backups_error"] = failed.output
    return step(ConcludeRetention, conclude_retention, end, world)


def play_place(world: PassWorld, event: Event) -> None:
    """The inner machine of one account and Region."""
    cursor, error, done = "", None, False
    while not done:
        now: Event = {**event, "cursor": cursor, "error": error}
        try:
            answer = step(RetainSnapshots, retain_snapshots, now, world)
            cursor, done = answer["cursor"], answer["done"]
        except Failed as failed:
            error, done = failed.output, error is not None


def newest_pass(world: SessionWorld) -> Session:
    """The record of the newest pass."""
    found = [one for one in world.catalog.session_records.values() if one.session_id.startswith("retention")]
    return max(found, key=lambda one: one.started_at)


def problems(world: SessionWorld) -> dict[str, Problem]:
    """The problems in the record of the newest pass, by code."""
    return {one.code: one for one in newest_pass(world).problems}


def two_policies(*, first: dict[str, Any], second: dict[str, Any], **parts: Any) -> Configuration:
    """Policies ``first`` and ``second`` (by tag ``backup``), the first before the second."""
    policies = [
        {
            "name": name,
            "priority": number,
            "source": {"role": "production"},
            "regions": [REGION],
            "selection": {"tags": [{"key": "backup", "value": name}]},
            **body,
        }
        for number, (name, body) in enumerate({"first": first, "second": second}.items(), start=1)
    ]
    return Configuration.model_validate(
        {
            "backup_account": "999999999999",
            "hub_region": REGION,
            "roles": [{"name": "production", "arn": f"arn:aws:iam::{ACCOUNT}:role/HoldfastBackup"}],
            "repositories": [{"name": "main", "bucket": "holdfast-main", "region": REGION}],
            "policies": policies,
            **parts,
        }
    )
