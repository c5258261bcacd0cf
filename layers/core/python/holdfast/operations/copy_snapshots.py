"""Copy a set of snapshots to another Region or account.

One step of a polled loop: it starts what is missing, looks at what is under way, and says whether all is
done. Copies are found again by their tags, so a repeated step never copies twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import Field

from holdfast.errors import PermanentError, SourceGoneError, ThrottledError
from holdfast.model import tags as names
from holdfast.model.ids import parse_stamp
from holdfast.model.inventory import Value
from holdfast.model.restore_point import Kind, RestorePoint

if TYPE_CHECKING:
    from holdfast.operations.services import OnDemandServices
    from holdfast.ports import VolumeSnapshot


class CopyTarget(Value):
    """Where copies go. ``role`` names a role or organization of the configuration; empty: the account's."""

    account: str
    region: str
    role: str = ""
    kms_key_arn: str = ""


class CopySnapshots(Value):
    """A set of snapshots (volume id to snapshot id) of one instance, and where to copy it."""

    point_id: str
    instance_id: str
    instance_name: str = ""
    account: str
    region: str
    role: str = ""
    snapshots: dict[str, str] = Field(min_length=1)
    target: CopyTarget
    tags: dict[str, str] = Field(default_factory=dict)


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


def copy_snapshots(request: CopySnapshots, services: OnDemandServices) -> Mapping[str, Any]:
    """Start missing copies and report: ``{"done": bool, "copies": {volume id: snapshot id}}``.

    Raises SourceGoneError, PermanentError (a source or copy ended in error, or cannot be shared),
    AccessDeniedError, ThrottledError (20 copies are under way in the target Region; tried again).
    """
    target = request.target
    source = services.spoke_in(request.account, request.region, request.role)
    there = services.spoke_in(target.account, target.region, target.role)
    sources = {s.snapshot_id: s for s in source.read_snapshots(sorted(request.snapshots.values()))}
    if not _checked(sources, request.snapshots):
        return {"done": False, "copies": {}}
    marks = {
        names.INSTALLATION: services.settings.installation,
        names.POINT: request.point_id,
        names.KIND: Kind.REPLICA.value,
    }
    copies = {s.tags.get(names.VOLUME, ""): s for s in there.find_snapshots(marks)}
    crossing = target.account != request.account
    reader = services.snapshot_copier(request.account, request.region, request.role)
    writer = services.snapshot_copier(target.account, target.region, target.role)
    started: dict[str, str] = {}
    for volume_id, snapshot_id in sorted(request.snapshots.items()):
        if volume_id in copies:
            continue
        if crossing:
            reader.share(snapshot_id, target.account)
        try:
            started[volume_id] = writer.copy(
                snapshot_id,
                request.region,
                encrypted=sources[snapshot_id].encrypted,
                kms_key_arn=target.kms_key_arn,
                description=f"Copy of {snapshot_id} ({request.instance_id})",
                tags={**request.tags, **marks, names.INSTANCE: request.instance_id, names.VOLUME: volume_id},
            )
        except ThrottledError:
            break
    made = {**{volume: copy.snapshot_id for volume, copy in copies.items()}, **started}
    if started or len(made) < len(request.snapshots):
        return {"done": False, "copies": made}
    if not _checked({s.snapshot_id: s for s in copies.values()}, {v: made[v] for v in request.snapshots}):
        return {"done": False, "copies": made}
    if crossing:
        for snapshot_id in request.snapshots.values():
            reader.unshare(snapshot_id, target.account)
    services.catalog.add_point(
        RestorePoint(
            point_id=request.point_id,
            kind=Kind.REPLICA,
            account=target.account,
            region=target.region,
            instance_id=request.instance_id,
            instance_name=request.instance_name,
            taken_at=parse_stamp(request.point_id[:16]),
            manual=True,
            keep_until=names.read_instant(request.tags, names.KEEP_UNTIL),
            snapshot_ids=made,
            size_bytes=sum(s.size_bytes for s in copies.values()),
        )
    )
    return {"done": True, "copies": made}
