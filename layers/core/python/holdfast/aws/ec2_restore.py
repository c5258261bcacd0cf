"""EC2 calls of a restore, under the restore role of the target account.

Only creating calls, and removal of the temporary AMI after its tags were read again: nothing here can touch a
resource that the same restore did not make.
"""

from __future__ import annotations

from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Mapping, Sequence
from typing import Any

import boto3

from holdfast.aws.clients import CONFIG
from holdfast.aws.faults import translating
from holdfast.errors import (
    AccessDeniedError,
    ConflictError,
    PermanentError,
    SourceGoneError,
    UnavailableError,
)
from holdfast.model.inventory import AttachedVolume, InstanceConfiguration
from holdfast.model.restore import InstanceSettings

_BOOT_MODES = frozenset({"legacy-bios", "uefi", "uefi-preferred"})
_PROVISIONED = frozenset({"io1", "io2", "gp3"})
_METADATA = (
    "HttpTokens",
    "HttpPutResponseHopLimit",
    "HttpEndpoint",
    "HttpProtocolIpv6",
    "InstanceMetadataTags",
)


def _tag_list(tags: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in sorted(tags.items())]


def _performance(volume: AttachedVolume) -> dict[str, Any]:
    """Type, IOPS and throughput as the source had them; EC2 refuses IOPS for types that have none to set."""
    wanted: dict[str, Any] = {"VolumeType": volume.volume_type}
    if volume.iops and volume.volume_type in _PROVISIONED:
        wanted["Iops"] = volume.iops
    if volume.throughput and volume.volume_type == "gp3":
        wanted["Throughput"] = volume.throughput
    return wanted


