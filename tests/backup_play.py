"""One instance whose backup is planned, moved and committed step by step, in memory."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from holdfast.model import tags as names
from holdfast.model.blocks import SEGMENT_BLOCKS
from holdfast.operations.sessions.move_segment import MoveSegment, move_segment
from holdfast.operations.sessions.plan_backup import PlanBackup, plan_backup
from holdfast.repository.manifest import PointManifest
from tests.session_play import step
from tests.session_world import (
    ACCOUNT,
    POLICY,
    REGION,
    REPOSITORY,
    START,
    AccountRegion,
    SessionWorld,
    configured,
)
from tests.snapshots import block
from tests.unit.operations.test_take_snapshots import check, event, take

HOURS_17 = START + timedelta(hours=10)
SEVEN = {"backup_flags": "D"}


def there(world: SessionWorld) -> AccountRegion:
    return world.spoke(POLICY, ACCOUNT, REGION)


def a_world(*, sizes: tuple[int, ...] = (1,), **changes: Any) -> tuple[SessionWorld, str]:
    world = SessionWorld(configured(**changes))
    instance_id = world.add_instance(sizes=sizes)
    for volume in world.volumes(instance_id):
        write(world, volume.volume_id, {0: "boot", 7: "data", 2047: "end"})
    return world, instance_id


def write(world: SessionWorld, volume_id: str, blocks: dict[int, str | int]) -> None:
    made = {seed: block(seed) for seed in set(blocks.values())}
    world.disks[volume_id] |= {index: made[seed] for index, seed in blocks.items()}


def disk(world: SessionWorld, instance_id: str, number: int = 0) -> str:
    return world.volumes(instance_id)[number].volume_id


def ready(world: SessionWorld, instance_id: str) -> dict[str, Any]:
    """The event of an instance whose snapshots are complete."""
    taken = take(world, instance_id, **SEVEN)
    check(world, instance_id, taken)
    return {**event(instance_id, **SEVEN), **taken}


def planned(world: SessionWorld, complete: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    plan = step(PlanBackup, plan_backup, complete, world)
    return plan, world.work.read(plan["items_key"])


def move(
    world: SessionWorld, complete: dict[str, Any], plan: dict[str, Any], item: dict[str, Any]
) -> dict[str, Any]:
    return step(MoveSegment, move_segment, {**complete, **plan, **item}, world)


def newest(world: SessionWorld, instance_id: str) -> PointManifest:
    repository = world.repository(REPOSITORY)
    return repository.read_point(max(repository.list_points(instance_id)))


def content(world: SessionWorld, manifest: PointManifest, number: int = 0) -> dict[int, bytes]:
    """The blocks of a volume as the repository gives them back."""
    repository = world.repository(REPOSITORY)
    found: dict[int, bytes] = {}
    for index, ref in enumerate(manifest.volumes[number].segments):
        first = index * SEGMENT_BLOCKS
        held = repository.load_map(ref, first).blocks(first, first + SEGMENT_BLOCKS)
        found |= dict(repository.read_blocks(held, ref.epoch if ref else None))
    return found


def base_tags(world: SessionWorld) -> dict[str, str]:
    return {
        one.snapshot_id: one.tags[names.BASE]
        for one in there(world).snapshots.values()
        if names.BASE in one.tags
    }
