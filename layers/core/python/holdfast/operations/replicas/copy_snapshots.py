"""Copy a manual snapshot to another Region or account.

One step of a polled loop: it starts what is missing, looks at what is under way, and says whether all is
done (`copying`). What was shared for the copy is unshared when it is done, and when it is given up.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import Field

from holdfast.model import tags as names
from holdfast.model.ids import parse_stamp
from holdfast.model.inventory import Value
from holdfast.model.restore import AccountId, InstanceId, KeyArn, PointId, Region
from holdfast.model.restore_point import Kind, RestorePoint
from holdfast.operations.manual.manual_snapshot import remember_expiry
from holdfast.operations.replicas.copying import Place, Progress, Work, advance, finish, give_up, read_work

if TYPE_CHECKING:
    from holdfast.operations.services import OnDemandServices
    from holdfast.ports import VolumeSnapshot


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
    SourceGoneError, PermanentError (a source or copy ended in error, or cannot be shared), AccessDeniedError,
    UnavailableError.
    """
    work = read_work(request.instance_id, request.point_id, services)
    if request.abandon:
        if work:
            give_up(work, services)
        return {"done": True, "copies": {}}
    made_before = _recorded(request, services)
    if made_before is not None:
        if work:
            finish(work, Progress(done=True), services)
        return {"done": True, "copies": made_before, "queued": 0}
    work, progress = advance(work or _work(request, services), services)
    if progress.done:
        _record(request, progress.copies, services)
        finish(work, progress, services)
    made = {volume_id: one.snapshot_id for volume_id, one in sorted(progress.copies.items())}
    return {"done": progress.done, "copies": made, "queued": progress.queued}


def _recorded(request: CopySnapshots, services: OnDemandServices) -> dict[str, str] | None:
    """The copies that an earlier step, whose answer was lost, has finished."""
    for point in services.catalog.points(request.instance_id, Kind.REPLICA):
        place = (point.point_id, point.account, point.region)
        if point.complete and place == (request.point_id, request.target.account, request.target.region):
            return dict(point.snapshot_ids)
    return None


def _work(request: CopySnapshots, services: OnDemandServices) -> Work:
    target = request.target
    return Work(
        point_id=request.point_id,
        instance_id=request.instance_id,
        source=Place(account=request.account, region=request.region, role=request.role),
        target=Place(account=target.account, region=target.region, role=target.role),
        snapshots=request.snapshots,
        keys=dict.fromkeys(request.snapshots, target.kms_key_arn) if target.kms_key_arn else {},
        tags={"Name": f"{request.instance_name or request.instance_id} copy"[:256], **request.tags},
        begun_at=services.clock.now(),
    )


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
