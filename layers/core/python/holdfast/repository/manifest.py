"""Manifests: everything about one restore point, except the blocks.

A manifest reaches all it needs through its segment references and never through another manifest: deleting
any restore point leaves every other one whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import (
    AwareDatetime,
    BeforeValidator,
    Field,
    PlainSerializer,
    ValidationError,
    field_serializer,
    model_validator,
)

from holdfast.errors import DamagedError
from holdfast.model.blocks import segments
from holdfast.model.inventory import InstanceConfiguration, Value
from holdfast.model.restore_point import Flag, Kind, RestorePoint
from holdfast.repository.map import SegmentRef
from holdfast.repository.page import ABSENT, point_root, volume_root


def _segment(value: object) -> object:
    return SegmentRef.from_json(value) if isinstance(value, dict) else value


Segments = tuple[
    Annotated[
        SegmentRef | None,
        BeforeValidator(_segment),
        PlainSerializer(lambda ref: ref and ref.to_json(), return_type=dict[str, str | int] | None),
    ],
    ...,
]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class VolumeManifest(Value):
    """One volume: ``segments`` in order, None for one without any block; ``root`` proves its content."""

    volume_id: str = Field(min_length=1, max_length=64)
    device: str
    size_bytes: int = Field(gt=0, le=1 << 46)
    snapshot_id: str = ""
    segments: Segments
    root: Digest

    @model_validator(mode="after")
    def _root_is_true(self) -> VolumeManifest:
        if len(self.segments) != sum(1 for _ in segments(self.size_bytes)):
            raise ValueError("the volume has another number of segments than its size asks for")
        if self.root != _volume_root(self.size_bytes, self.segments):
            raise ValueError("the segments do not add up to the root of the volume")
        return self


class PointManifest(Value):
    """One restore point. ``stored_bytes`` is what this backup wrote; ``root`` proves all of its content.

    ``keep_until`` and ``locked_until`` are promises made when it was written: how long retention by time
    keeps it, and how long Object Lock protects everything it reaches.
    """

    format: Literal[1] = 1
    point_id: str
    kind: Kind = Kind.BACKUP
    taken_at: AwareDatetime
    session_id: str = ""
    policy: str = ""
    flags: frozenset[Flag] = frozenset()
    manual: bool = False
    full: bool = False
    complete: bool = True
    keep_until: AwareDatetime | None = None
    locked_until: AwareDatetime | None = None
    stored_bytes: int = Field(0, ge=0)
    configuration: InstanceConfiguration
    volumes: tuple[VolumeManifest, ...]
    root: Digest

    @field_serializer("flags")
    def _sorted_flags(self, flags: frozenset[Flag]) -> list[str]:
        return sorted(flags)

    @model_validator(mode="after")
    def _root_is_true(self) -> PointManifest:
        if self.root != manifest_root(self.volumes):
            raise ValueError("the volumes do not add up to the root of the restore point")
        return self

    @property
    def instance_id(self) -> str:
        return self.configuration.instance.instance_id

    @property
    def size_bytes(self) -> int:
        return sum(volume.size_bytes for volume in self.volumes)

    def references(self) -> list[SegmentRef]:
        """Every segment map of the point, in order."""
        return [ref for volume in self.volumes for ref in volume.segments if ref is not None]


def volume_manifest(
    volume_id: str,
    device: str,
    size_bytes: int,
    refs: Sequence[SegmentRef | None],
    snapshot_id: str = "",
) -> VolumeManifest:
    """A volume with its root computed from its segments."""
    return VolumeManifest(
        volume_id=volume_id,
        device=device,
        size_bytes=size_bytes,
        snapshot_id=snapshot_id,
        segments=tuple(refs),
        root=_volume_root(size_bytes, refs),
    )


def manifest_root(volumes: Sequence[VolumeManifest]) -> str:
    """The root digest (hex) of a restore point with these volumes in this order."""
    return point_root([(volume.volume_id, bytes.fromhex(volume.root)) for volume in volumes]).hex()


def parse_manifest(document: Any, key: str) -> PointManifest:
    """A manifest from its document; fields of a later minor version are ignored. Raises DamagedError."""
    try:
        return PointManifest.model_validate(document, extra="ignore")
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "it"
        raise DamagedError(f"{key} is damaged: {where}: {first['msg']}.", resource=key) from None


def restore_point(manifest: PointManifest, repository: str) -> RestorePoint:
    """The catalog's view of a manifest; ``repository`` is its configured name."""
    instance = manifest.configuration.instance
    return RestorePoint(
        point_id=manifest.point_id,
        kind=manifest.kind,
        account=instance.account,
        region=instance.region,
        instance_id=instance.instance_id,
        instance_name=instance.name,
        taken_at=_utc(manifest.taken_at),
        session_id=manifest.session_id,
        policy=manifest.policy,
        flags=manifest.flags,
        manual=manifest.manual,
        keep_until=manifest.keep_until and _utc(manifest.keep_until),
        repository=repository,
        full=manifest.full,
        snapshot_ids={v.volume_id: v.snapshot_id for v in manifest.volumes if v.snapshot_id},
        size_bytes=manifest.size_bytes,
        stored_bytes=manifest.stored_bytes,
        root_digest=manifest.root,
        complete=manifest.complete,
    )


def _volume_root(size_bytes: int, refs: Sequence[SegmentRef | None]) -> str:
    return volume_root(size_bytes, [bytes.fromhex(ref.root) if ref else ABSENT for ref in refs]).hex()


def _utc(moment: datetime) -> datetime:
    return moment.astimezone(UTC)
