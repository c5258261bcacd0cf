"""EC2 calls of a restore, under the restore role of the target account.

Only creating calls, and removal of the temporary AMI after its tags were read again: nothing here can touch a
resource that the same restore did not make.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import boto3

from holdfast.aws.faults import translating
from holdfast.errors import ConflictError, PermanentError, SourceGoneError
from holdfast.model.inventory import AttachedVolume, InstanceConfiguration
from holdfast.model.restore import InstanceSettings

_BOOT_MODES = frozenset({"legacy-bios", "uefi", "uefi-preferred"})
_PROVISIONED = frozenset({"io1", "io2", "gp3"})


def _tags(tags: Mapping[str, str]) -> list[dict[str, str]]:
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
        self._ec2 = session.client("ec2")
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
            TagSpecifications=[{"ResourceType": "volume", "Tags": _tags(tags)}],
            **wanted,
        )
        return str(made["VolumeId"])

    def volumes_ready(self, volume_ids: Sequence[str]) -> bool:
        if not volume_ids:
            return True
        found = self._call("describe_volumes", volume_ids[0], VolumeIds=list(volume_ids))["Volumes"]
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
        found = self._call(
            "describe_images", name, Owners=["self"], Filters=[{"Name": "name", "Values": [name]}]
        )["Images"]
        if found:
            return str(found[0]["ImageId"])
        optional: dict[str, Any] = {}
        if configuration.boot_mode in _BOOT_MODES:
            optional["BootMode"] = configuration.boot_mode
        made = self._call(
            "register_image",
            name,
            Name=name,
            Description=f"Temporary image of a restore of {configuration.instance.instance_id}",
            Architecture=configuration.architecture,
            VirtualizationType=configuration.virtualization_type,
            EnaSupport=configuration.ena_support,
            RootDeviceName=configuration.root_device_name,
            BlockDeviceMappings=[
                {
                    "DeviceName": volume.device,
                    "Ebs": {
                        "SnapshotId": snapshot_id,
                        "DeleteOnTermination": volume.delete_on_termination,
                        **_performance(volume),
                    },
                }
                for volume, snapshot_id in volumes
            ],
            TagSpecifications=[{"ResourceType": "image", "Tags": _tags(tags)}],
            **optional,
        )
        return str(made["ImageId"])

    def image_ready(self, image_id: str) -> bool:
        found = self._call("describe_images", image_id, ImageIds=[image_id])["Images"]
        if not found:
            raise SourceGoneError(
                "The temporary image disappeared.", resource=image_id, remedy="Restore again."
            )
        if found[0]["State"] not in ("available", "pending"):
            raise PermanentError(
                f"The temporary image is {found[0]['State']}.", resource=image_id, remedy="Restore again."
            )
        return bool(found[0]["State"] == "available")

    def run_instance(
        self,
        image_id: str,
        configuration: InstanceConfiguration,
        settings: InstanceSettings,
        *,
        tags: Mapping[str, str],
        token: str,
    ) -> str:
        optional: dict[str, Any] = {}
        if settings.subnet_id or configuration.subnet_id:
            optional["SubnetId"] = settings.subnet_id or configuration.subnet_id
        groups = settings.security_group_ids or (
            () if settings.subnet_id else configuration.security_group_ids
        )
        if groups:
            optional["SecurityGroupIds"] = list(groups)
        if settings.key_name or configuration.key_name:
            optional["KeyName"] = settings.key_name or configuration.key_name
        profile = (
            ""
            if settings.no_instance_profile
            else (settings.instance_profile_arn or configuration.instance_profile_arn)
        )
        if profile:
            optional["IamInstanceProfile"] = {"Arn": profile}
        if configuration.user_data:
            optional["UserData"] = configuration.user_data
        made = self._call(
            "run_instances",
            image_id,
            ImageId=image_id,
            MinCount=1,
            MaxCount=1,
            InstanceType=settings.instance_type or configuration.instance_type,
            ClientToken=token,
            TagSpecifications=[
                {"ResourceType": "instance", "Tags": _tags(tags)},
                {"ResourceType": "volume", "Tags": _tags(tags)},
            ],
            **optional,
        )
        return str(made["Instances"][0]["InstanceId"])

    def instance_volumes(self, instance_id: str) -> tuple[str, Mapping[str, str]]:
        reservations = self._call("describe_instances", instance_id, InstanceIds=[instance_id])[
            "Reservations"
        ]
        instance = reservations[0]["Instances"][0]
        return str(instance["State"]["Name"]), {
            mapping["DeviceName"]: mapping["Ebs"]["VolumeId"]
            for mapping in instance.get("BlockDeviceMappings", [])
            if "Ebs" in mapping
        }

    def tag(self, resource_id: str, tags: Mapping[str, str]) -> None:
        if tags:
            self._call("create_tags", resource_id, Resources=[resource_id], Tags=_tags(tags))

    def deregister_image(self, image_id: str, tags: Mapping[str, str]) -> None:
        found = self._call(
            "describe_images", image_id, Owners=["self"], Filters=[{"Name": "image-id", "Values": [image_id]}]
        )["Images"]
        if not found:
            return
        carried = {tag["Key"]: tag["Value"] for tag in found[0].get("Tags", [])}
        if any(carried.get(key) != value for key, value in tags.items()):
            raise ConflictError(
                "The image does not carry the tags of this restore; it is left alone.",
                resource=image_id,
                remedy="Remove it by hand if it is not needed.",
            )
        self._call("deregister_image", image_id, ImageId=image_id)
