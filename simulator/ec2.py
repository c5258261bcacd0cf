"""EC2 where moto is not faithful: volumes and instances made from snapshots, images with disks, pages.

A volume made from a snapshot holds that snapshot's blocks, under the right device name: restores are proved
on it.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from typing import Any

from moto.core.responses import ActionResult
from moto.ec2.exceptions import EC2ClientError
from moto.ec2.models.amis import Ami, AmiBackend
from moto.ec2.models.core import TaggedEC2Resource
from moto.ec2.models.elastic_block_store import EBSBackend, Volume
from moto.ec2.models.instances import Instance, InstanceBackend
from moto.ec2.responses.amis import AmisResponse
from moto.ec2.responses.elastic_block_store import ElasticBlockStore as VolumeResponse
from moto.ec2.responses.instances import InstanceResponse
from moto.ec2.utils import random_ami_id

from simulator import describe_instances, snapshots
from simulator.ebs import Disk, disk, frozen
from simulator.patches import Patches
from simulator.snapshots import page_of, require_key, require_readable

_patches = Patches()
_creating = threading.RLock()

# Iops and throughput by device of the RunInstances call in progress; moto drops them on the way.
_performance: contextvars.ContextVar[dict[str, dict[str, Any]]] = contextvars.ContextVar("performance")


def install(simulator: Any) -> None:
    """Make moto's EC2 faithful where Holdfast depends on it."""
    _patches.set(TaggedEC2Resource, "get_tags", _get_tags)
    _install_volumes()
    _install_images()
    _install_instances()
    snapshots.install(simulator)
    describe_instances.install(simulator)


def uninstall() -> None:
    """Give moto its own EC2 back."""
    describe_instances.uninstall()
    snapshots.uninstall()
    _patches.undo()


def _get_tags(resource: Any) -> list[dict[str, str]]:
    # moto matches a pattern against every tag of the account here, which is what makes it slow.
    tags = resource.ec2_backend.tags.get(resource.id) or {}
    return [{"resource_id": resource.id, "key": key, "value": value} for key, value in list(tags.items())]


def _once(create: Callable[[Any], ActionResult], kind: str) -> Callable[[Any], ActionResult]:
    """Answer a repeated ClientToken with the first answer."""

    def call(response: Any) -> ActionResult:
        token = response._get_param("ClientToken")
        if not token:
            return create(response)
        made: dict[tuple[str, str], ActionResult] = response.ec2_backend.__dict__.setdefault(
            "client_tokens", {}
        )
        with _creating:
            if (kind, token) not in made:
                made[kind, token] = create(response)
        return made[kind, token]

    return call


def _install_volumes() -> None:
    original = vars(EBSBackend)["create_volume"]

    def create_volume(
        backend: Any,
        size: int | None,
        zone_name: str,
        snapshot_id: str | None = None,
        encrypted: bool = False,
        kms_key_id: str | None = None,
        volume_type: str | None = None,
        iops: int | None = None,
        throughput: int | None = None,
        multi_attach_enabled: bool | None = None,
    ) -> Volume:
        account, region = backend.account_id, backend.region_name
        source = require_readable(account, region, snapshot_id) if snapshot_id else None
        if source is not None:
            size = size or source.volume_size
            if size < source.volume_size:
                message = f"{size} GiB is smaller than snapshot {snapshot_id} of {source.volume_size} GiB"
                raise EC2ClientError("InvalidParameterValue", message)
            encrypted = encrypted or source.encrypted
            if encrypted and not kms_key_id and source.owner_id == account:
                kms_key_id = source.kms_key_id
        if backend.ebs_encryption_by_default:
            encrypted = True
        if kms_key_id:
            kms_key_id = require_key(kms_key_id, account, region)
        volume: Volume = original(
            backend,
            size,
            zone_name,
            None,
            encrypted,
            kms_key_id,
            volume_type,
            iops,
            throughput,
            multi_attach_enabled,
        )
        if source is not None:
            content = frozen(source)
            volume.snapshot_id = snapshot_id
            volume.__dict__["disk"] = Disk(content.blocks.share(), content.lineage)
        else:
            disk(volume)
        return volume

    def describe_volumes(response: VolumeResponse) -> ActionResult:
        wanted = response._get_param("VolumeIds", [])
        found = response.ec2_backend.describe_volumes(wanted, response._filters_from_querystring())
        page, following = page_of(response, found)
        return ActionResult({"Volumes": page} | ({"NextToken": following} if following else {}))

    def describe_volume_attribute(response: VolumeResponse) -> ActionResult:
        volume = response.ec2_backend.get_volume(response._get_param("VolumeId"))
        codes = {"AutoEnableIO": {"Value": True}, "ProductCodes": []}
        wanted = {"autoEnableIO": "AutoEnableIO", "productCodes": "ProductCodes"}[
            response._get_param("Attribute")
        ]
        return ActionResult({"VolumeId": volume.id, wanted: codes[wanted]})

    def get_ebs_default_kms_key_id(response: VolumeResponse) -> ActionResult:
        backend = response.ec2_backend
        return ActionResult(
            {"KmsKeyId": backend.default_kms_key_id or backend._create_default_encryption_key()}
        )

    _patches.set(EBSBackend, "create_volume", create_volume)
    _patches.set(VolumeResponse, "create_volume", _once(vars(VolumeResponse)["create_volume"], "volume"))
    _patches.set(VolumeResponse, "describe_volumes", describe_volumes)
    _patches.set(VolumeResponse, "describe_volume_attribute", describe_volume_attribute)
    _patches.set(VolumeResponse, "get_ebs_default_kms_key_id", get_ebs_default_kms_key_id)


