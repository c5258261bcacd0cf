"""What a worker hands back: how much it moved, and where to go on.

Values are JSON-safe through ``to_json`` and ``from_json``: they travel through Step Functions between two
invocations, so a field may be added, never renamed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from holdfast.repository.map import SegmentRef


@dataclass(frozen=True, slots=True)
class Counts:
    """Work done. ``blocks_stored`` and ``bytes_stored`` are what the repository grew by (packs and maps);
    ``bytes_read`` is read from EBS (or from the repository, when restoring). ``requests`` counts by action.
    """

    blocks_listed: int = 0
    blocks_read: int = 0
    blocks_stored: int = 0
    bytes_read: int = 0
    bytes_stored: int = 0
    requests: Mapping[str, int] = field(default_factory=dict)

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.blocks_listed + other.blocks_listed,
            self.blocks_read + other.blocks_read,
            self.blocks_stored + other.blocks_stored,
            self.bytes_read + other.bytes_read,
            self.bytes_stored + other.bytes_stored,
            dict(Counter(self.requests) + Counter(other.requests)),
        )

    def to_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__} | {"requests": dict(self.requests)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Counts:
        return cls(**{name: value[name] for name in cls.__slots__ if name in value})


@dataclass(frozen=True, slots=True)
class SegmentDone:
    """A segment is backed up. ``ref`` is its map (None: no block); ``full``: every block was read."""

    ref: SegmentRef | None
    full: bool
    counts: Counts

    def to_json(self) -> dict[str, Any]:
        ref = self.ref.to_json() if self.ref else None
        return {"done": True, "ref": ref, "full": self.full, "counts": self.counts.to_json()}


@dataclass(frozen=True, slots=True)
class Continue:
    """Time was up. Every block before ``cursor`` (of the volume) is final in the map ``checkpoint``.

    ``full`` says that changed block tracking was not possible, so that the next invocation does not try it.
    """

    cursor: int
    checkpoint: SegmentRef | None
    full: bool
    counts: Counts

    def to_json(self) -> dict[str, Any]:
        ref = self.checkpoint.to_json() if self.checkpoint else None
        counts = self.counts.to_json()
        return {"done": False, "cursor": self.cursor, "checkpoint": ref, "full": self.full, "counts": counts}


def requests_of(*adapters: object) -> Counter[str]:
    """Requests that adapters have sent so far, by action; those in memory send none."""
    total: Counter[str] = Counter()
    for adapter in adapters:
        total.update(getattr(adapter, "requests", {}))
    return total
