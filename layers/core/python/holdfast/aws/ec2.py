"""EC2 of a protected account: instances, their configuration, and snapshots.

Every listing is paged, filtered and limited to what the account itself owns; every error leaves as
HoldfastError. Nothing here decides what may be deleted.
"""

from __future__ import annotations

import json
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from holdfast.aws.faults import EXPIRED, translating
from holdfast.aws.sts import AssumedRole
from holdfast.errors import AccessDeniedError, HoldfastError, SourceGoneError
from holdfast.model.blocks import GIB
from holdfast.model.inventory import AttachedVolume, Instance, InstanceConfiguration
from holdfast.ports import VolumeSnapshot

PAGE: Final = 500
GONE: Final = ("terminated", "shutting-down")
ATTRIBUTES: Final = (
    "userData",
    "disableApiTermination",
    "disableApiStop",
    "instanceInitiatedShutdownBehavior",
)
"""What DescribeInstances does not tell; each one costs a request per instance and session."""


class Ec2Spoke:
    """`ports.Spoke`.

    ``client`` gives a boto3 client under ``role`` with credentials that are still good; with ``once`` it
    sends a request a single time, because CreateSnapshots has no idempotency token.
    """

    def __init__(self, client: Callable[..., Any], role: AssumedRole, region: str) -> None:
        self._client = client
        self._role = role
        self._region = region
        self._account = role.role_arn.split(":")[4]

    def instances(self, instance_ids: Sequence[str] = ()) -> Iterator[Instance]:
        filters = [{"Name": "instance-state-name", "Values": ["pending", "running", "stopping", "stopped"]}]
        if instance_ids:
            filters.append({"Name": "instance-id", "Values": list(instance_ids)})
        seen: set[str] = set()  # A listing that changes between two pages may show an instance twice.
        for page in self._pages("describe_instances", "Reservations", Filters=filters, MaxResults=PAGE):
            for item in page["Instances"]:
                if item["InstanceId"] not in seen:
                    seen.add(item["InstanceId"])
                    yield self._instance(item, _mapped(item))

    def inventory(self) -> Iterator[Instance]:
        found = list(self.instances())
        if not found:
            return
        pages = self._pages("describe_volumes", "Volumes", MaxResults=PAGE)
        details = {volume["VolumeId"]: volume for volume in pages}
        for one in found:
            volumes = tuple(
                _detailed(volume, details[volume.volume_id]) if volume.volume_id in details else volume
                for volume in one.volumes
            )
            yield one.model_copy(update={"volumes": volumes})

    def configuration(self, instance_id: str) -> InstanceConfiguration:
        item = self._item(instance_id)
        addresses = self._call(
            "describe_addresses",
            instance_id,
            Filters=[{"Name": "instance-id", "Values": [instance_id]}],
        )["Addresses"]
        attributes = {name: self._attribute(instance_id, name) for name in ATTRIBUTES}
        user_data = attributes.pop("userData") or ""
        return InstanceConfiguration(
            instance=self._instance(item, self._volumes(item)),
            image_id=item.get("ImageId", ""),
            instance_type=item.get("InstanceType", ""),
            architecture=item.get("Architecture", "x86_64"),
            boot_mode=item.get("BootMode", ""),
            virtualization_type=item.get("VirtualizationType", "hvm"),
            ena_support=bool(item.get("EnaSupport", True)),
            root_device_name=item.get("RootDeviceName", ""),
            key_name=item.get("KeyName", ""),
            instance_profile_arn=item.get("IamInstanceProfile", {}).get("Arn", ""),
            subnet_id=item.get("SubnetId", ""),
            vpc_id=item.get("VpcId", ""),
            security_group_ids=tuple(group["GroupId"] for group in item.get("SecurityGroups", [])),
            availability_zone=item.get("Placement", {}).get("AvailabilityZone", ""),
            user_data=_text(user_data),
            network_interfaces=tuple(_plain(one) for one in item.get("NetworkInterfaces", [])),
            addresses=tuple(_plain(one) for one in addresses),
            product_codes=tuple(one["ProductCodeId"] for one in item.get("ProductCodes", [])),
            attributes={**attributes, "userDataBase64": user_data},
            description=_plain(item),
        )

    def create_snapshots(
        self,
        instance_id: str,
        *,
        exclude_root: bool,
        exclude_volumes: Sequence[str],
        tags: Mapping[str, str],
        copy_tags: bool,
        description: str,
    ) -> Sequence[VolumeSnapshot]:
        specification: dict[str, Any] = {"InstanceId": instance_id, "ExcludeBootVolume": exclude_root}
        if exclude_volumes:
            specification["ExcludeDataVolumeIds"] = list(exclude_volumes)
        optional = {"CopyTagsFromSource": "volume"} if copy_tags else {}
        made = self._call(
            "create_snapshots",
            instance_id,
            InstanceSpecification=specification,
            Description=description[:255],
            TagSpecifications=[{"ResourceType": "snapshot", "Tags": _tag_list(tags)}],
            **optional,
        )["Snapshots"]
        return [_snapshot(one) for one in made]

    def find_snapshots(self, tags: Mapping[str, str]) -> Sequence[VolumeSnapshot]:
        filters = [{"Name": f"tag:{key}", "Values": [_literal(value)]} for key, value in tags.items()]
        found = [
            _snapshot(one)
            for one in self._pages(
                "describe_snapshots", "Snapshots", OwnerIds=["self"], Filters=filters, MaxResults=PAGE
            )
        ]
        return [one for one in found if tags.items() <= dict(one.tags).items()]

    def read_snapshots(self, snapshot_ids: Sequence[str]) -> Sequence[VolumeSnapshot]:
        found: list[VolumeSnapshot] = []
        for start in range(0, len(snapshot_ids), 200):  # the most values that one filter takes
            some = list(snapshot_ids[start : start + 200])
            found += [
                _snapshot(one)
                for one in self._pages(
                    "describe_snapshots",
                    "Snapshots",
                    OwnerIds=["self"],
                    Filters=[{"Name": "snapshot-id", "Values": some}],
                    MaxResults=PAGE,
                )
            ]
        return found

    def tag_snapshot(self, snapshot_id: str, tags: Mapping[str, str]) -> None:
        self._call("create_tags", snapshot_id, Resources=[snapshot_id], Tags=_tag_list(tags))

    def untag_snapshot(self, snapshot_id: str, keys: Sequence[str]) -> None:
        self._call(
            "delete_tags", snapshot_id, Resources=[snapshot_id], Tags=[{"Key": key} for key in sorted(keys)]
        )

    def delete_snapshot(self, snapshot_id: str) -> None:
        try:
            self._call("delete_snapshot", snapshot_id, SnapshotId=snapshot_id)
        except SourceGoneError:
            return
        except AccessDeniedError:
            # Rights that hang on tags deny to delete again what a first call, whose answer was lost, has
            # deleted: it has no tags any more.
            if self.read_snapshots([snapshot_id]):
                raise

    def _call(self, operation: str, resource: str = "", **arguments: Any) -> Any:
        action = "ec2:" + "".join(word.capitalize() for word in operation.split("_"))
        with translating(action, role=self._role.role_arn, resource=resource):
            once = operation == "create_snapshots"
            try:
                return getattr(self._client(once=once), operation)(**arguments)
            except Exception as error:
                if not self._expired(error):
                    raise
                self._role.renew(self._role.current())
                return getattr(self._client(once=once), operation)(**arguments)

    def _expired(self, error: Exception) -> bool:
        response = getattr(error, "response", None)
        return isinstance(response, dict) and response.get("Error", {}).get("Code") in EXPIRED

    def _pages(self, operation: str, items: str, **arguments: Any) -> Iterator[Any]:
        token = ""
        while True:
            page = self._call(operation, "", **arguments, **({"NextToken": token} if token else {}))
            yield from page[items]
            token = page.get("NextToken") or ""
            if not token:
                return

    def _item(self, instance_id: str) -> dict[str, Any]:
        found = self._call("describe_instances", instance_id, InstanceIds=[instance_id])["Reservations"]
        item = next((one for reservation in found for one in reservation["Instances"]), None)
        if item is None or item["State"]["Name"] in GONE:
            raise SourceGoneError(
                "The instance was terminated.",
                resource=instance_id,
                remedy="Nothing is left to back up; its restore points stay.",
            )
        return dict(item)

    def _instance(self, item: Mapping[str, Any], volumes: tuple[AttachedVolume, ...]) -> Instance:
        tags = _tags(item)
        return Instance(
            instance_id=item["InstanceId"],
            account=self._account,
            region=self._region,
            name=tags.get("Name", ""),
            state=item["State"]["Name"],
            platform="windows" if item.get("Platform", "").lower() == "windows" else "linux",
            tags=tags,
            volumes=volumes,
        )

    def _volumes(self, item: Mapping[str, Any]) -> tuple[AttachedVolume, ...]:
        """The attached volumes with their size, type, key and tags; one gone meanwhile is left out."""
        attached = {volume.volume_id: volume for volume in _mapped(item)}
        if not attached:
            return ()
        found = self._pages(
            "describe_volumes",
            "Volumes",
            Filters=[{"Name": "attachment.instance-id", "Values": [item["InstanceId"]]}],
            MaxResults=PAGE,
        )
        details = {volume["VolumeId"]: volume for volume in found}
        return tuple(
            _detailed(volume, details[volume_id])
            for volume_id, volume in attached.items()
            if volume_id in details
        )

    def _attribute(self, instance_id: str, name: str) -> Any:
        """An attribute's value, or None where this kind of instance does not have it."""
        try:
            told = self._call(
                "describe_instance_attribute", instance_id, InstanceId=instance_id, Attribute=name
            )
        except HoldfastError as error:
            if _unsupported(error):
                return None
            raise
        key = name[0].upper() + name[1:]
        value = told.get(key)
        return value.get("Value") if isinstance(value, dict) else value