def register_image(backend: Any, name: str, mappings: list[dict[str, Any]], **attributes: Any) -> Ami:
    """An image whose disks are those of ``mappings``; ``attributes`` are those of moto's Ami."""
    image = Ami(backend, random_ami_id(), name=name, root_device_type="ebs", **attributes)
    backend.snapshots.pop(image.ebs_snapshot.id)
    image.__dict__["mappings"] = [_completed(backend, mapping) for mapping in mappings]
    backend.amis[image.id] = image
    return image


def _completed(backend: Any, mapping: dict[str, Any]) -> dict[str, Any]:
    ebs = dict(mapping.get("Ebs", {}))
    if ebs.get("SnapshotId"):
        source = require_readable(backend.account_id, backend.region_name, ebs["SnapshotId"])
        ebs.setdefault("VolumeSize", source.volume_size)
        ebs["Encrypted"] = source.encrypted
    ebs.setdefault("VolumeType", "gp2")
    ebs.setdefault("DeleteOnTermination", True)
    return {"DeviceName": mapping["DeviceName"], "Ebs": ebs}


def _install_images() -> None:
    original_mappings = vars(Ami)["block_device_mappings"]

    def mappings(image: Ami) -> Any:
        return image.__dict__.get("mappings") or original_mappings.fget(image)

    def register(response: AmisResponse) -> ActionResult:
        given = response._get_param("BlockDeviceMappings", [])
        root = response._get_param("RootDeviceName") or "/dev/sda1"
        if not any(m.get("DeviceName") == root and m.get("Ebs", {}).get("SnapshotId") for m in given):
            raise EC2ClientError(
                "InvalidBlockDeviceMapping", f"There is no snapshot for the root device {root}"
            )
        response.error_on_dryrun()
        image = register_image(
            response.ec2_backend,
            response._get_param("Name"),
            given,
            description=response._get_param("Description", ""),
            architecture=response._get_param("Architecture") or "i386",
            virtualization_type=response._get_param("VirtualizationType") or "paravirtual",
            root_device_name=root,
            boot_mode=response._get_param("BootMode") or "legacy-bios",
            tags=response._parse_tag_specification().get("image", {}),
        )
        image.__dict__["ena_support"] = bool(response._get_param("EnaSupport"))
        return ActionResult({"ImageId": image.id})

    def create_image(
        backend: Any, instance_id: str, name: str, description: str, tag_specifications: list[dict[str, Any]]
    ) -> Ami:
        instance = backend.get_instance(instance_id)
        given = []
        for device, mapping in instance.get_block_device_mapping:
            snapshot = backend.create_snapshot(
                mapping.volume_id, f"Created by CreateImage({instance_id})", None, "image"
            )
            given.append({"DeviceName": device, "Ebs": {"SnapshotId": snapshot.id}})
        image = register_image(
            backend,
            name,
            given,
            description=description,
            instance=instance,
            root_device_name=instance.root_device_name,
        )
        for tags in tag_specifications:
            image.add_tags({tag["Key"]: tag["Value"] for tag in tags["Tags"]})
        return image

    _patches.set(Ami, "block_device_mappings", property(mappings))
    _patches.set(AmisResponse, "register_image", register)
    _patches.set(AmiBackend, "create_image", create_image)