class Ec2RestoreSite:
    """`ports.RestoreSite` on EC2."""

    def __init__(self, session: boto3.Session, role: str) -> None:
        self._ec2 = session.client("ec2", config=CONFIG)
        self._role = role

    def _call(self, operation: str, resource: str = "", **arguments: Any) -> Any:
        action = "ec2:" + "".join(word.capitalize() for word in operation.split("_"))
        with translating(action, role=self._role, resource=resource):
            return getattr(self._ec2, operation)(**arguments)

    def create_volume(
        self,
        snapshot_id: str,
        like: AttachedVolume,
        *,
        availability_zone: str,
        tags: Mapping[str, str],
        token: str,
        encrypted: bool | None,
        kms_key_arn: str,
    ) -> str:
        wanted = _performance(like)
        if like.multi_attach:
            wanted["MultiAttachEnabled"] = True
        if encrypted or kms_key_arn:
            wanted["Encrypted"] = True
        if kms_key_arn:
            wanted["KmsKeyId"] = kms_key_arn
        made = self._call(
            "create_volume",
            snapshot_id,
            SnapshotId=snapshot_id,
            AvailabilityZone=availability_zone,
            ClientToken=token,
            TagSpecifications=[{"ResourceType": "volume", "Tags": _tag_list(tags)}],
            **wanted,
        )
        return str(made["VolumeId"])

    def volumes_ready(self, volume_ids: Sequence[str]) -> bool:
        if not volume_ids:
            return True
        try:
            found = self._call("describe_volumes", volume_ids[0], VolumeIds=list(volume_ids))["Volumes"]
        except SourceGoneError as error:
            # Not visible yet, or dropped by EBS, which is what it does when a key cannot be used.
            raise UnavailableError(
                f"A volume is not to be seen: {error.message}",
                resource=volume_ids[0],
                remedy="If it stays away: check that the restore role may use the KMS key.",
            ) from error
        for volume in found:
            if volume["State"] == "error":
                raise PermanentError(
                    "EBS could not create the volume.",
                    resource=volume["VolumeId"],
                    remedy="Check that the restore role may use the KMS key, then restore again.",
                )
        return all(volume["State"] in ("available", "in-use") for volume in found)

    def register_image(
        self,
        name: str,
        configuration: InstanceConfiguration,
        volumes: Sequence[tuple[AttachedVolume, str]],
        tags: Mapping[str, str],
    ) -> str:
        if found := self._images("name", name):
            return str(found[0]["ImageId"])
        optional: dict[str, Any] = {}
        if configuration.boot_mode in _BOOT_MODES:
            optional["BootMode"] = configuration.boot_mode
        try:
            made = self._call(
                "register_image",
                name,
                Name=name,
                Description=f"Temporary image of a restore of {configuration.instance.instance_id}",
                Architecture=configuration.architecture,
                VirtualizationType=configuration.virtualization_type,
                EnaSupport=configuration.ena_support,
                RootDeviceName=configuration.root_device_name,
                BlockDeviceMappings=[_mapping(volume, snapshot_id) for volume, snapshot_id in volumes],
                TagSpecifications=[{"ResourceType": "image", "Tags": _tag_list(tags)}],
                **optional,
            )
        except ConflictError as error:
            raise UnavailableError(
                "The temporary image exists, but EC2 does not show it yet.", resource=name
            ) from error
        return str(made["ImageId"])

    def image_ready(self, image_id: str) -> bool:
        found = self._images("image-id", image_id)
        if found and found[0]["State"] not in ("available", "pending"):
            raise PermanentError(
                f"The temporary image is {found[0]['State']}.", resource=image_id, remedy="Restore again."
            )
        return bool(found) and found[0]["State"] == "available"

    def run_instance(
        self,
        image_id: str,
        configuration: InstanceConfiguration,
        settings: InstanceSettings,
        *,
        tags: Mapping[str, str],
        volume_tags: Mapping[str, str],
        encryption: Mapping[str, str],
        token: str,
    ) -> str:
        profile = settings.instance_profile_arn
        optional: dict[str, Any] = {
            "SubnetId": settings.subnet_id,
            "SecurityGroupIds": list(settings.security_group_ids),
            "KeyName": settings.key_name,
            "IamInstanceProfile": {"Arn": profile} if profile else None,
            "UserData": _user_data(configuration),
            "MetadataOptions": _metadata_options(configuration),
            "BlockDeviceMappings": [
                {"DeviceName": device, "Ebs": {"Encrypted": True, **({"KmsKeyId": key} if key else {})}}
                for device, key in sorted(encryption.items())
            ],
        }
        made = self._call(
            "run_instances",
            image_id,
            ImageId=image_id,
            MinCount=1,
            MaxCount=1,
            InstanceType=settings.instance_type,
            ClientToken=token,
            TagSpecifications=[
                {"ResourceType": "instance", "Tags": _tag_list(tags)},
                {"ResourceType": "volume", "Tags": _tag_list(volume_tags)},
            ],
            **{name: value for name, value in optional.items() if value},
        )
        return str(made["Instances"][0]["InstanceId"])

    def instance_volumes(self, instance_id: str) -> tuple[str, Mapping[str, str]]:
        try:
            reservations = self._call("describe_instances", instance_id, InstanceIds=[instance_id])
        except SourceGoneError:
            return "pending", {}  # Just launched: terminated ones stay visible for about an hour.
        instance = reservations["Reservations"][0]["Instances"][0]
        return str(instance["State"]["Name"]), {
            mapping["DeviceName"]: mapping["Ebs"]["VolumeId"]
            for mapping in instance.get("BlockDeviceMappings", [])
            if "Ebs" in mapping
        }

    def tag(self, resource_id: str, tags: Mapping[str, str]) -> None:
        if tags:
            self._call("create_tags", resource_id, Resources=[resource_id], Tags=_tag_list(tags))

    def remove_image(self, name: str, tags: Mapping[str, str]) -> Sequence[str]:
        removed = []
        for image in self._images("name", name):
            carried = {tag["Key"]: tag["Value"] for tag in image.get("Tags", [])}
            if tags.items() <= carried.items():
                self._deregister(image["ImageId"])
                removed.append(str(image["ImageId"]))
        return removed

    def _deregister(self, image_id: str) -> None:
        try:
            self._call("deregister_image", image_id, ImageId=image_id)
        except (SourceGoneError, AccessDeniedError):
            if self._images("image-id", image_id):  # What is gone carries no tags that would allow it again.
                raise

    def _images(self, filter_name: str, value: str) -> list[dict[str, Any]]:
        """Images of this account; one that is not visible (yet) is not an error."""
        found = self._call(
            "describe_images", value, Owners=["self"], Filters=[{"Name": filter_name, "Values": [value]}]
        )
        return list(found["Images"])


def _mapping(volume: AttachedVolume, snapshot_id: str) -> dict[str, Any]:
    """The block device of an image that a volume becomes."""
    ebs = {"SnapshotId": snapshot_id, "DeleteOnTermination": volume.delete_on_termination}
    return {"DeviceName": volume.device, "Ebs": {**ebs, **_performance(volume)}}


def _user_data(configuration: InstanceConfiguration) -> bytes | str:
    """The source's user data, exactly; boto3 encodes it again."""
    encoded = configuration.attributes.get("userDataBase64")
    try:
        return b64decode(encoded, validate=True) if encoded else configuration.user_data
    except Base64Error:
        return configuration.user_data


def _metadata_options(configuration: InstanceConfiguration) -> dict[str, Any]:
    """Who asked for IMDSv2 only must not get an instance with the weaker default."""
    told = configuration.description.get("MetadataOptions") or {}
    return {name: told[name] for name in _METADATA if name in told}
