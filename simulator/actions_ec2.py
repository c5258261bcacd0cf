"""Permissions of EC2 and of the EBS direct APIs.

EC2 asks for every resource of a call on its own: the snapshot a volume is made from as much as the volume.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from moto.iam.models import iam_backends

from simulator import kms
from simulator.needs import Need, Place, request_tags

# Calls on resources that exist: the parameters that name them.
_ON_EXISTING: dict[str, tuple[str, ...]] = {
    "AttachVolume": ("VolumeId", "InstanceId"),
    "CreateImage": ("InstanceId",),
    "DeleteSnapshot": ("SnapshotId",),
    "DeleteVolume": ("VolumeId",),
    "DeregisterImage": ("ImageId",),
    "DetachVolume": ("VolumeId", "InstanceId"),
    "EnableFastSnapshotRestores": ("SourceSnapshotIds",),
    "LockSnapshot": ("SnapshotId",),
    "ModifyInstanceAttribute": ("InstanceId",),
    "ModifySnapshotTier": ("SnapshotId",),
    "ModifyVolume": ("VolumeId",),
    "RebootInstances": ("InstanceIds",),
    "ResetSnapshotAttribute": ("SnapshotId",),
    "StartInstances": ("InstanceIds",),
    "StopInstances": ("InstanceIds",),
    "TerminateInstances": ("InstanceIds",),
}
# Calls that tag what they make: the kind they make without a specification of their own.
_MAKES = {
    "CopySnapshot": "snapshot",
    "CreateSnapshot": "snapshot",
    "CreateSnapshots": "snapshot",
    "CreateVolume": "volume",
    "RegisterImage": "image",
}

# What EBS does with the key of something that a call encrypts.
_ENCRYPT = ("kms:CreateGrant", "kms:GenerateDataKeyWithoutPlaintext")


def derive_ec2(place: Place, operation: str, given: Mapping[str, Any]) -> Iterator[Need]:
    """The permissions of an EC2 call. Raises ValueError for calls that are not known here."""
    action = f"ec2:{operation}"
    if operation.startswith(("Describe", "Get", "List")):
        yield Need(action, "*")
        return
    specified = _specified_tags(given)
    if operation in _MAKES:
        kind = _MAKES[operation]
        yield Need(action, place.ec2_arn(kind, "*"), request_tags(specified.get(kind, {})))
        yield from _sources(place, operation, given)
    elif operation == "RunInstances":
        yield from _run_instances(place, given, specified)
    elif operation in _ON_EXISTING:
        for name in _ON_EXISTING[operation]:
            for resource in _listed(given.get(name)):
                yield place.tagged(action, resource)
    elif operation in {"CreateTags", "DeleteTags"}:
        tags = {tag["Key"]: tag.get("Value", "") for tag in given.get("Tags", ())}
        context = request_tags(tags) if operation == "CreateTags" else {"aws:tagkeys": list(tags)}
        for resource in given["Resources"]:
            yield place.tagged(action, resource, context)
    elif operation == "ModifySnapshotAttribute":
        yield place.tagged(action, given["SnapshotId"], _sharing(given))
    else:
        raise ValueError(f"the simulator does not know the resources of {action}")
    for kind, tags in specified.items():
        context = request_tags(tags) | {"ec2:createaction": [operation]}
        yield Need("ec2:CreateTags", place.ec2_arn(kind, "*"), context)


def _sources(place: Place, operation: str, given: Mapping[str, Any]) -> Iterator[Need]:
    """What a call makes something from."""
    action = f"ec2:{operation}"
    if operation == "CreateSnapshot":
        yield place.tagged(action, given["VolumeId"])
    elif operation == "CreateSnapshots":
        specification = given["InstanceSpecification"]
        yield place.tagged(action, specification["InstanceId"])
        yield Need(action, place.ec2_arn("volume", "*"))
    elif operation == "CopySnapshot":
        source, region = given["SourceSnapshotId"], given["SourceRegion"]
        yield place.tagged(action, source, region=region)
        yield from _through_ebs(place, place.key_of_snapshot(source, region), "kms:Decrypt")
        yield from _through_ebs(place, _key(place, given), *_ENCRYPT)
    elif operation == "CreateVolume":
        if given.get("SnapshotId"):
            yield place.tagged(action, given["SnapshotId"])
            yield from _through_ebs(place, place.key_of_snapshot(given["SnapshotId"]), "kms:Decrypt")
        yield from _through_ebs(place, _key(place, given), *_ENCRYPT)
    elif operation == "RegisterImage":
        for snapshot in _mapped_snapshots(given):
            yield place.tagged(action, snapshot)


def _key(place: Place, given: Mapping[str, Any]) -> str:
    """The ARN of the key that a call names; empty without one, or when it does not exist."""
    name = given.get("KmsKeyId") or given.get("KmsKeyArn")
    key = kms.find_key(name, place.account, place.region) if name else None
    return str(key.arn) if key is not None else ""


def _run_instances(
    place: Place, given: Mapping[str, Any], specified: Mapping[str, Mapping[str, str]]
) -> Iterator[Need]:
    action = "ec2:RunInstances"
    yield place.tagged(action, given["ImageId"])
    for kind in ("instance", "volume", "network-interface"):
        yield Need(action, place.ec2_arn(kind, "*"), request_tags(specified.get(kind, {})))
    interfaces = given.get("NetworkInterfaces", ())
    subnets = [given.get("SubnetId"), *(one.get("SubnetId") for one in interfaces)]
    groups = [
        *given.get("SecurityGroupIds", ()),
        *(group for one in interfaces for group in one.get("Groups", ())),
    ]
    for resource in [*filter(None, subnets), *groups, *_mapped_snapshots(given)]:
        yield place.tagged(action, resource)
    if given.get("KeyName"):
        yield Need(action, place.ec2_arn("key-pair", given["KeyName"]))
    profile = given.get("IamInstanceProfile") or {}
    name = profile.get("Name") or str(profile.get("Arn", "")).rsplit("/", 1)[-1]
    if name:
        for one in iam_backends[place.account]["aws"].instance_profiles.values():
            if one.name == name:
                for role in one.roles:
                    yield Need("iam:PassRole", role.arn, {"iam:passedtoservice": ["ec2.amazonaws.com"]})


def _sharing(given: Mapping[str, Any]) -> dict[str, list[str]]:
    context: dict[str, list[str]] = {}
    changes = given.get("CreateVolumePermission") or {}
    for verb in ("Add", "Remove"):
        for one in changes.get(verb, ()):
            for field, key in (("UserId", "userid"), ("Group", "group")):
                if one.get(field):
                    context.setdefault(f"ec2:{verb.lower()}/{key}", []).append(one[field])
    operation = str(given.get("OperationType", "")).lower()
    for field, key in (("UserIds", "userid"), ("GroupNames", "group")):
        if operation and given.get(field):
            context[f"ec2:{operation}/{key}"] = list(given[field])
    return context


def _mapped_snapshots(given: Mapping[str, Any]) -> list[str]:
    mappings = given.get("BlockDeviceMappings", ())
    return [one["Ebs"]["SnapshotId"] for one in mappings if (one.get("Ebs") or {}).get("SnapshotId")]


def _specified_tags(given: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for one in given.get("TagSpecifications", ()):
        tags = {tag["Key"]: tag.get("Value", "") for tag in one.get("Tags", ())}
        if tags:
            found.setdefault(one["ResourceType"], {}).update(tags)
    return found


def _listed(value: Any) -> list[str]:
    if value is None:
        return []
    return [value] if isinstance(value, str) else list(value)


def derive_ebs(place: Place, operation: str, given: Mapping[str, Any]) -> Iterator[Need]:
    """The permissions of an EBS direct call; its resources are EC2's snapshots."""
    action = f"ebs:{operation}"
    if operation == "StartSnapshot":
        tags = {tag["Key"]: tag.get("Value", "") for tag in given.get("Tags") or ()}
        yield Need(action, place.ec2_arn("snapshot", "*"), request_tags(tags))
        if given.get("ParentSnapshotId"):
            yield place.tagged(action, given["ParentSnapshotId"])
        return
    if operation == "ListChangedBlocks":
        second = given.get("SecondSnapshotId") or given["secondSnapshotId"]
        first = given.get("FirstSnapshotId") or given.get("firstSnapshotId")
        for snapshot in filter(None, (first, second)):
            yield place.tagged(action, snapshot)
        return
    snapshot = given.get("SnapshotId") or given["snapshotId"]
    yield place.tagged(action, snapshot)
    if operation == "GetSnapshotBlock":
        yield from _through_ebs(place, place.key_of_snapshot(snapshot), "kms:Decrypt")


def _through_ebs(place: Place, key_arn: str, *uses: str) -> Iterator[Need]:
    """What EBS does with a customer-managed key in the caller's name; its own key asks nobody.

    Source: "Permissions to use KMS keys with EBS encryption" in the EBS user guide.
    """
    if not key_arn or kms.is_default_ebs_key(key_arn):
        return
    context = {
        "kms:viaservice": [f"ec2.{place.region}.amazonaws.com"],
        "kms:grantisforawsresource": ["true"],
    }
    for use in uses:
        yield Need(use, key_arn, context)
