"""The steps of a restore: plan, move segments, let EBS confirm, create volumes or an instance, clean up.

Each function is one step of the restore state machine and may be repeated at any time: ids and client tokens
derive from the restore id. Only what carries this restore's tag is ever removed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from holdfast.dataplane.restore import linear_checksum, volume_digests
from holdfast.errors import ConflictError, NotFoundError, PermanentError, SourceGoneError
from holdfast.model import tags as names
from holdfast.model.ids import client_token
from holdfast.model.inventory import AttachedVolume, InstanceConfiguration
from holdfast.model.restore import RestoredVolume, RestorePlan, RestoreRequest
from holdfast.model.restore_point import Kind
from holdfast.repository.layout import point_name

if TYPE_CHECKING:
    from holdfast.operations.services import RestoreServices
    from holdfast.ports import RestoreSite, Spoke

_RESTORE = names.PREFIX + "restore"


def temporary_tags(installation: str, restore_id: str) -> dict[str, str]:
    """Tags of what a restore makes for itself and removes at its end."""
    return {names.INSTALLATION: installation, _RESTORE: restore_id, names.KIND: "temporary"}


def created_tags(installation: str, request: RestoreRequest, source: Mapping[str, str]) -> dict[str, str]:
    """Tags of what a restore leaves: the source's own, the operator's, and where it came from."""
    kept = {key: value for key, value in source.items() if not key.startswith(("aws:", names.PREFIX))}
    return {
        **kept,
        **request.target.tags,
        names.INSTALLATION: installation,
        _RESTORE: request.restore_id,
        names.POINT: request.point_id,
    }


def _chosen(volumes: tuple[AttachedVolume, ...], request: RestoreRequest) -> tuple[AttachedVolume, ...]:
    known = {volume.volume_id for volume in volumes}
    missing = [wanted for wanted in request.volume_ids if wanted not in known]
    if missing or not volumes:
        raise NotFoundError(
            f"The restore point has no volume {', '.join(missing) or 'at all'}; "
            f"it has {', '.join(sorted(known)) or 'none'}.",
            resource=request.point_id,
            remedy="Choose one of its volumes.",
        )
    return tuple(v for v in volumes if not request.volume_ids or v.volume_id in request.volume_ids)


def _work_key(restore_id: str, name: str) -> str:
    return f"restores/{restore_id}/{name}.json"


def plan_restore(request: RestoreRequest, services: RestoreServices) -> Mapping[str, Any]:
    """Find the restore point, start one snapshot per volume, and list the segments to move.

    Raises NotFoundError for an unknown point or volume, AccessDeniedError, KeyUnavailableError, DamagedError.
    """
    if request.repository:
        plan, items, configuration = _plan_backup(request, services)
    else:
        plan, items, configuration = _plan_snapshot(request, services)
    services.work.write(plan.items_key, items)
    services.work.write(_work_key(request.restore_id, "configuration"), configuration.model_dump(mode="json"))
    return plan.model_dump(mode="json")


def _plan_backup(
    request: RestoreRequest, services: RestoreServices
) -> tuple[RestorePlan, list[dict[str, Any]], InstanceConfiguration]:
    repository = services.repository(request.repository)
    manifest = repository.read_point(point_name(request.instance_id, request.point_id))
    attached = {volume.volume_id: volume for volume in manifest.configuration.instance.volumes}
    writer = services.snapshot_writer(request.target.account, request.target.region)
    volumes, items = [], []
    stored = {volume.volume_id: volume for volume in manifest.volumes}
    for volume in _chosen(tuple(attached[v] for v in stored if v in attached), request):
        encrypted, key = encryption(volume, request)
        snapshot_id = writer.start(
            stored[volume.volume_id].size_bytes,
            token=client_token(request.restore_id, volume.volume_id),
            description=f"Restore of {volume.volume_id} from {request.point_id}",
            tags=temporary_tags(services.settings.installation, request.restore_id),
            encrypted=encrypted,
            kms_key_arn=key,
        )
        volumes.append(RestoredVolume(source=volume, snapshot_id=snapshot_id, temporary=True))
        items += [
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
            for number, ref in enumerate(stored[volume.volume_id].segments)
            if ref is not None
        ]
    plan = RestorePlan(
        restore_id=request.restore_id,
        request=request,
        volumes=tuple(volumes),
        segment_count=len(items),
        items_key=_work_key(request.restore_id, "segments"),
    )
    return plan, items, manifest.configuration


def encryption(volume: AttachedVolume, request: RestoreRequest) -> tuple[bool, str]:
    """Whether a restored volume is encrypted, and with which KMS key (empty: the account's default key).

    Without a wish it is as the source was; the source's own key is used again only where it can be: in the
    source's account and Region (infrastructure.md section 4).
    """
    target = request.target
    if target.kms_key_arn:
        return True, target.kms_key_arn
    if target.encrypted is not None:
        return target.encrypted, ""
    key = volume.kms_key_arn.split(":")
    at_home = len(key) > 4 and key[3:5] == [target.region, target.account]
    return volume.encrypted, volume.kms_key_arn if volume.encrypted and at_home else ""


def _plan_snapshot(
    request: RestoreRequest, services: RestoreServices
) -> tuple[RestorePlan, list[dict[str, Any]], InstanceConfiguration]:
    """A cloud-native snapshot needs no data moved: volumes are made from it where it is."""
    points = services.catalog.points(request.instance_id, Kind.SNAPSHOT)
    point = next((p for p in points if p.point_id == request.point_id), None)
    if point is None:
        raise NotFoundError(
            "There is no such cloud-native snapshot.",
            resource=request.point_id,
            remedy="List them with: holdfast points list.",
        )
    if (point.account, point.region) != (request.target.account, request.target.region):
        raise PermanentError(
            f"The snapshot is in account {point.account}, {point.region}; the target is elsewhere.",
            resource=request.point_id,
            remedy="Restore it there, or restore from an image-level backup.",
        )
    configuration = services.catalog.configuration(request.instance_id, request.point_id)
    chosen = [v for v in configuration.instance.volumes if v.volume_id in point.snapshot_ids]
    present = {
        s.snapshot_id for s in _spoke(request, services).read_snapshots(list(point.snapshot_ids.values()))
    }
    volumes = []
    for volume in _chosen(tuple(chosen), request):
        snapshot_id = point.snapshot_ids[volume.volume_id]
        if snapshot_id not in present:
            raise SourceGoneError(
                f"The snapshot of {volume.volume_id} was deleted.",
                resource=snapshot_id,
                remedy="Choose another restore point.",
            )
        volumes.append(RestoredVolume(source=volume, snapshot_id=snapshot_id, temporary=False))
    plan = RestorePlan(
        restore_id=request.restore_id,
        request=request,
        volumes=tuple(volumes),
        segment_count=0,
        items_key=_work_key(request.restore_id, "segments"),
    )
    return plan, [], configuration


def _spoke(request: RestoreRequest, services: RestoreServices) -> Spoke:
    return services.restore_spoke(request.target.account, request.target.region)


def _site(request: RestoreRequest, services: RestoreServices) -> RestoreSite:
    return services.restore_site(request.target.account, request.target.region)


def complete_restore(plan: RestorePlan, services: RestoreServices) -> Mapping[str, Any]:
    """Seal every temporary snapshot with the aggregate checksum of the restore point.

    EBS compares it with the blocks it received (CompleteSnapshot, LINEAR SHA-256): a snapshot that differs in
    a single bit is refused, and the restore fails.
    """
    if not plan.request.repository:
        return {"completed": 0}
    repository = services.repository(plan.request.repository)
    manifest = repository.read_point(point_name(plan.request.instance_id, plan.request.point_id))
    stored = {volume.volume_id: volume for volume in manifest.volumes}
    writer = services.snapshot_writer(plan.request.target.account, plan.request.target.region)
    for volume in plan.volumes:
        segments = stored[volume.source.volume_id].segments
        count, aggregate = linear_checksum(volume_digests(segments, repository))
        writer.complete(volume.snapshot_id, count, aggregate)
    return {"completed": len(plan.volumes)}


def check_restore(plan: RestorePlan, services: RestoreServices) -> Mapping[str, Any]:
    """Whether all snapshots to make volumes from are completed. Raises SourceGoneError, PermanentError."""
    wanted = {volume.snapshot_id for volume in plan.volumes}
    found = {s.snapshot_id: s for s in _spoke(plan.request, services).read_snapshots(sorted(wanted))}
    for snapshot_id in sorted(wanted):
        if snapshot_id not in found:
            raise SourceGoneError("The snapshot disappeared.", resource=snapshot_id, remedy="Restore again.")
        if found[snapshot_id].state == "error":
            raise PermanentError(
                f"EBS could not finish the snapshot: {found[snapshot_id].reason or 'no reason given'}.",
                resource=snapshot_id,
                remedy="Check that the restore role may use the KMS key, then restore again.",
            )
    return {"ready": all(found[snapshot_id].state == "completed" for snapshot_id in wanted)}


def create_volumes(plan: RestorePlan, services: RestoreServices) -> Mapping[str, Any]:
    """Make one unattached volume from each snapshot; returns the plan with their ids."""
    site, installation = _site(plan.request, services), services.settings.installation
    made = []
    for volume in plan.volumes:
        encrypted, key = (False, "") if volume.temporary else encryption(volume.source, plan.request)
        volume_id = site.create_volume(
            volume.snapshot_id,
            volume.source,
            availability_zone=plan.request.target.availability_zone,
            tags=created_tags(installation, plan.request, volume.source.tags),
            token=client_token(plan.restore_id, volume.source.volume_id, "volume"),
            encrypted=encrypted or None,
            kms_key_arn=key,
        )
        made.append(volume.model_copy(update={"volume_id": volume_id}))
    return plan.model_copy(update={"volumes": tuple(made)}).model_dump(mode="json")


def _configuration(plan: RestorePlan, services: RestoreServices) -> InstanceConfiguration:
    return InstanceConfiguration.model_validate(
        services.work.read(_work_key(plan.restore_id, "configuration"))
    )


def launch_instance(plan: RestorePlan, services: RestoreServices) -> Mapping[str, Any]:
    """Register a temporary AMI over the restored snapshots and launch one instance of it.

    The AMI boots the restored root volume at once: no other disk ever runs with the instance's user data.
    Raises PermanentError for instances with product codes, which AWS does not let an AMI of ours carry.
    """
    configuration = _configuration(plan, services)
    if configuration.product_codes:
        raise PermanentError(
            f"The instance has product codes ({', '.join(configuration.product_codes)}) "
            "that a new image cannot carry.",
            resource=plan.request.instance_id,
            remedy="Launch an instance from the vendor's AMI and restore the volumes to it.",
        )
    if not any(volume.source.root for volume in plan.volumes):
        raise PermanentError(
            "The restore point does not hold the root volume, so no instance can boot from it.",
            resource=plan.request.point_id,
            remedy="Restore the volumes instead.",
        )
    site, installation, request = _site(plan.request, services), services.settings.installation, plan.request
    image_id = site.register_image(
        f"{installation}-{plan.restore_id}",
        configuration,
        [(volume.source, volume.snapshot_id) for volume in plan.volumes],
        temporary_tags(installation, plan.restore_id),
    )
    planned = plan.model_copy(update={"image_id": image_id})
    if not site.image_ready(image_id):
        return planned.model_dump(mode="json")
    tags = created_tags(installation, request, configuration.instance.tags)
    tags["Name"] = request.instance.name or configuration.instance.name or f"restored-{request.instance_id}"
    instance_id = site.run_instance(
        image_id,
        configuration,
        request.instance,
        tags=tags,
        token=client_token(plan.restore_id, request.instance_id, "instance"),
    )
    return planned.model_copy(update={"instance_id": instance_id, "launched": True}).model_dump(mode="json")


def finish_restore(plan: RestorePlan, services: RestoreServices) -> Mapping[str, Any]:
    """Wait for what was created, then remove what was temporary; ``finished`` tells the state machine."""
    site = _site(plan.request, services)
    if plan.instance_id:
        state, attached = site.instance_volumes(plan.instance_id)
        if state in ("terminated", "shutting-down"):
            raise PermanentError(
                f"The restored instance is {state} right after its launch.",
                resource=plan.instance_id,
                remedy="See its state reason in the EC2 console (a KMS key it may not use, most often).",
            )
        if state == "pending" or any(volume.source.device not in attached for volume in plan.volumes):
            return plan.model_dump(mode="json")
        plan = plan.model_copy(
            update={
                "volumes": tuple(
                    v.model_copy(update={"volume_id": attached[v.source.device]}) for v in plan.volumes
                )
            }
        )
        for volume in plan.volumes:
            site.tag(
                volume.volume_id,
                created_tags(services.settings.installation, plan.request, volume.source.tags),
            )
    elif not site.volumes_ready([volume.volume_id for volume in plan.volumes]):
        return plan.model_dump(mode="json")
    _remove_temporary(plan.restore_id, plan.image_id, plan.request, services)
    return plan.model_copy(update={"finished": True}).model_dump(mode="json")


def _remove_temporary(
    restore_id: str, image_id: str, request: RestoreRequest, services: RestoreServices
) -> list[str]:
    """Remove the AMI and the snapshots that carry this restore's tags, each re-read before it goes."""
    tags = temporary_tags(services.settings.installation, restore_id)
    spoke = _spoke(request, services)
    if image_id:
        _site(request, services).deregister_image(image_id, tags)
    removed = []
    for snapshot in spoke.find_snapshots(tags):
        again = spoke.read_snapshots([snapshot.snapshot_id])
        if again and all(again[0].tags.get(key) == value for key, value in tags.items()):
            spoke.delete_snapshot(snapshot.snapshot_id)
            removed.append(snapshot.snapshot_id)
    return removed


@dataclass(frozen=True, slots=True)
class Abandonment:
    """Input of abandon_restore: how far the restore got, and the error that ended it."""

    restore: Mapping[str, Any]
    problem: Mapping[str, Any]


def abandon_restore(request: Abandonment, services: RestoreServices) -> Mapping[str, Any]:
    """After a failure: remove temporary snapshots and AMI. What was created for the operator stays."""
    asked = RestoreRequest.model_validate(request.restore["request"])
    try:
        removed = _remove_temporary(
            asked.restore_id, str(request.restore.get("image_id", "")), asked, services
        )
    except ConflictError as error:
        return {"removed": [], "left": str(error)}
    return {"removed": removed}
