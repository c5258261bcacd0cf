"""What discovery and capture read about instances and volumes.

``InstanceConfiguration`` is stored inside every restore point; a field may be added, never renamed.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class Value(BaseModel):
    """Frozen, closed to unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class AttachedVolume(Value):
    """A volume as it was attached at snapshot time."""

    volume_id: str
    device: str
    size_bytes: int
    root: bool = False
    volume_type: str = "gp3"
    iops: int | None = None
    throughput: int | None = None
    encrypted: bool = False
    kms_key_arn: str = ""
    delete_on_termination: bool = False
    multi_attach: bool = False
    tags: dict[str, str] = Field(default_factory=dict)


class Instance(Value):
    """An instance as discovery sees it: enough to select and to snapshot it."""

    instance_id: str
    account: str
    region: str
    name: str = ""
    state: str = "running"
    platform: str = "linux"
    tags: dict[str, str] = Field(default_factory=dict)
    volumes: tuple[AttachedVolume, ...] = ()


class InstanceConfiguration(Value):
    """Everything AWS tells about an instance that recreating it may need.

    ``description`` and ``attributes`` hold the raw DescribeInstances item and
    DescribeInstanceAttribute values (JSON-safe); the named fields are what restore reads.
    """

    instance: Instance
    image_id: str = ""
    instance_type: str = ""
    architecture: str = "x86_64"
    boot_mode: str = ""
    virtualization_type: str = "hvm"
    ena_support: bool = True
    root_device_name: str = ""
    key_name: str = ""
    instance_profile_arn: str = ""
    subnet_id: str = ""
    vpc_id: str = ""
    security_group_ids: tuple[str, ...] = ()
    availability_zone: str = ""
    user_data: str = ""
    network_interfaces: tuple[dict[str, Any], ...] = ()
    addresses: tuple[dict[str, Any], ...] = ()
    product_codes: tuple[str, ...] = ()
    attributes: dict[str, Any] = Field(default_factory=dict)
    description: dict[str, Any] = Field(default_factory=dict)