def _install_instances() -> None:
    original_run = vars(InstanceBackend)["run_instances"]
    original_add = vars(Instance)["add_block_device"]
    original_get = vars(InstanceBackend)["get_instance"]

    def parse_mappings(response: InstanceResponse) -> list[dict[str, Any]]:
        image = response.ec2_backend.amis.get(response._get_param("ImageId"))
        merged = {m["DeviceName"]: dict(m["Ebs"]) for m in (image.block_device_mappings if image else [])}
        for given in response._get_param("BlockDeviceMappings", []):
            device = given["DeviceName"]
            if "NoDevice" in given:
                merged.pop(device, None)
                continue
            InstanceResponse._validate_block_device_mapping(_with_known_size(given, merged.get(device, {})))
            if given["Ebs"].get("SnapshotId"):
                merged.pop(device, None)
            merged[device] = {"DeleteOnTermination": True} | merged.get(device, {}) | given["Ebs"]
        return [{"DeviceName": device, "Ebs": ebs, "NoDevice": None} for device, ebs in merged.items()]

    def run_instances(backend: Any, image_id: str, count: int, *arguments: Any, **options: Any) -> Any:
        asked = {m["DeviceName"]: m["Ebs"] for m in options.get("block_device_mappings", [])}
        reset = _performance.set(asked)
        try:
            return original_run(backend, image_id, count, *arguments, **options)
        finally:
            _performance.reset(reset)

    def add_block_device(
        instance: Instance,
        size: int,
        device_path: str,
        snapshot_id: str | None,
        encrypted: bool,
        delete_on_termination: bool,
        kms_key_id: str | None,
        volume_type: str | None,
    ) -> None:
        asked = _performance.get({}).get(device_path, {})
        if not (asked.get("Iops") or asked.get("Throughput")):
            original_add(
                instance,
                size,
                device_path,
                snapshot_id,
                encrypted,
                delete_on_termination,
                kms_key_id,
                volume_type,
            )
            return
        volume = instance.ec2_backend.create_volume(
            size=size,
            zone_name=instance.placement.zone,
            snapshot_id=snapshot_id,
            encrypted=encrypted,
            kms_key_id=kms_key_id,
            volume_type=volume_type,
            iops=asked.get("Iops"),
            throughput=asked.get("Throughput"),
        )
        instance.ec2_backend.attach_volume(volume.id, instance.id, device_path, delete_on_termination)

    def get_instance(backend: Any, instance_id: str) -> Instance:
        # moto searches all instances for each of the calls that concern one.
        index: dict[str, Instance] = backend.__dict__.setdefault("instances_by_id", {})
        if instance_id not in index:
            newest_first = reversed(list(backend.reservations.values()))
            found = (one for reservation in newest_first for one in reservation.instances)
            instance = next((one for one in found if one.id == instance_id), None)
            index[instance_id] = instance or original_get(backend, instance_id)
        return index[instance_id]

    _patches.set(InstanceResponse, "_parse_block_device_mapping", parse_mappings)
    _patches.set(
        InstanceResponse, "run_instances", _once(vars(InstanceResponse)["run_instances"], "instance")
    )
    _patches.set(InstanceBackend, "run_instances", run_instances)
    _patches.set(InstanceBackend, "get_instance", get_instance)
    _patches.set(Instance, "add_block_device", add_block_device)


def _with_known_size(given: dict[str, Any], known: dict[str, Any]) -> dict[str, Any]:
    return given | {"Ebs": known | given.get("Ebs", {})} if "Ebs" in given else given
