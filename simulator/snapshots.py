"""EC2's snapshot calls as EC2 makes them: whole instances at one instant, copies, sharing, listing by owner.

Ownership is decided here: a snapshot that another account did not share is one that does not exist.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable
from datetime import timedelta
from typing import Any, Final

from moto.core.responses import ActionResult, EmptyResult
from moto.ec2.exceptions import EC2ClientError
from moto.ec2.models import ec2_backends
from moto.ec2.models.elastic_block_store import EBSBackend, Snapshot
from moto.ec2.responses.elastic_block_store import ElasticBlockStore as SnapshotResponse
from moto.ec2.utils import generic_filter, random_snapshot_id

from simulator import kms
from simulator.ebs import ElasticBlockStore, Frozen, find_readable, frozen, new_volume
from simulator.patches import Patches

_patches = Patches()
COPIES_AT_A_TIME: Final = 20
"""Copies in progress into one Region of one account (EC2 user guide, "Amazon EBS quotas")."""


def install(simulator: Any) -> None:
    """Make moto's snapshot calls faithful."""
    store: ElasticBlockStore = simulator.ebs

    def copy_snapshot(response: SnapshotResponse) -> ActionResult:
        return _copy_snapshot(store, response)

    for name, call in {
        "create_snapshots": _create_snapshots,
        "copy_snapshot": copy_snapshot,
        "describe_snapshots": _describe_snapshots,
        "describe_snapshot_attribute": _describe_snapshot_attribute,
        "modify_snapshot_attribute": _modify_snapshot_attribute,
    }.items():
        _patches.set(SnapshotResponse, name, call)
    original = vars(EBSBackend)["delete_snapshot"]

    def delete_snapshot(backend: Any, snapshot_id: str) -> Snapshot:
        for image in backend.amis.values():
            if snapshot_id in (mapping["Ebs"].get("SnapshotId") for mapping in image.block_device_mappings):
                message = f"The snapshot {snapshot_id} is currently in use by {image.id}"
                raise EC2ClientError("InvalidSnapshot.InUse", message)
        require_own(backend, snapshot_id)
        deleted: Snapshot = original(backend, snapshot_id)
        backend.tags.pop(snapshot_id, None)
        return deleted

    _patches.set(EBSBackend, "delete_snapshot", delete_snapshot)


def uninstall() -> None:
    """Give moto its own snapshot calls back."""
    _patches.undo()


def require_own(backend: Any, snapshot_id: str) -> Snapshot:
    """A snapshot of this account and Region. Raises EC2ClientError."""
    snapshot: Snapshot | None = backend.snapshots.get(snapshot_id)
    if snapshot is None:
        raise _missing(snapshot_id)
    return snapshot


def require_readable(account: str, region: str, snapshot_id: str) -> Snapshot:
    """A completed snapshot that the account may create volumes from. Raises EC2ClientError."""
    snapshot = find_readable(account, region, snapshot_id)
    if snapshot is None:
        raise _missing(snapshot_id)
    if snapshot.status != "completed":
        raise EC2ClientError("IncorrectState", f"Snapshot {snapshot_id} is in state {snapshot.status}")
    if snapshot.kms_key_id:
        require_key(snapshot.kms_key_id, account, region)
    return snapshot


def require_key(key_id: str, account: str, region: str) -> str:
    """The ARN of a usable key. Raises EC2ClientError with EC2's codes."""
    try:
        return str(kms.require_usable(key_id, account, region).arn)
    except kms.KeyRefused as refused:
        unusable = refused.error_type in ("DisabledException", "KMSInvalidStateException")
        code = "InvalidKMSKey.InvalidState" if unusable else "KMSKeyNotAccessibleFault"
        raise EC2ClientError(code, str(refused.message)) from refused


def _missing(snapshot_id: str) -> EC2ClientError:
    return EC2ClientError("InvalidSnapshot.NotFound", f"The snapshot '{snapshot_id}' does not exist.")


