"""What a restore is asked to do, what it plans, and what it made.

These values travel through the restore state machine: they hold identifiers and small summaries only. What
comes in from outside becomes names of executions, images and objects, so every identifier has a pattern.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from holdfast.model.inventory import AttachedVolume, Value
from holdfast.model.tags import PREFIX

AccountId = Annotated[str, Field(pattern=r"^\d{12}$")]
Region = Annotated[str, Field(pattern=r"^[a-z]{2,4}(-[a-z]+)+-\d{1,2}$")]
InstanceId = Annotated[str, Field(pattern=r"^i-[0-9a-f]{8,17}$")]
VolumeId = Annotated[str, Field(pattern=r"^vol-[0-9a-f]{8,17}$")]
PointId = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
RestoreId = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9-]{2,60}$")]
KeyArn = Annotated[str, Field(pattern=r"^(arn:[a-z-]+:kms:[a-z0-9-]+:\d{12}:(key|alias)/[A-Za-z0-9/_-]+)?$")]


def _operators_own(tags: dict[str, str]) -> dict[str, str]:
    for key, value in tags.items():
        if not 1 <= len(key) <= 128 or len(value) > 256:
            raise ValueError(f"the tag {key[:128]!r} is not 1 to 128 characters with a value of up to 256")
        if key.lower().startswith(("aws:", PREFIX)):
            raise ValueError(f"the tag {key!r} has a reserved prefix")
    return tags


OperatorTags = Annotated[dict[str, str], AfterValidator(_operators_own)]
"""Tags that a person may ask for: those of AWS and of Holdfast say who made a thing and for how long."""


class Target(Value):
    """Where a restore creates things. ``encrypted`` None means: as the source was."""

    account: AccountId
    region: Region
    availability_zone: str = Field("", max_length=64)
    encrypted: bool | None = None
    kms_key_arn: KeyArn = ""
    tags: OperatorTags = Field(default_factory=dict, max_length=40)

    @model_validator(mode="after")
    def _key_encrypts(self) -> Target:
        if self.kms_key_arn and self.encrypted is False:
            raise ValueError("kms_key_arn is given, but encrypted is false")
        return self


class InstanceSettings(Value):
    """Settings of a restored instance; empty means: as the source was.

    Network interface and addresses are new in any case.
    """

    name: str = Field("", max_length=256)
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

    restore_id: RestoreId
    kind: Literal["volume", "instance"]
    instance_id: InstanceId
    point_id: PointId
    repository: str = Field("", max_length=64)
    source_account: str = ""
    volume_ids: tuple[VolumeId, ...] = ()
    target: Target
    instance: InstanceSettings = InstanceSettings()
    reason: str = Field("", max_length=255)

    @model_validator(mode="after")
    def _volumes_have_a_zone(self) -> RestoreRequest:
        zone, region = self.target.availability_zone, self.target.region
        if self.kind == "volume" and not zone:
            raise ValueError("volumes need target.availability_zone")
        if zone and not zone.startswith(region):
            raise ValueError(f"target.availability_zone {zone!r} is not in {region}")
        return self


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

    restore_id: RestoreId
    request: RestoreRequest
    volumes: tuple[RestoredVolume, ...]
    segment_count: int
    items_key: str
    instance_id: str = ""
    launched: bool = False
    finished: bool = False
