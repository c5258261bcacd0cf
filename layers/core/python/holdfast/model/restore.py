"""What a restore is asked to do, what it plans, and what it made.

These values travel through the restore state machine: they hold identifiers and small summaries only.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from holdfast.model.inventory import AttachedVolume, Value


class Target(Value):
    """Where a restore creates things. ``encrypted`` None means: as the source was."""

    account: str
    region: str
    availability_zone: str = ""
    encrypted: bool | None = None
    kms_key_arn: str = ""
    tags: dict[str, str] = Field(default_factory=dict, max_length=40)


class InstanceSettings(Value):
    """Settings of a restored instance; empty means: as the source was (network interface and address are new)."""

    name: str = ""
    instance_type: str = ""
    subnet_id: str = ""
    security_group_ids: tuple[str, ...] = ()
    key_name: str = ""
    instance_profile_arn: str = ""
    no_instance_profile: bool = False


class RestoreRequest(Value):
    """Input of the restore state machine. An empty ``volume_ids`` means all volumes of the point.

    ``repository`` names the repository of an image-level backup; empty: the point is a cloud-native snapshot
    of ``source_account`` in the target's Region.
    """

    restore_id: str
    kind: Literal["volume", "instance"]
    instance_id: str
    point_id: str
    repository: str = ""
    source_account: str = ""
    volume_ids: tuple[str, ...] = ()
    target: Target
    instance: InstanceSettings = InstanceSettings()
    reason: str = Field("", max_length=255)


class RestoredVolume(Value):
    """One volume on its way: the snapshot it is made from, and what became of it.

    ``temporary`` snapshots were made for this restore and are removed at its end.
    """

    source: AttachedVolume
    snapshot_id: str
    temporary: bool
    volume_id: str = ""


class RestorePlan(Value):
    """Output of plan_restore and input of every later step."""

    restore_id: str
    request: RestoreRequest
    volumes: tuple[RestoredVolume, ...]
    segment_count: int
    items_key: str
    image_id: str = ""
    instance_id: str = ""
    launched: bool = False
    finished: bool = False
