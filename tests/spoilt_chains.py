"""Chains of snapshots that retention judges: made by real steps, spoilt by hand."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from holdfast.model import tags as names
from holdfast.operations.retention.apply_retention import ApplyRetention, apply_retention
from tests.session_world import (
    ACCOUNT,
    POLICY,
    REGION,
    START,
    AccountRegion,
    SessionWorld,
    Snapshot,
    configured,
)
from tests.snapshots import block
from tests.unit.operations.test_take_snapshots import event


def there(world: SessionWorld) -> AccountRegion:
    return world.spoke(POLICY, ACCOUNT, REGION)


def hour(number: int) -> Any:
    return START.replace(hour=0) + timedelta(hours=number)


def a_world(**changes: Any) -> tuple[SessionWorld, str]:
    world = SessionWorld(configured(**changes))
    instance_id = world.add_instance(sizes=(1, 1))
    world.disks[world.volumes(instance_id)[0].volume_id] = {0: block("boot")}
    return world, instance_id


def chain(world: SessionWorld) -> list[str]:
    """The restore points that snapshots make, by hour, ``*`` at the base."""
    found: dict[str, bool] = {}
    for one in there(world).snapshots.values():
        if one.tags.get(names.INSTALLATION) == "holdfast":
            label = f"{one.started_at:%H}"
            found[label] = found.get(label, False) or names.BASE in one.tags
    return [label + "*" * is_base for label, is_base in sorted(found.items())]


def deleted(world: SessionWorld) -> list[str]:
    return [argument for operation, argument in there(world).calls if operation == "delete_snapshot"]


def retain(world: SessionWorld, instance_id: str) -> dict[str, Any]:
    return apply_retention(ApplyRetention.model_validate(event(instance_id)), world)


def foreign(world: SessionWorld, instance_id: str, **tags: str) -> Snapshot:
    """A snapshot like ours, old enough to go, but for ``tags`` (empty: without that tag)."""
    real = next(iter(there(world).snapshots.values()))
    merged = {**real.tags, **{key.replace("_", "-"): value for key, value in tags.items()}}
    snapshot = Snapshot(
        f"snap-{next(world.numbers) + 0xF000:017x}",
        real.volume_id,
        "completed",
        START - timedelta(days=400),
        real.size_bytes,
        {key: value for key, value in merged.items() if value},
    )
    there(world).snapshots[snapshot.snapshot_id] = snapshot
    return snapshot


def retain_at(world: SessionWorld, instance_id: str, number: int) -> dict[str, Any]:
    world.clock.current = hour(number)
    return retain(world, instance_id)