def _unsupported(error: HoldfastError) -> bool:
    return "Unsupported" in error.message or "InvalidParameter" in error.message


def _literal(value: str) -> str:
    """A filter's value without wildcards: EC2 gives ``*`` and ``?`` a meaning."""
    return value.replace("\\", "\\\\").replace("*", "\\*").replace("?", "\\?")


def _tag_list(tags: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in sorted(tags.items())]


def _tags(item: Mapping[str, Any]) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in item.get("Tags", [])}


def _mapped(item: Mapping[str, Any]) -> tuple[AttachedVolume, ...]:
    """The volumes that an instance's block device mapping names, root first, then by device."""
    root = item.get("RootDeviceName", "")
    found = [
        AttachedVolume(
            volume_id=mapping["Ebs"]["VolumeId"],
            device=mapping.get("DeviceName", ""),
            size_bytes=0,
            root=mapping.get("DeviceName", "") == root,
            delete_on_termination=bool(mapping["Ebs"].get("DeleteOnTermination", False)),
        )
        for mapping in item.get("BlockDeviceMappings", [])
        if "VolumeId" in mapping.get("Ebs", {})
    ]
    return tuple(sorted(found, key=lambda volume: (not volume.root, volume.device)))


def _detailed(volume: AttachedVolume, told: Mapping[str, Any]) -> AttachedVolume:
    return volume.model_copy(
        update={
            "size_bytes": told["Size"] * GIB,
            "volume_type": told.get("VolumeType", "gp3"),
            "iops": told.get("Iops"),
            "throughput": told.get("Throughput"),
            "encrypted": bool(told.get("Encrypted", False)),
            "kms_key_arn": told.get("KmsKeyId") or "",
            "multi_attach": bool(told.get("MultiAttachEnabled", False)),
            "tags": _tags(told),
        }
    )


def _snapshot(told: Mapping[str, Any]) -> VolumeSnapshot:
    started: datetime = told["StartTime"]
    return VolumeSnapshot(
        snapshot_id=told["SnapshotId"],
        volume_id=told.get("VolumeId", ""),
        state=told.get("State", ""),
        started_at=started.astimezone(UTC),
        size_bytes=int(told.get("VolumeSize", 0)) * GIB,
        tags=_tags(told),
        encrypted=bool(told.get("Encrypted", False)),
        kms_key_arn=told.get("KmsKeyId") or "",
        reason=told.get("StateMessage") or "",
    )


def _plain(value: Any) -> Any:
    """What EC2 told, without anything that JSON cannot say."""
    return json.loads(
        json.dumps(value, default=lambda one: one.isoformat() if isinstance(one, datetime) else str(one))
    )


def _text(encoded: str) -> str:
    """User data as text; the encoded form is kept among the attributes for data that is not text."""
    try:
        return b64decode(encoded, validate=True).decode("utf-8")
    except (Base64Error, UnicodeDecodeError, ValueError):
        return ""