def _create_snapshots(response: SnapshotResponse) -> ActionResult:
    backend, spec = response.ec2_backend, response._get_param("InstanceSpecification", {})
    instance = backend.get_instance(spec["InstanceId"])
    attached = {mapping.volume_id: device for device, mapping in instance.get_block_device_mapping}
    root = next((held for held, device in attached.items() if device == instance.root_device_name), None)
    excluded = set(spec.get("ExcludeDataVolumeIds") or [])
    if unknown := excluded - attached.keys():
        message = f"Volumes {', '.join(sorted(unknown))} are not attached to {instance.id}"
        raise EC2ClientError("InvalidParameterValue", message)
    if root in excluded:
        raise EC2ClientError("InvalidParameterValue", "Use ExcludeBootVolume to exclude the boot volume")
    if _is_true(spec.get("ExcludeBootVolume")) and root:
        excluded.add(root)
    if not (chosen := [volume_id for volume_id in attached if volume_id not in excluded]):
        raise EC2ClientError("InvalidParameterValue", f"No volume of {instance.id} is left to snapshot")
    tags = response._parse_tag_specification().get("snapshot", {})
    copies = response._get_param("CopyTagsFromSource") == "volume"
    response.error_on_dryrun()
    taken = []
    for volume_id in chosen:
        snapshot = backend.create_snapshot(volume_id, response._get_param("Description", ""))
        source = backend.tags.get(volume_id, {}) if copies else {}
        snapshot.add_tags({key: value for key, value in source.items() if not key.startswith("aws:")} | tags)
        taken.append(snapshot)
    return ActionResult({"Snapshots": taken})


def _copy_snapshot(store: ElasticBlockStore, response: SnapshotResponse) -> ActionResult:
    backend, account = response.ec2_backend, response.current_account
    source_id = response._get_param("SourceSnapshotId")
    source = require_readable(account, response._get_param("SourceRegion"), source_id)
    named = response._get_param("KmsKeyId")
    encrypted = (
        source.encrypted or _is_true(response._get_param("Encrypted")) or backend.ebs_encryption_by_default
    )
    if named and not encrypted:
        raise EC2ClientError(
            "InvalidParameterDependency", "The parameter KmsKeyId requires Encrypted to be set."
        )
    key = None
    if encrypted:
        named = named or backend.default_kms_key_id or backend._create_default_encryption_key()
        key = require_key(named, account, response.region)
    response.error_on_dryrun()
    if sum(_is_copying(one) for one in list(backend.snapshots.values())) >= COPIES_AT_A_TIME:
        message = f"Too many snapshot copies in progress. The limit is {COPIES_AT_A_TIME} for this Region."
        raise EC2ClientError("ResourceLimitExceeded", message)
    volume = new_volume(backend, source.volume_size)
    copy = Snapshot(
        backend,
        random_snapshot_id(),
        volume,
        response._get_param("Description") or "",
        bool(key),
        kms_key_id=key,
    )
    now, content = store.clock.now(), frozen(source)
    copy.__dict__["is_copy"] = True
    copy.__dict__["frozen"] = Frozen(
        blocks=content.blocks.share(),
        lineage="/".join((content.lineage, account, response.region, key or "")),
        size_gib=content.size_gib,
        starts_at=now,
        completes_at=now + timedelta(seconds=store.settings.snapshot_seconds),
    )
    backend.snapshots[copy.id] = copy
    copy.add_tags(response._parse_tag_specification().get("snapshot", {}))
    return ActionResult({"SnapshotId": copy.id, "Tags": copy.tag_set})


def _is_copying(snapshot: Snapshot) -> bool:
    return "is_copy" in snapshot.__dict__ and snapshot.status == "pending"


def _describe_snapshots(response: SnapshotResponse) -> ActionResult:
    account, region = response.current_account, response.region
    wanted: list[str] = response._get_param("SnapshotIds", [])
    if wanted:
        found = []
        for snapshot_id in wanted:
            snapshot = find_readable(account, region, snapshot_id)
            if snapshot is None:
                raise _missing(snapshot_id)
            found.append(snapshot)
    else:
        found = list(_visible(account, region))
    owners = {account if owner == "self" else owner for owner in response._get_param("OwnerIds", [])}
    if owners:
        found = [snapshot for snapshot in found if snapshot.owner_id in owners]
    for reader in response._get_param("RestorableByUserIds", []):
        found = [
            snapshot for snapshot in found if _may_restore(snapshot, account if reader == "self" else reader)
        ]
    found = generic_filter(response._filters_from_querystring(), found)
    page, following = page_of(response, found)
    return ActionResult({"Snapshots": page} | ({"NextToken": following} if following else {}))


