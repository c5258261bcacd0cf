"""How each volume of a restore point is read, decided before anything is read.

A segment is left out only when EBS says that nothing changed in it since the very snapshot that its last map
was made of; whatever else is uncertain is read and compared by digest.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from holdfast.errors import ConfigurationError, ConflictError, NotFoundError, SourceGoneError
from holdfast.model.blocks import SEGMENT_BLOCKS, Segment, block_count, segments
from holdfast.operations.services import Services
from holdfast.operations.sessions.backup_source import last_backup
from holdfast.operations.sessions.stop_marks import require_running
from holdfast.operations.steps import SnapshotSet, TakenSnapshot, find_policy
from holdfast.planning.protection import repository_for
from holdfast.ports import SnapshotReader, Spoke
from holdfast.repository.layout import PointName
from holdfast.repository.manifest import PointManifest, VolumeManifest
from holdfast.repository.map import SegmentRef
from holdfast.repository.repository import Repository

log = logging.getLogger(__name__)

SKIM = 2_000
"""Changed blocks of one segment that are skimmed before the listing jumps to the next segment."""


class PlanBackup(SnapshotSet):
    """A complete set of snapshots."""


@dataclass(slots=True)
class VolumePlan:
    """One volume: the maps it starts from, and the segments that have to be read (by index).

    ``base_snapshot_id`` is empty where changed block tracking is impossible.
    """

    snapshot: TakenSnapshot
    base_snapshot_id: str = ""
    previous: list[SegmentRef | None] = field(default_factory=list)
    touched: list[Segment] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        return {
            **self.snapshot.model_dump(),
            "tracked": bool(self.base_snapshot_id),
            "segments": [ref and ref.to_json() for ref in self.previous],
            "touched": [segment.index for segment in self.touched],
        }

    def items(self) -> Iterator[dict[str, Any]]:
        for segment in self.touched:
            ref = self.previous[segment.index]
            yield {
                "volume_id": self.snapshot.volume_id,
                "snapshot_id": self.snapshot.snapshot_id,
                "base_snapshot_id": self.base_snapshot_id,
                "size_bytes": self.snapshot.size_bytes,
                "segment": list(segment),
                "previous": ref and ref.to_json(),
            }


def plan_backup(request: PlanBackup, services: Services) -> dict[str, Any]:
    """Write the plan and the list of segments to read.

    Raises ConflictError for a repository of somebody else, KeyUnavailableError, DamagedError, StoppedError.
    """
    policy = find_policy(services.configuration, request.policy)
    target = repository_for(services.configuration, policy, request.region)
    if not target:
        raise ConfigurationError(
            "A backup is due, but the policy names no repository.",
            resource=policy.name,
            remedy="Set `repository` in the policy, or `backups` in its storage template.",
        )
    what = "no backup of this instance was made; its snapshot is kept."
    require_running(request.session_id, services.catalog, what, resource=request.instance_id)
    repository = services.repository(target, create=True)
    plan_key = f"{request.instance_prefix}/plan.json"
    items_key = f"{request.instance_prefix}/segments.json"
    if _is_committed(request, repository):
        plan: dict[str, Any] = {"committed": True, "volumes": [], "warnings": []}
        volumes: list[VolumePlan] = []
    else:
        previous, warnings = last_backup(
            request.instance_id, request.point_id, repository, target, services.catalog
        )
        spoke = services.spoke(request.policy, request.account, request.region)
        reader = services.reader(request.policy, request.account, request.region)
        bases = _bases(previous, spoke)
        volumes = [_plan_volume(taken, previous, bases, reader) for taken in request.snapshots]
        plan = {
            "committed": False,
            "previous": previous.point_id if previous else "",
            "volumes": [volume.to_json() for volume in volumes],
            "warnings": warnings,
        }
    items = [item for volume in volumes for item in volume.items()]
    services.work.write(items_key, items)
    services.work.write(plan_key, plan)
    return {
        "segments": len(items),
        "full": not any(volume.base_snapshot_id for volume in volumes),
        "plan_key": plan_key,
        "items_key": items_key,
        "work_prefix": request.instance_prefix,
        "repository": target,
    }


def _is_committed(request: PlanBackup, repository: Repository) -> bool:
    """Whether an earlier try has written the manifest and only what follows is left to do."""
    try:
        found = repository.read_point(PointName(request.instance_id, request.point_id))
    except NotFoundError:
        return False
    return found.session_id == request.session_id


def _bases(previous: PointManifest | None, spoke: Spoke) -> set[str]:
    """Snapshots of the last backup that are still there to compare with."""
    wanted = [volume.snapshot_id for volume in previous.volumes if volume.snapshot_id] if previous else []
    if not wanted:
        return set()
    return {one.snapshot_id for one in spoke.read_snapshots(wanted) if one.state == "completed"}


def _plan_volume(
    taken: TakenSnapshot, previous: PointManifest | None, bases: set[str], reader: SnapshotReader
) -> VolumePlan:
    before = _volume(previous, taken.volume_id)
    whole = list(segments(taken.size_bytes))
    known = list(before.segments) if before else []
    maps: list[SegmentRef | None] = [known[s.index] if s.index < len(known) else None for s in whole]
    if before is None or before.snapshot_id not in bases or before.size_bytes > taken.size_bytes:
        return VolumePlan(taken, "", maps, whole)
    try:
        touched = _touched(reader, before.snapshot_id, taken)
    except (SourceGoneError, ConflictError) as error:
        log.warning("%s is read as a whole: %s", taken.volume_id, error)
        return VolumePlan(taken, "", maps, whole)
    return VolumePlan(taken, before.snapshot_id, maps, [one for one in whole if one.index in touched])


def _volume(previous: PointManifest | None, volume_id: str) -> VolumeManifest | None:
    return next((one for one in previous.volumes if one.volume_id == volume_id), None) if previous else None


def _touched(reader: SnapshotReader, base_id: str, taken: TakenSnapshot) -> set[int]:
    """Indexes of segments with a changed block.

    The listing is bounded: after some changed blocks of one segment it begins again at the next one, so it
    costs at most a few pages per touched segment however many blocks changed.
    """
    found: set[int] = set()
    start, end = 0, block_count(taken.size_bytes)
    while start < end:
        skimmed, start_at = 0, end
        for ref in reader.changed(base_id, taken.snapshot_id, start, end):
            index = ref.index // SEGMENT_BLOCKS
            skimmed = skimmed + 1 if index in found else 1
            found.add(index)
            if skimmed >= SKIM:
                start_at = (index + 1) * SEGMENT_BLOCKS
                break
        start = start_at
    return found
