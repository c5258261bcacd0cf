"""Writes the blocks of a restore point into a new EBS snapshot, and proves that EBS received them.

Only blocks that a map holds are written (all others are zero, as they are in a new snapshot), each after it
decrypted and hashed right; EBS checks every block again, and all of them together when the snapshot is
completed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from holdfast.dataplane.deadline import Deadline
from holdfast.dataplane.outcome import Counts, requests_of
from holdfast.dataplane.workers import Crew
from holdfast.errors import DamagedError
from holdfast.model.blocks import BLOCK_SIZE, SEGMENT_BLOCKS
from holdfast.ports import SnapshotWriter
from holdfast.repository.blocks import BlockOpener, PackRange, coalesce
from holdfast.repository.layout import pack_key
from holdfast.repository.map import SegmentRef, read_range
from holdfast.repository.pack import StoredBlock
from holdfast.repository.repository import Repository

RANGE_BYTES: Final = 2 << 20
"""The most that one thread holds of a pack: 24 threads stay below 50 MB."""


@dataclass(frozen=True, slots=True)
class RestoreProgress:
    """How far a segment is restored. ``cursor`` counts ranges of packs in the order of :func:`ranges_of`."""

    done: bool
    cursor: int
    counts: Counts


def ranges_of(ref: SegmentRef, first: int, repository: Repository) -> list[PackRange]:
    """What to read for a segment that starts at block ``first``: always the same ranges in the same order."""
    segment = repository.load_map(ref, first)
    return list(coalesce(segment.blocks(first, first + SEGMENT_BLOCKS), limit=RANGE_BYTES))


def open_blocks(
    span: PackRange, repository: Repository, opener: BlockOpener
) -> Iterator[tuple[int, StoredBlock, bytes]]:
    """Index, place and proven content of the blocks of one range. Raises DamagedError naming the pack.

    What does not prove right is read once more: only the second reading tells damage at rest from damage on
    the way.
    """
    key = pack_key(span.pack_id)
    sealed = read_range(repository.store, key, span.offset, span.length)
    for index, block in span.blocks:
        try:
            content = opener.open(block, span.slice(sealed, block))
        except DamagedError:
            sealed = read_range(repository.store, key, span.offset, span.length)
            content = opener.open(block, span.slice(sealed, block))
        yield index, block, content


def restore_segment(
    ref: SegmentRef,
    first: int,
    *,
    snapshot_id: str,
    repository: Repository,
    writer: SnapshotWriter,
    deadline: Deadline,
    connections: int = 24,
    cursor: int = 0,
) -> RestoreProgress:
    """Put the blocks of a segment from ``cursor`` on into a pending snapshot, or as many as time allows.

    ``first`` is the volume's block index of the segment's start. Doing it again is harmless. Raises
    DamagedError naming the object when a block cannot be proven, and what the ports raise.
    """
    before = requests_of(writer, repository.store)
    written: list[list[int]] = []

    def make_worker() -> Callable[[tuple[int, PackRange]], None]:
        counts = [0, 0]
        written.append(counts)
        opener = repository.opener(ref.epoch)

        def move(item: tuple[int, PackRange]) -> None:
            counts[1] += item[1].length
            for index, block, content in open_blocks(item[1], repository, opener):
                writer.put(snapshot_id, index, content, block.digest)
                counts[0] += 1

        return move

    ranges = ranges_of(ref, first, repository)
    todo = ((number, ranges[number]) for number in range(cursor, len(ranges)))
    stopped_at = Crew(todo, lambda item: item[0], make_worker, deadline).run(connections)
    requests = requests_of(writer, repository.store)
    requests.subtract(before)
    blocks, size = (sum(counts[place] for counts in written) for place in (0, 1))
    counts = Counts(ref.blocks, blocks, blocks, size, blocks * BLOCK_SIZE, dict(+requests))
    if stopped_at is None:
        return RestoreProgress(True, len(ranges), counts)
    return RestoreProgress(False, max(cursor, stopped_at), counts)


def linear_checksum(digests: Iterable[bytes]) -> tuple[int, bytes]:
    """Number of blocks, and SHA-256 over their digests in index order: LINEAR in CompleteSnapshot."""
    count, aggregate = 0, sha256()
    for digest in digests:
        aggregate.update(digest)
        count += 1
    return count, aggregate.digest()


def volume_digests(segments: Iterable[SegmentRef | None], repository: Repository) -> Iterator[bytes]:
    """Digests of all blocks of a volume in index order; one segment map is in memory at a time."""
    for number, ref in enumerate(segments):
        if ref is not None:
            first = number * SEGMENT_BLOCKS
            segment = repository.load_map(ref, first)
            for _, block in segment.blocks(first, first + SEGMENT_BLOCKS):
                yield block.digest
