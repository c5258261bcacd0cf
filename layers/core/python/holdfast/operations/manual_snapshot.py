"""A cloud-native snapshot that a person asks for, outside every policy and its retention.

It belongs to no chain: no policy's retention sees it (its kind tag says "manual"), and it goes only when its
own days are over, or by hand.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from pydantic import Field

from holdfast.errors import ConfigurationError
from holdfast.model import tags as names
from holdfast.model.ids import point_id, stamp
from holdfast.model.inventory import InstanceConfiguration, Value
from holdfast.model.regions import partition
from holdfast.model.restore_point import Kind, RestorePoint
from holdfast.operations.snapshot_sets import sort_out, volume_tags

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdfast.operations.services import OnDemandServices
    from holdfast.ports import VolumeSnapshot


class CopyTo(Value):
    """Where to copy a manual snapshot; empty account or Region: the source's own."""

    region: str = ""
    account: str = ""
    role: str = ""
    kms_key_arn: str = ""


class ManualSnapshot(Value):
    """What the operator asks for. ``request_id`` makes a repeated call take one snapshot."""

    instance_id: str = Field(pattern=r"^i-[0-9a-f]{8,17}$")
    region: str = Field(pattern=r"^[a-z]{2}(-[a-z]+)+-\d$")
    account: str = Field("", pattern=r"^(\d{12})?$")
    role: str = ""
    keep_days: int | None = Field(None, ge=1, le=36135)
    tags: dict[str, str] = Field(default_factory=dict, max_length=30)
    copy_to: CopyTo | None = None
    request_id: str = Field("", max_length=64)


def account_of(request: ManualSnapshot, services: OnDemandServices) -> str:
    """The account the instance lives in: named, its role's, or known from earlier restore points.

    Raises ConfigurationError when none of these tells.
    """
    if request.account:
        return request.account
    roles = [role for role in services.configuration.roles if request.role in ("", role.name)]
    if len({role.account for role in roles}) == 1:
        return roles[0].account
    known = {point.account for point in services.catalog.points(request.instance_id)}
    if len(known) == 1:
        return known.pop()
    raise ConfigurationError(
        "The account of the instance is not known.",
        resource=request.instance_id,
        remedy="Give `account`, or the name of a `role`.",
    )


def take_manual_snapshot(request: ManualSnapshot, services: OnDemandServices) -> Mapping[str, Any]:
    """Take the snapshots of one instance at one moment, and start a copy when one is wanted.

    Raises SourceGoneError, AccessDeniedError, KeyUnavailableError, ConfigurationError, ThrottledError.
    """
    account, now = account_of(request, services), services.clock.now()
    if request.copy_to:
        _target(request, account)
    spoke = services.spoke_in(account, request.region, request.role)
    point = _point_id(request, now)
    marks = {
        names.INSTALLATION: services.settings.installation,
        names.POINT: point,
        names.INSTANCE: request.instance_id,
    }
    made = sort_out(spoke.find_snapshots(marks)).usable if request.request_id else ()
    configuration = spoke.configuration(request.instance_id)
    if not made:
        tags = {**request.tags, **marks, **_kept(request, now), names.KIND: "manual"}
        tags[names.VOLUMES] = str(len(configuration.instance.volumes))
        made = tuple(
            spoke.create_snapshots(
                request.instance_id,
                exclude_root=False,
                exclude_volumes=(),
                tags={"Name": f"{configuration.instance.name or request.instance_id} manual"[:256], **tags},
                copy_tags=False,
                description=f"Holdfast: manual snapshot, {now:%Y-%m-%d %H:%M} UTC",
            )
        )
    volumes = {volume.volume_id: volume for volume in configuration.instance.volumes}
    for snapshot in made:
        if snapshot.volume_id in volumes:
            spoke.tag_snapshot(snapshot.snapshot_id, volume_tags(volumes[snapshot.volume_id], copy=False))
    _record(request, account, point, made, configuration, now, services)
    if request.copy_to:
        _start_copy(request, account, point, made, configuration, now, services)
    return {
        "point_id": point,
        "snapshots": {snapshot.volume_id: snapshot.snapshot_id for snapshot in made},
        "copying": request.copy_to is not None,
    }


def _point_id(request: ManualSnapshot, now: datetime) -> str:
    return f"{stamp(now)}-{point_id(request.request_id or stamp(now), request.instance_id)[-12:]}"


def _kept(request: ManualSnapshot, now: datetime) -> dict[str, str]:
    if request.keep_days is None:
        return {}
    return {names.KEEP_UNTIL: stamp(now + timedelta(days=request.keep_days))}


def _record(
    request: ManualSnapshot,
    account: str,
    point: str,
    made: Sequence[VolumeSnapshot],
    configuration: InstanceConfiguration,
    now: datetime,
    services: OnDemandServices,
) -> None:
    services.catalog.add_point(
        RestorePoint(
            point_id=point,
            kind=Kind.SNAPSHOT,
            account=account,
            region=request.region,
            instance_id=request.instance_id,
            instance_name=configuration.instance.name,
            taken_at=now,
            manual=True,
            keep_until=now + timedelta(days=request.keep_days) if request.keep_days else None,
            snapshot_ids={snapshot.volume_id: snapshot.snapshot_id for snapshot in made},
            size_bytes=sum(snapshot.size_bytes for snapshot in made),
        ),
        configuration,
    )


def _target(request: ManualSnapshot, account: str) -> CopyTo:
    """Where the copy goes, complete. Raises ConfigurationError when that is where the snapshot is."""
    wanted = request.copy_to or CopyTo()
    target = wanted.model_copy(
        update={"account": wanted.account or account, "region": wanted.region or request.region}
    )
    if (target.account, target.region) == (account, request.region):
        raise ConfigurationError(
            "The snapshot would be copied to where it is.",
            resource=request.instance_id,
            remedy="Name another Region or account under `copy_to`.",
        )
    return target


def _start_copy(
    request: ManualSnapshot,
    account: str,
    point: str,
    made: Sequence[VolumeSnapshot],
    configuration: InstanceConfiguration,
    now: datetime,
    services: OnDemandServices,
) -> None:
    target = _target(request, account)
    hub = services.settings.hub_region
    machine = (
        f"arn:{partition(hub)}:states:{hub}:{services.configuration.backup_account}:stateMachine:"
        f"{services.settings.installation}-manual-snapshot"
    )
    services.executions(hub).start(
        machine,
        f"{point}-copy",
        {
            "point_id": point,
            "instance_id": request.instance_id,
            "instance_name": configuration.instance.name,
            "account": account,
            "region": request.region,
            "role": request.role,
            "snapshots": {snapshot.volume_id: snapshot.snapshot_id for snapshot in made},
            "target": target.model_dump(),
            "tags": {**request.tags, **_kept(request, now)},
        },
    )
