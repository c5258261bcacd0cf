"""The first step of a restore: find the restore point, refuse what cannot work, and list what is to be moved.

Everything that can be refused is refused here, before anything exists. Ids and client tokens derive from the
restore id, so a repeated step plans the same restore and starts no second snapshot.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from holdfast.errors import NotFoundError, PermanentError, SourceGoneError
from holdfast.model.ids import client_token
from holdfast.model.inventory import AttachedVolume, InstanceConfiguration
from holdfast.model.restore import RestoredVolume, RestorePlan, RestoreRequest
from holdfast.model.restore_point import Kind, RestorePoint
from holdfast.planning.restoring import (
    chosen_volumes,
    encryption,
    launch_settings,
    require_encryptable,
    require_launchable,
    temporary_tags,
)
from holdfast.repository.layout import point_name

if TYPE_CHECKING:
    from holdfast.operations.services import RestoreServices
    from holdfast.repository.manifest import VolumeManifest

Items = list[dict[str, Any]]


def work_key(restore_id: str, name: str) -> str:
    """Where the steps of a restore leave a document for each other."""
    return f"restores/{restore_id}/{name}.json"


def plan_restore(request: RestoreRequest, services: RestoreServices) -> Mapping[str, Any]:
    """Find the restore point, start one snapshot per volume, and list the segments to move.

    Raises NotFoundError for an unknown point or volume, PermanentError and ConfigurationError for what cannot
    be restored as asked, AccessDeniedError, KeyUnavailableError, DamagedError.
    """
    plan_kind = _plan_backup if request.repository else _plan_snapshot
    volumes, items, configuration = plan_kind(request, services)
    plan = RestorePlan(
        restore_id=request.restore_id,
        request=request,
        volumes=tuple(volumes),
        segment_count=len(items),
        items_key=work_key(request.restore_id, "segments"),
    )
    services.work.write(plan.items_key, items)
    services.work.write(work_key(request.restore_id, "configuration"), configuration.model_dump(mode="json"))
    return plan.model_dump(mode="json")


def _chosen(
    volumes: tuple[AttachedVolume, ...], configuration: InstanceConfiguration, request: RestoreRequest
) -> tuple[AttachedVolume, ...]:
    """The volumes to restore, when the instance (if it is one) can be launched from them."""
    chosen = chosen_volumes(volumes, request)
    if request.kind == "instance":
        require_launchable(configuration, chosen, request)
        launch_settings(configuration, request)
    return chosen


def _plan_backup(
    request: RestoreRequest, services: RestoreServices
) -> tuple[list[RestoredVolume], Items, InstanceConfiguration]:
    repository = services.repository(request.repository)
    manifest = repository.read_point(point_name(request.instance_id, request.point_id))
    attached = {volume.volume_id: volume for volume in manifest.configuration.instance.volumes}
    stored = {volume.volume_id: volume for volume in manifest.volumes}
    known = tuple(attached.get(one.volume_id) or _unattached(one) for one in manifest.volumes)
    writer = services.snapshot_writer(request.target.account, request.target.region)
    volumes, items = [], []
    for volume in _chosen(known, manifest.configuration, request):
        encrypted, key = encryption(volume, request.target)
        snapshot_id = writer.start(
            stored[volume.volume_id].size_bytes,
            token=client_token(request.restore_id, volume.volume_id),
            description=f"Restore of {volume.volume_id} from {request.point_id}",
            tags=temporary_tags(services.settings.installation, request.restore_id),
            encrypted=encrypted,
            kms_key_arn=key,
        )
        volumes.append(RestoredVolume(source=volume, snapshot_id=snapshot_id, temporary=True))
        items += _items(request, snapshot_id, stored[volume.volume_id])
    return volumes, items, manifest.configuration


def _unattached(stored: VolumeManifest) -> AttachedVolume:
    """A volume that the point holds although its configuration does not name it."""
    return AttachedVolume(volume_id=stored.volume_id, device=stored.device, size_bytes=stored.size_bytes)


def _items(request: RestoreRequest, snapshot_id: str, stored: VolumeManifest) -> Items:
    """One item per segment that holds blocks; the rest of a new snapshot is zero anyway."""
    return [
        {
            "restore_id": request.restore_id,
            "repository": request.repository,
            "account": request.target.account,
            "region": request.target.region,
            "snapshot_id": snapshot_id,
            "segment": number,
            "ref": ref.to_json(),
            "cursor": 0,
            "blocks_written": 0,
        }
        for number, ref in enumerate(stored.segments)
        if ref is not None
    ]


def _plan_snapshot(
    request: RestoreRequest, services: RestoreServices
) -> tuple[list[RestoredVolume], Items, InstanceConfiguration]:
    """A snapshot or replica in the target needs no data moved: volumes are made from it where it is."""
    point = _snapshot_point(request, services)
    configuration = services.catalog.configuration(request.instance_id, request.point_id)
    held = tuple(v for v in configuration.instance.volumes if v.volume_id in point.snapshot_ids)
    chosen = _chosen(held, configuration, request)
    spoke = services.restore_spoke(request.target.account, request.target.region)
    wanted = {volume.volume_id: point.snapshot_ids[volume.volume_id] for volume in chosen}
    present = {one.snapshot_id: one for one in spoke.read_snapshots(sorted(wanted.values()))}
    for volume_id, snapshot_id in sorted(wanted.items()):
        if snapshot_id not in present:
            raise SourceGoneError(
                f"The snapshot of {volume_id} was deleted.",
                resource=snapshot_id,
                remedy="Choose another restore point.",
            )
    # A replica may be encrypted although its source was not.
    as_held = [
        volume.model_copy(
            update={"encrypted": volume.encrypted or present[wanted[volume.volume_id]].encrypted}
        )
        for volume in chosen
    ]
    require_encryptable(as_held, request.target)
    volumes = [
        RestoredVolume(source=volume, snapshot_id=wanted[volume.volume_id], temporary=False)
        for volume in chosen
    ]
    return volumes, [], configuration


def _snapshot_point(request: RestoreRequest, services: RestoreServices) -> RestorePoint:
    """The snapshot or replica of that id in the target. Raises NotFoundError, PermanentError."""
    native = (Kind.SNAPSHOT, Kind.REPLICA)
    points = [
        point
        for point in services.catalog.points(request.instance_id)
        if point.point_id == request.point_id and point.kind in native and point.complete
    ]
    if not points:
        raise NotFoundError(
            "There is no such cloud-native snapshot.",
            resource=request.point_id,
            remedy=f"List them with: holdfast points list --instance {request.instance_id}",
        )
    target = request.target
    for point in points:
        if (point.account, point.region) == (target.account, target.region):
            return point
    places = "; ".join(f"account {point.account}, {point.region}" for point in points)
    raise PermanentError(
        f"The snapshot is in {places}; the target is account {target.account}, {target.region}.",
        resource=request.point_id,
        remedy="Restore it there, or restore from an image-level backup.",
    )
