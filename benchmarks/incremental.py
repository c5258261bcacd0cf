"""What an incremental backup reads and writes, against the bytes that changed.

A segment of 16 GiB with every block allocated, of which 1 % and 0.1 % changed, spread as evenly as can be:
the worst case for maps. Changed blocks do not compress, so that what is written beside them shows.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from benchmarks.data_plane import Ids, MemoryStore, new_repository
from holdfast.dataplane.backup import SegmentTask, back_up_segment
from holdfast.dataplane.deadline import no_deadline
from holdfast.dataplane.outcome import SegmentDone
from holdfast.model.blocks import BLOCK_SIZE, SEGMENT_BLOCKS, Segment
from holdfast.ports import BlockRef
from holdfast.repository.map import SegmentRef
from holdfast.repository.pack import StoredBlock
from holdfast.repository.repository import Repository

FRACTIONS = (0.01, 0.001)
BLOCKS_IN_A_PACK = 150


class Changing:
    """A snapshot of which every ``step``-th block changed, to content that does not compress."""

    def __init__(self, step: int) -> None:
        self.step = step

    def allocated(self, snapshot_id: str, start: int, end: int) -> Iterator[BlockRef]:
        return (BlockRef(index, "token") for index in range(start, end))

    def changed(self, base_id: str, snapshot_id: str, start: int, end: int) -> Iterator[BlockRef]:
        return (BlockRef(index, "token") for index in range(start, end) if not index % self.step)

    def read_into(self, snapshot_id: str, ref: BlockRef, buffer: memoryview) -> bytes:
        from hashlib import sha256

        content = os.urandom(BLOCK_SIZE)
        buffer[:] = content
        return sha256(content).digest()


def _full_map(repository: Repository) -> SegmentRef:
    """A map as a full backup leaves it: every block allocated, packs filled one after the other."""
    rows, sizes = {}, {}
    for first in range(0, SEGMENT_BLOCKS, BLOCKS_IN_A_PACK):
        pack_id = os.urandom(32)
        sizes[pack_id] = 32 << 20
        for ordinal, index in enumerate(range(first, min(first + BLOCKS_IN_A_PACK, SEGMENT_BLOCKS))):
            rows[index] = StoredBlock(os.urandom(32), pack_id, ordinal, 40 + ordinal * 210_000, 210_000, 1)
    ref = repository.store_map(repository.load_map(None), rows, (), ids=Ids(), pack_bytes=sizes)
    assert ref is not None
    return ref


def main() -> dict[str, float]:
    """Print bytes read and written for each fraction; return the largest overheads."""
    worst_read = worst_written = 0.0
    for fraction in FRACTIONS:
        repository = new_repository(MemoryStore())
        previous = _full_map(repository)
        outcome = back_up_segment(
            SegmentTask("snap-2", "snap-1", 16 << 30, Segment(0, 0, SEGMENT_BLOCKS), previous=previous),
            reader=Changing(round(1 / fraction)),
            repository=repository,
            ids=Ids(),
            deadline=no_deadline(),
            connections=4,
        )
        assert isinstance(outcome, SegmentDone)
        assert outcome.ref is not None
        counts = outcome.counts
        changed = counts.blocks_stored * BLOCK_SIZE
        read, written = counts.bytes_read / changed, counts.bytes_stored / changed
        worst_read, worst_written = max(worst_read, read), max(worst_written, written)
        print(
            f"incremental, {fraction:.1%} of 16 GiB changed, {counts.blocks_stored} blocks: read {read:.3f}, "
            f"wrote {written:.3f} of what changed (map {outcome.ref.size / changed:.3f}; goal: 1.10)"
        )
    return {"incremental_read": worst_read, "incremental_written": worst_written}


if __name__ == "__main__":
    main()
