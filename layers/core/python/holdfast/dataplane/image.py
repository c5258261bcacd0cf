"""Writes a volume of a restore point into a sparse raw image file.

It needs a repository and nothing else, so it works offline from a copy of a bucket. The file is an image of
the volume only when this returned: a block that cannot be proven ends it with an error.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Sequence

from holdfast.dataplane.deadline import no_deadline
from holdfast.dataplane.restore import open_blocks, ranges_of
from holdfast.dataplane.workers import Crew
from holdfast.errors import ConfigurationError, DamagedError
from holdfast.model.blocks import BLOCK_SIZE, SEGMENT_BLOCKS
from holdfast.repository.blocks import PackRange
from holdfast.repository.map import SegmentRef
from holdfast.repository.repository import Repository


def restore_image(
    segments: Sequence[SegmentRef | None],
    size_bytes: int,
    repository: Repository,
    target: int,
    *,
    connections: int = 8,
    progress: Callable[[int], None] = lambda blocks: None,
) -> int:
    """Write a volume of ``size_bytes`` to the file descriptor ``target``; the number of blocks written.

    ``target`` is a regular file open for writing; what it held is discarded, and blocks that the restore
    point does not hold stay holes. ``progress`` is told the number of blocks after each step, from several
    threads. Raises DamagedError naming the object, ConfigurationError when the target is not a file.
    """
    if not stat.S_ISREG(os.fstat(target).st_mode):
        raise ConfigurationError(
            "The target of an image is not a regular file.",
            remedy="Name a file; copy it to the device afterwards.",
        )
    os.ftruncate(target, 0)
    os.ftruncate(target, size_bytes)
    return sum(
        _write_segment(ref, number * SEGMENT_BLOCKS, size_bytes, repository, target, connections, progress)
        for number, ref in enumerate(segments)
        if ref is not None
    )


def _write_segment(
    ref: SegmentRef,
    first: int,
    size_bytes: int,
    repository: Repository,
    target: int,
    connections: int,
    progress: Callable[[int], None],
) -> int:
    opener = repository.opener(ref.epoch)

    def write(item: tuple[int, PackRange]) -> None:
        for index, _, content in open_blocks(item[1], repository, opener):
            _write_block(target, content, index, size_bytes)
        progress(len(item[1].blocks))

    numbered: Iterator[tuple[int, PackRange]] = enumerate(ranges_of(ref, first, repository))
    Crew(numbered, lambda item: item[0], lambda: write, no_deadline()).run(connections)
    return ref.blocks


def _write_block(target: int, content: bytes, index: int, size_bytes: int) -> None:
    """Write one block; the last one of an odd-sized volume may reach beyond its end only with zeros."""
    offset = index * BLOCK_SIZE
    if any(content[max(0, size_bytes - offset) :]):
        raise DamagedError(f"Block {index} lies beyond the end of the volume.")
    view = memoryview(content)[: size_bytes - offset]
    while view:
        count = os.pwrite(target, view, offset)
        view, offset = view[count:], offset + count
