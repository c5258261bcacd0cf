"""An image-level backup becomes visible: the manifest last of all, then the catalog, then the base moves on.

Nothing is written before every segment of the plan has its result; the snapshot that the last backup was made
of is released only after the manifest of this one is there.
"""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from holdfast.dataplane.outcome import Counts
from holdfast.errors import HoldfastError, NotFoundError, PermanentError
from holdfast.model import tags as names
from holdfast.model.configuration import SlaPolicy
from holdfast.model.inventory import InstanceConfiguration
from holdfast.model.restore_point import Kind
from holdfast.operations.services import Services
from holdfast.operations.sessions.flags import flags_due
from holdfast.operations.sessions.move_segment import result_key
from holdfast.operations.sessions.stop_marks import is_stopped, require_running
from holdfast.operations.steps import SnapshotSet, find_policy
from holdfast.planning.protection import keeps_base
from holdfast.repository.layout import PointName
from holdfast.repository.manifest import (
    PointManifest,
    VolumeManifest,
    manifest_root,
    restore_point,
    volume_manifest,
)
from holdfast.repository.map import SegmentRef
from holdfast.repository.repository import Repository

log = logging.getLogger(__name__)

READS_AT_ONCE = 8


class CommitBackup(SnapshotSet):
    """A set of snapshots whose segments were all moved."""

    plan_key: str
    repository: str


def commit_backup(request: CommitBackup, services: Services) -> dict[str, Any]:
    """Write manifest and catalog entry.

    Raises ConflictError when another backup has taken the name, StoppedError.
    """
    plan = services.work.read(request.plan_key)
    repository = services.repository(request.repository)
    warnings = list(plan["warnings"])
    total = Counts()
    name = PointName(request.instance_id, request.point_id)
    if is_stopped(request.session_id, services.catalog) and not _is_visible(name, repository):
        what = "its backup was abandoned, and nothing of it is visible; its snapshot is kept."
        require_running(request.session_id, services.catalog, what, resource=request.instance_id)
    if plan["committed"]:
        manifest = repository.read_point(name)
    else:
        volumes, total, full = _volumes(request, plan, services)
        manifest = repository.commit_point(
            _manifest(request, volumes, total, full, services),
            ids=services.ids,
            installation=services.settings.installation,
        )
    services.catalog.add_point(restore_point(manifest, request.repository), manifest.configuration)
    warnings += _move_base(request, services)
    log.info("%s: backup %s committed, root %s", request.instance_id, request.point_id, manifest.root)
    return {
        "full": manifest.full,
        "bytes_read": total.bytes_read,
        "bytes_stored": total.bytes_stored,
        "blocks_read": total.blocks_read,
        "requests": dict(total.requests),
        "root_digest": manifest.root,
        "warnings": warnings,
    }


def _is_visible(name: PointName, repository: Repository) -> bool:
    """Whether an earlier try has written the manifest, so that only the rest is left to do."""
    try:
        repository.read_point(name)
    except NotFoundError:
        return False
    return True


def _volumes(
    request: CommitBackup, plan: dict[str, Any], services: Services
) -> tuple[list[VolumeManifest], Counts, bool]:
    """The volumes with their new maps, the work done, and whether everything allocated was read."""
    volumes: list[VolumeManifest] = []
    total, full = Counts(), True
    with ThreadPoolExecutor(READS_AT_ONCE) as pool:
        for told in plan["volumes"]:
            maps = [SegmentRef.from_json(ref) if ref else None for ref in told["segments"]]
            keys = [
                result_key(request.instance_prefix, told["volume_id"], index) for index in told["touched"]
            ]
            results = list(pool.map(lambda key: _result(key, services), keys))
            for index, result in zip(told["touched"], results, strict=True):
                maps[index] = SegmentRef.from_json(result["ref"]) if result["ref"] else None
                total += Counts.from_json(result["counts"])
            full = full and (not told["tracked"] or bool(results)) and all(one["full"] for one in results)
            volumes.append(
                volume_manifest(
                    told["volume_id"], told["device"], told["size_bytes"], maps, told["snapshot_id"]
                )
            )
    return volumes, total, full


def _result(key: str, services: Services) -> dict[str, Any]:
    try:
        found: dict[str, Any] = services.work.read(key)
    except NotFoundError as error:
        raise PermanentError(
            "A worker's result is missing, although it reported success.",
            resource=key,
            remedy="The next session or a retry reads this volume again.",
        ) from error
    return found


def _manifest(
    request: CommitBackup, volumes: list[VolumeManifest], total: Counts, full: bool, services: Services
) -> PointManifest:
    return PointManifest(
        point_id=request.point_id,
        kind=Kind.BACKUP,
        taken_at=request.taken_at,
        session_id=request.session_id,
        policy=request.policy,
        flags=flags_due(request, Kind.BACKUP, services),
        manual=request.manual,
        full=full,
        stored_bytes=total.bytes_stored,
        configuration=_configuration(request, services),
        volumes=tuple(volumes),
        root=manifest_root(volumes),
    )


def _configuration(request: CommitBackup, services: Services) -> InstanceConfiguration:
    """What take_snapshots captured: a part of the session, and beside the snapshot's restore point."""
    part = services.catalog.read_part(request.session_id, request.capture_part)
    if part is not None:
        return InstanceConfiguration.model_validate(part["configuration"])
    return services.catalog.configuration(request.instance_id, request.point_id)


def _move_base(request: CommitBackup, services: Services) -> list[str]:
    """Mark the snapshots that the next backup compares with; release those of the last backup here.

    Those that an SLA template keeps stay marked for the retention pass of this day, which judges the chain as
    it stood before this backup and then lifts the mark; temporary ones go now (vectors CBT-2 and CBT-3).

    A session that a later one has overtaken moves nothing: the next backup builds on the later one. The
    backup stands without this, so a refusal is a warning: the next backup reads more, nothing is lost.
    """
    policy = find_policy(services.configuration, request.policy)
    spoke = services.spoke(request.policy, request.account, request.region)
    ours = {names.INSTALLATION: services.settings.installation, names.INSTANCE: request.instance_id}
    own = {one.snapshot_id for one in request.snapshots}
    overtaken = any(
        point.repository == request.repository and point.complete and point.point_id > request.point_id
        for point in services.catalog.points(request.instance_id, Kind.BACKUP)
    )
    try:
        if keeps_base(services.configuration, policy) and not overtaken:
            for snapshot_id in sorted(own):
                spoke.tag_snapshot(snapshot_id, {names.BASE: request.repository})
        for snapshot_id in sorted(own):
            spoke.untag_snapshot(snapshot_id, [names.IN_USE])
        if overtaken:
            return []
        for one in spoke.find_snapshots(ours):
            # Also what this policy marked for a repository that was its target before.
            base, made_by = one.tags.get(names.BASE), one.tags.get(names.POLICY)
            released = base == request.repository or (base is not None and made_by == request.policy)
            waits = isinstance(policy, SlaPolicy) and one.tags.get(names.KIND) == Kind.SNAPSHOT
            if released and one.snapshot_id not in own and not waits:
                spoke.untag_snapshot(one.snapshot_id, [names.BASE])
    except HoldfastError as error:
        return [f"The snapshot for the next comparison could not be marked: {error}"]
    return []
