"""The later steps of a restore: let EBS confirm, create volumes or an instance, clean up.

Each function is one step of the restore state machine and may be repeated at any time: client tokens derive
from the restore id. Only what carries this restore's tags, read again, is ever removed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from holdfast.dataplane.restore import linear_checksum, volume_digests
from holdfast.errors import ConflictError, PermanentError, SourceGoneError, UnavailableError
from holdfast.model.ids import client_token
from holdfast.model.inventory import InstanceConfiguration, Value
from holdfast.model.restore import RestorePlan, RestoreRequest
from holdfast.operations.restores.plan_restore import work_key
from holdfast.planning.restoring import (
    created_tags,
    instance_name,
    launch_settings,
    temporary_tags,
    wished,
)
from holdfast.repository.layout import point_name

if TYPE_CHECKING:
    from holdfast.operations.services import RestoreServices
    from holdfast.ports import RestoreSite, Spoke


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
        wish = None if volume.temporary else wished(plan.request.target)
        volume_id = site.create_volume(
            volume.snapshot_id,
            volume.source,
            availability_zone=plan.request.target.availability_zone,
            tags=created_tags(installation, plan.request, volume.source.tags),
            token=client_token(plan.restore_id, volume.source.volume_id, "volume"),
            encrypted=True if wish else None,
            kms_key_arn=wish.kms_key_arn if wish else "",
        )
        made.append(volume.model_copy(update={"volume_id": volume_id}))
    return plan.model_copy(update={"volumes": tuple(made)}).model_dump(mode="json")


def launch_instance(plan: RestorePlan, services: RestoreServices) -> Mapping[str, Any]:
    """Register a temporary AMI over the restored snapshots and launch one instance of it.

    The AMI boots the restored root volume at once: no other disk ever runs with the instance's user data.
    While the AMI is pending the plan comes back as it was; ``launched`` tells the state machine.
    """
    configuration = InstanceConfiguration.model_validate(
        services.work.read(work_key(plan.restore_id, "configuration"))
    )
    site, installation, request = _site(plan.request, services), services.settings.installation, plan.request
    image_id = site.register_image(
        image_name(installation, plan.restore_id),
        configuration,
        [(volume.source, volume.snapshot_id) for volume in plan.volumes],
        temporary_tags(installation, plan.restore_id),
    )
    if not site.image_ready(image_id):
        return plan.model_dump(mode="json")
    name = instance_name(configuration, request)
    instance_id = site.run_instance(
        image_id,
        configuration,
        launch_settings(configuration, request),
        tags=created_tags(installation, request, configuration.instance.tags, name=name),
        volume_tags=created_tags(installation, request, {}),
        encryption=_encrypted_anew(plan),
        token=client_token(plan.restore_id, request.instance_id, "instance"),
    )
    return plan.model_copy(update={"instance_id": instance_id, "launched": True}).model_dump(mode="json")


def image_name(installation: str, restore_id: str) -> str:
    """The name of the temporary AMI, by which every step finds it (3 to 128 characters)."""
    return f"{installation}-{restore_id}"[:128]


def _encrypted_anew(plan: RestorePlan) -> dict[str, str]:
    """Devices whose volumes get another encryption than their snapshots, with the key (empty: default)."""
    wish = wished(plan.request.target)
    return {v.source.device: wish.kms_key_arn for v in plan.volumes if wish and not v.temporary}


def finish_restore(plan: RestorePlan, services: RestoreServices) -> Mapping[str, Any]:
    """Wait for what was created, then remove what was temporary; ``finished`` tells the state machine.

    Raises PermanentError when EC2 gave up on a volume or the instance, UnavailableError while EC2 still holds
    a temporary snapshot in use.
    """
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
    _, refused = _remove_temporary(plan.request, services)
    if refused:
        raise UnavailableError(
            f"What was asked for is restored, but something temporary could not be removed yet: {refused[0]}",
            resource=plan.restore_id,
            remedy="It is tried again; what stays carries the tag of this restore.",
        )
    return plan.model_copy(update={"finished": True}).model_dump(mode="json")


def _remove_temporary(request: RestoreRequest, services: RestoreServices) -> tuple[list[str], list[str]]:
    """Remove the AMI and the snapshots that carry this restore's tags, each read again before it goes.

    Returns what was removed, and why something was not.
    """
    if not request.repository and request.kind == "volume":
        return [], []
    installation = services.settings.installation
    removed: list[str] = []
    refused: list[str] = []
    tags = temporary_tags(installation, request.restore_id)
    if request.kind == "instance":
        removed += _site(request, services).remove_image(image_name(installation, request.restore_id), tags)
    spoke = _spoke(request, services)
    for found in spoke.find_snapshots(tags):
        for snapshot in spoke.read_snapshots([found.snapshot_id]):
            if not tags.items() <= dict(snapshot.tags).items():
                continue
            try:
                spoke.delete_snapshot(snapshot.snapshot_id)
                removed.append(snapshot.snapshot_id)
            except ConflictError as error:
                refused.append(str(error))
    return removed, refused


class Abandonment(Value):
    """Input of abandon_restore: the restore as it was asked for, and the error that ended it."""

    request: dict[str, Any]
    problem: dict[str, Any]


def abandon_restore(request: Abandonment, services: RestoreServices) -> Mapping[str, Any]:
    """After a failure: remove temporary snapshots and AMI. What was created for the operator stays.

    A request that no step could read has made nothing. Raises TransientError, to be called again; whatever
    else goes wrong is told in the answer, because the error that ended the restore is the one to report.
    """
    try:
        asked = RestoreRequest.model_validate(request.request)
    except ValidationError:
        return {"removed": [], "left": []}
    try:
        removed, refused = _remove_temporary(asked, services)
    except PermanentError as error:
        return {"removed": [], "left": [str(error)]}
    return {"removed": removed, "left": refused}
