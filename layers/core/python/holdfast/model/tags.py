"""Tags that Holdfast puts on EBS snapshots, and how a restore point is read back from them.

Retention and rebuild work from these tags alone, so a key may be added, never renamed. Values are at most
256 characters; everything read back is hostile and validated.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Final

from holdfast.model.ids import parse_stamp, stamp
from holdfast.model.restore_point import Flag

PREFIX: Final = "holdfast:"
INSTALLATION: Final = PREFIX + "installation"
POLICY: Final = PREFIX + "policy"
SESSION: Final = PREFIX + "session"
POINT: Final = PREFIX + "restore-point"
INSTANCE: Final = PREFIX + "instance"
VOLUME: Final = PREFIX + "volume"
DEVICE: Final = PREFIX + "device"
SLOT: Final = PREFIX + "slot"
FLAGS: Final = PREFIX + "flags"
KIND: Final = PREFIX + "kind"
KEEP_UNTIL: Final = PREFIX + "keep-until"
BASE: Final = PREFIX + "cbt-base"
SET: Final = PREFIX + "set"  # differs between calls of CreateSnapshots for one restore point
IN_USE: Final = PREFIX + "in-use"  # an image-level backup reads it; the session's slot
COPYING: Final = PREFIX + "copying"  # a copy of it is being made; the session's slot
CALL: Final = PREFIX + "call"  # of a copy: differs between calls of CopySnapshot
SOURCE: Final = PREFIX + "source"  # of a copy: account/Region/snapshot that it was made from
VOLUMES: Final = PREFIX + "volumes"  # snapshots in the set: fewer than that is not a restore point

MANUAL: Final = "manual"  # values of KIND besides those of restore_point.Kind
TEMPORARY: Final = "temporary"
TRANSFER: Final = "transfer"  # a copy under another key, made only so that another account can copy it

IN_USE_FOR: Final = timedelta(days=7)
"""After the slot; no session lasts that long, so a mark that is older was left behind."""


def encode_flags(flags: frozenset[Flag]) -> str:
    """``DWM``; ``-`` for none, because AWS consoles hide empty values."""
    return "".join(flag for flag in Flag if flag in flags) or "-"


def decode_flags(text: str) -> frozenset[Flag]:
    """The inverse of :func:`encode_flags`; unknown letters are ignored."""
    return frozenset(flag for flag in Flag if flag.value in text)


def read_flags(tags: Mapping[str, str]) -> frozenset[Flag] | None:
    """The flags of a snapshot; None when the tag is missing or is not one that we write."""
    flags = decode_flags(tags.get(FLAGS, ""))
    return flags if tags.get(FLAGS) == encode_flags(flags) else None


def slot_tag(slot: datetime) -> str:
    return stamp(slot)


def read_instant(tags: Mapping[str, str], key: str) -> datetime | None:
    """The instant in a tag, or None when the tag is missing or not one."""
    try:
        return parse_stamp(tags[key]).astimezone(UTC)
    except (KeyError, ValueError):
        return None


def is_in_use(tags: Mapping[str, str], now: datetime) -> bool:
    """Whether a backup or a copy may still read the snapshot.

    An unreadable mark counts, a lapsed one does not.
    """
    return any(_marked(tags, key, now) for key in (IN_USE, COPYING))


def _marked(tags: Mapping[str, str], key: str, now: datetime) -> bool:
    since = read_instant(tags, key)
    return key in tags and (since is None or now - since < IN_USE_FOR)
