"""Names and fixed sizes of repository objects.

Every constant here is part of the format (docs/repository-format.md): changing one makes existing
repositories unreadable.
"""

from __future__ import annotations

import re
from enum import IntEnum
from typing import Final, NamedTuple

from holdfast.errors import ConfigurationError, DamagedError

FORMAT: Final = "holdfast-repository"
VERSION: Final = 1
MAGIC: Final = b"HFST"
ID_SIZE: Final = 32
HEADER_SIZE: Final = 8 + ID_SIZE
PAGE_BLOCKS: Final = 64
MAX_MAP_REFERENCES: Final = 64
PLAIN_EPOCH: Final = 0
"""Objects of epoch 0 are not encrypted; encryption starts at epoch 1 and is never turned off."""

REPOSITORY_KEY: Final = "repository.json"
OWNER_KEY: Final = "owner.json"
POINTS: Final = "points/"
PACKS: Final = "packs/"
MAPS: Final = "maps/"
POINT_CANDIDATES: Final = "candidates/points/"
ADOPTED: Final = "adopted/"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}\Z")
_HEX_ID = re.compile(r"[0-9a-f]{64}\Z")


class ObjectKind(IntEnum):
    """The sixth byte of every binary object, and part of its key derivation."""

    PACK = 1
    MAP = 2
    POINT = 3
    CANDIDATE = 4
    ADOPTED = 5


class PointName(NamedTuple):
    """Which restore point: the name of its manifest."""

    instance_id: str
    point_id: str

    @property
    def key(self) -> str:
        return f"{POINTS}{self.instance_id}/{self.point_id}"

    @property
    def candidate_key(self) -> str:
        return f"{POINT_CANDIDATES}{self.instance_id}/{self.point_id}"


def pack_key(pack_id: bytes) -> str:
    """``packs/ab/ab…``: two hex digits of fan-out spread S3 requests and directory entries."""
    name = pack_id.hex()
    return f"{PACKS}{name[:2]}/{name}"


def map_key(map_id: bytes) -> str:
    """``maps/ab/ab…``"""
    name = map_id.hex()
    return f"{MAPS}{name[:2]}/{name}"


def adopted_key(adopted_id: bytes) -> str:
    """``adopted/ab…``: the list of plain points that an encrypted repository took over."""
    return ADOPTED + adopted_id.hex()


def parse_id(text: str) -> bytes:
    """The 32 bytes behind 64 lower-case hex digits. Raises ValueError."""
    if not _HEX_ID.match(text):
        raise ValueError(f"{text[:80]!r} is not an id of 64 hex digits")
    return bytes.fromhex(text)


def point_name(instance_id: str, point_id: str) -> PointName:
    """A checked name. Raises ConfigurationError when a part could leave its folder."""
    for part in (instance_id, point_id):
        if not _NAME.match(part):
            raise ConfigurationError(
                f"{part[:80]!r} cannot name a restore point.", remedy="Use letters, digits, '.', '_', '-'."
            )
    return PointName(instance_id, point_id)


def parse_point_key(key: str, prefix: str = POINTS) -> PointName | None:
    """The point that a listed key names, or None for foreign objects (which are never touched)."""
    parts = key.removeprefix(prefix).split("/")
    if not key.startswith(prefix) or len(parts) != 2 or not all(map(_NAME.match, parts)):
        return None
    return PointName(*parts)


def object_header(kind: ObjectKind, epoch: int, object_id: bytes) -> bytes:
    """The first 40 bytes of a binary object: magic, version, kind, epoch, zero, id."""
    return MAGIC + bytes((VERSION, kind, epoch, 0)) + object_id


def check_header(content: bytes | memoryview, expected: bytes, key: str) -> None:
    """Raises DamagedError when an object does not start as its name and place in the repository demand."""
    found = bytes(content[:HEADER_SIZE])
    if found == expected:
        return
    if len(found) == HEADER_SIZE and found[:4] == MAGIC and found[4] > VERSION:
        raise DamagedError(
            f"{key} has format version {found[4]}, this program reads {VERSION}.",
            resource=key,
            remedy="Use a newer Holdfast.",
        )
    raise DamagedError(f"{key} does not start with the header of this object.", resource=key)
