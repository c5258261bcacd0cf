"""Sizes of the data plane.

BLOCK_SIZE is what EBS direct APIs serve (512 KiB); SEGMENT_BLOCKS is recorded in every repository,
so a change here is a change of the repository format.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Final, NamedTuple

BLOCK_SIZE: Final = 524_288
SEGMENT_BLOCKS: Final = 32_768
DIGEST_SIZE: Final = 32
ZERO_DIGEST: Final = hashlib.sha256(bytes(BLOCK_SIZE)).digest()
GIB: Final = 1 << 30


class Segment(NamedTuple):
    """Blocks ``[start, end)`` of a volume; ``index`` counts segments from 0."""

    index: int  # type: ignore[assignment]  # in place of tuple.index, which nobody asks a segment for
    start: int
    end: int


def block_count(size_bytes: int) -> int:
    """Blocks that cover ``size_bytes`` (the last one may be partial)."""
    return -(-size_bytes // BLOCK_SIZE)


def segments(size_bytes: int) -> Iterator[Segment]:
    """The segments of a volume of ``size_bytes``, in order."""
    blocks = block_count(size_bytes)
    for index, start in enumerate(range(0, blocks, SEGMENT_BLOCKS)):
        yield Segment(index, start, min(start + SEGMENT_BLOCKS, blocks))