def page_of(response: Any, items: list[Any]) -> tuple[list[Any], str | None]:
    """The part of ``items`` that MaxResults and NextToken ask for, and the token of the rest."""
    token, limit = response._get_param("NextToken"), response._get_param("MaxResults")
    try:
        start = int(base64.urlsafe_b64decode(token)) if token else 0
    except ValueError as error:
        raise EC2ClientError("InvalidParameterValue", "Invalid value for NextToken") from error
    if not limit:
        return items[start:], None
    end = start + max(5, min(int(limit), 1_000))
    more = base64.urlsafe_b64encode(str(end).encode()).decode() if end < len(items) else None
    return items[start:end], more


def _visible(account: str, region: str) -> Iterable[Snapshot]:
    yield from list(ec2_backends[account][region].snapshots.values())
    for other in list(ec2_backends):
        if other != account and region in ec2_backends[other].keys():  # noqa: SIM118 `in` would create the Region
            for snapshot in list(ec2_backends[other][region].snapshots.values()):
                if _may_restore(snapshot, account):
                    yield snapshot


def _may_restore(snapshot: Snapshot, account: str) -> bool:
    return (
        snapshot.owner_id == account
        or account in snapshot.create_volume_permission_userids
        or "all" in snapshot.create_volume_permission_groups
    )


def _describe_snapshot_attribute(response: SnapshotResponse) -> ActionResult:
    snapshot = require_own(response.ec2_backend, response._get_param("SnapshotId"))
    permissions = [{"Group": group} for group in sorted(snapshot.create_volume_permission_groups)]
    permissions += [{"UserId": user} for user in sorted(snapshot.create_volume_permission_userids)]
    return ActionResult({"SnapshotId": snapshot.id, "CreateVolumePermissions": permissions})


def _modify_snapshot_attribute(response: SnapshotResponse) -> ActionResult:
    snapshot = require_own(response.ec2_backend, response._get_param("SnapshotId"))
    changes = response._get_param("CreateVolumePermission", {}) or {}
    added, removed = list(changes.get("Add", [])), list(changes.get("Remove", []))
    listed = [{"UserId": user} for user in response._get_param("UserIds", [])]
    listed += [{"Group": group} for group in response._get_param("GroupNames", [])]
    (added if response._get_param("OperationType") == "add" else removed).extend(listed)
    _check_sharing(snapshot, added)
    response.error_on_dryrun()
    for permission in added:
        snapshot.create_volume_permission_userids.update(filter(None, [permission.get("UserId")]))
        snapshot.create_volume_permission_groups.update(filter(None, [permission.get("Group")]))
    for permission in removed:
        snapshot.create_volume_permission_userids.discard(permission.get("UserId"))
        snapshot.create_volume_permission_groups.discard(permission.get("Group"))
    return EmptyResult()


def _check_sharing(snapshot: Snapshot, added: list[dict[str, str]]) -> None:
    if not added:
        return
    if snapshot.kms_key_id and kms.is_default_ebs_key(snapshot.kms_key_id):
        message = "Encrypted snapshots with EBS default key cannot be shared"
        raise EC2ClientError("OperationNotPermitted", message)
    for permission in added:
        if snapshot.encrypted and permission.get("Group") == "all":
            raise EC2ClientError("OperationNotPermitted", "Encrypted snapshots cannot be made public")
        user = permission.get("UserId", "")
        if "UserId" in permission and not (len(user) == 12 and user.isdigit()):
            raise EC2ClientError("InvalidParameterValue", f"Invalid user id: {user}")


def _is_true(value: Any) -> bool:
    return str(value).lower() == "true"
