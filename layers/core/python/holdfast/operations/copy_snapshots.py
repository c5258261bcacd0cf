"""Copy a set of snapshots to another Region or account.

One step of a polled loop: it starts what is missing, looks at what is under way, and says whether all is
done. Copies are found again by their tags, so a repeated step never copies twice; what was shared for the
copy is unshared when it is done, and when it is given up.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import Field

from holdfast.errors import PermanentError, SourceGoneError, ThrottledError
from holdfast.model import tags as names
from holdfast.model.ids import parse_stamp
from holdfast.model.inventory import Value
from holdfast.model.restore import AccountId, InstanceId, KeyArn, PointId, Region
from holdfast.model.restore_point import Kind, RestorePoint
from holdfast.operations.manual_snapshot import remember_expiry

if TYPE_CHECKING:
    from holdfast.operations.services import OnDemandServices
    from holdfast.ports import SnapshotCopier, VolumeSnapshot


class CopyTarget(Value):
    """Where copies go. ``role`` names a role or organization of the configuration; empty: the account's."""

    account: AccountId
    region: Region
    role: str = ""
    kms_key_arn: KeyArn = ""


class CopySnapshots(Value):
    """A set of snapshots (volume id to snapshot id) of one instance, and where to copy it.

    ``abandon``: the copy failed; only what was shared for it is taken back.
    """

    point_id: PointId
    instance_id: InstanceId
    instance_name: str = ""
    account: AccountId
    region: Region
    role: str = ""
    snapshots: dict[str, str] = Field(min_length=1)
    target: CopyTarget
    tags: dict[str, str] = Field(default_factory=dict)
    abandon: bool = False


def copy_snapshots(request: CopySnapshots, services: OnDemandServices) -> Mapping[str, Any]:
    """Start missing copies and report: ``{"done": bool, "copies": {volume id: snapshot id}}``.

    When 20 copies are under way in the target Region already, the rest is started by a later step. Raises
    SourceGoneError, PermanentError (a source or copy ended in error, or cannot be shared), AccessDeniedError.
    """
    source = services.snapshot_copier(request.account, request.region, request.role)
    answer = {"done": True, "copies": {}} if request.abandon else _copy(request, source, services)
    if answer["done"]:
        _unshare(request, source)
    return answer


def _copy(request: CopySnapshots, source: SnapshotCopier, services: OnDemandServices) -> dict[str, Any]:
    target = request.target
    here = services.spoke_in(request.account, request.region, request.role)
    sources = {s.snapshot_id: s for s in here.read_snapshots(sorted(request.snapshots.values()))}
    if not _checked(sources, request.snapshots):
        return {"done": False, "copies": {}}
    there = services.spoke_in(target.account, target.region, target.role)
    marks = {
        names.INSTALLATION: services.settings.installation,
        names.POINT: request.point_id,
        names.KIND: Kind.REPLICA.value,
    }
    found = {s.tags.get(names.VOLUME, ""): s for s in there.find_snapshots(marks)}
    copies = {volume_id: found[volume_id] for volume_id in request.snapshots if volume_id in found}
    made = {volume_id: one.snapshot_id for volume_id, one in copies.items()}
    if len(copies) < len(request.snapshots):
        missing = {v: sources[s] for v, s in request.snapshots.items() if v not in copies}
        return {"done": False, "copies": made | _start(request, missing, marks, source, services)}
    if not _checked({one.snapshot_id: one for one in copies.values()}, made):
        return {"done": False, "copies": made}
    _record(request, copies, services)
    return {"done": True, "copies": made}


def _checked(found: Mapping[str, VolumeSnapshot], wanted: Mapping[str, str]) -> bool:
    """Whether every wanted snapshot is completed. Raises SourceGoneError, PermanentError."""
    for volume_id, snapshot_id in sorted(wanted.items()):
        snapshot = found.get(snapshot_id)
        if snapshot is None:
            raise SourceGoneError(
                f"The snapshot of {volume_id} was deleted.",
                resource=snapshot_id,
                remedy="Take a new snapshot.",
            )
        if snapshot.state == "error":
            raise PermanentError(
                f"The snapshot of {volume_id} ended in error: {snapshot.reason or 'EBS gave no reason'}.",
                resource=snapshot_id,
                remedy="Check the KMS key of the snapshot and the role's permissions on it.",
            )
    return all(found[snapshot_id].state == "completed" for snapshot_id in wanted.values())


def _start(
    request: CopySnapshots,
    missing: Mapping[str, VolumeSnapshot],
    marks: Mapping[str, str],
    source: SnapshotCopier,
    services: OnDemandServices,
) -> dict[str, str]:
    """Start copies of the missing volumes, as many as the target Region takes now."""
    target = request.target
    writer = services.snapshot_copier(target.account, target.region, target.role)
    started: dict[str, str] = {}
    for volume_id, snapshot in sorted(missing.items()):
        if target.account != request.account:
            source.share(snapshot.snapshot_id, target.account)
        try:
            started[volume_id] = writer.copy(
                snapshot.snapshot_id,
                request.region,
                encrypted=snapshot.encrypted,
                kms_key_arn=target.kms_key_arn,
                description=f"Copy of {snapshot.snapshot_id} ({request.instance_id})",
                tags={
                    "Name": f"{request.instance_name or request.instance_id} copy"[:256],
                    **request.tags,
                    **marks,
                    names.INSTANCE: request.instance_id,
                    names.VOLUME: volume_id,
                    names.VOLUMES: str(len(request.snapshots)),
                },
            )
        except ThrottledError:
            break
    return started


def _unshare(request: CopySnapshots, source: SnapshotCopier) -> None:
    if request.target.account != request.account:
        for snapshot_id in sorted(request.snapshots.values()):
            source.unshare(snapshot_id, request.target.account)


def _record(request: CopySnapshots, copies: Mapping[str, VolumeSnapshot], services: OnDemandServices) -> None:
    point = RestorePoint(
        point_id=request.point_id,
        kind=Kind.REPLICA,
        account=request.target.account,
        region=request.target.region,
        instance_id=request.instance_id,
        instance_name=request.instance_name,
        taken_at=parse_stamp(request.point_id[:16]),
        manual=True,
        keep_until=names.read_instant(request.tags, names.KEEP_UNTIL),
        snapshot_ids={volume_id: one.snapshot_id for volume_id, one in sorted(copies.items())},
        size_bytes=sum(one.size_bytes for one in copies.values()),
    )
    services.catalog.add_point(point)
    remember_expiry(point, request.target.role, services)
