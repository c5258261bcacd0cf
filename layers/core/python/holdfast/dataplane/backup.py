"""Backs up one segment of a volume: from an EBS snapshot into packs and a segment map.

A block is dropped only after its own SHA-256 proved to be the one that EBS sent: as zero, or as what the
previous map already holds at the same place. The map is written after every pack it refers to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from itertools import islice
from typing import Final

from holdfast.dataplane.deadline import Deadline
from holdfast.dataplane.outcome import Continue, Counts, SegmentDone, requests_of
from holdfast.dataplane.workers import Crew
from holdfast.errors import ChecksumError, ConflictError, IntegrityError, SourceGoneError
from holdfast.model.blocks import BLOCK_SIZE, ZERO_DIGEST, Segment
from holdfast.ports import BlockRef, IdSource, SnapshotReader
from holdfast.repository.map import SegmentMap, SegmentRef
from holdfast.repository.pack import PackWriter, StoredBlock
from holdfast.repository.repository import Repository

READS_PER_BLOCK: Final = 4
"""A block whose bytes and checksum disagree this often is damaged at its source, not on the way."""

_LOOKAHEAD: Final = 2_048
_ZEROS: Final = bytes(BLOCK_SIZE)


@dataclass(frozen=True, slots=True)
class SegmentTask:
    """One segment to back up.

    ``base_snapshot_id`` is the snapshot that ``previous``, the segment's map of the last backup, was made
    of; None when there is no such snapshot any more. ``cursor`` and ``checkpoint`` come from a Continue;
    ``cursor`` is the next block of the volume (anything up to the segment's start means its start).
    ``full`` forbids changed block tracking.
    """

    snapshot_id: str
    base_snapshot_id: str | None
    size_bytes: int
    segment: Segment
    previous: SegmentRef | None = None
    cursor: int = 0
    checkpoint: SegmentRef | None = None
    full: bool = False


def back_up_segment(
    task: SegmentTask,
    *,
    reader: SnapshotReader,
    repository: Repository,
    ids: IdSource,
    deadline: Deadline,
    connections: int = 24,
    pack_bytes: int = 32 << 20,
) -> SegmentDone | Continue:
    """Bring the segment's map to the state of the snapshot, or as far as time allows.

    ``connections`` threads read at once. Without a usable base every allocated block is read and compared
    with the previous map by digest. Raises SourceGoneError when the snapshot is gone, IntegrityError for a
    block that cannot be read as EBS describes it, and whatever the ports raise; nothing visible was changed
    then.
    """
    return _Backup(task, reader, repository, ids, deadline, pack_bytes).run(connections)


class _Backup:
    """The state of one call; threads add to ``changed``, ``removed`` and the counters without a lock.

    Every thread touches only the keys of blocks that it took, and counters are kept per thread.
    """

    def __init__(
        self,
        task: SegmentTask,
        reader: SnapshotReader,
        repository: Repository,
        ids: IdSource,
        deadline: Deadline,
        pack_bytes: int,
    ) -> None:
        self.task = task
        self.reader = reader
        self.repository = repository
        self.ids = ids
        self.deadline = deadline
        self.start = max(task.cursor, task.segment.start)
        base = task.checkpoint if self.start > task.segment.start else task.previous
        self.tracking = bool(task.base_snapshot_id and task.previous and not task.full)
        if any(ref and ref.epoch != repository.keys.epoch for ref in (base, task.previous)):
            # Written before the repository was encrypted: nothing of it may be referred to.
            self.start, base, self.tracking = task.segment.start, None, False
        self.full_from = task.segment.end if self.tracking else self.start
        self.base: SegmentMap = repository.load_map(base, task.segment.start)
        self.packs: PackWriter = repository.pack_writer(ids, pack_bytes=pack_bytes)
        self.changed: dict[int, StoredBlock] = {}
        self.removed: set[int] = set()
        self.listed: set[int] = set()
        self.reads: list[list[int]] = []
        self.requests = requests_of(reader, repository.store)

    def run(self, connections: int) -> SegmentDone | Continue:
        crew = Crew(self._refs(), lambda ref: ref.index, self._worker, self.deadline)
        stopped_at = crew.run(connections)
        task, full = self.task, not self.tracking
        if stopped_at is not None and stopped_at <= self.start:
            checkpoint = task.checkpoint if self.start > task.segment.start else None
            return Continue(self.start, checkpoint, full, self._counts(crew, 0, 0))
        end = task.segment.end if stopped_at is None else stopped_at
        changed = {index: block for index, block in list(self.changed.items()) if index < end}
        removed = {index for index in list(self.removed) if index < end}
        removed |= {index for index, _ in self.base.blocks(self.full_from, end) if index not in self.listed}
        self.packs.flush()
        sealed = self.packs.sealed
        ref = self.repository.store_map(self.base, changed, removed, ids=self.ids, pack_bytes=sealed)
        stored = sum(sealed.values()) + (ref.size if ref is not None and ref != self.base.ref else 0)
        counts = self._counts(crew, len(changed), stored)
        return SegmentDone(ref, full, counts) if stopped_at is None else Continue(end, ref, full, counts)

    def _counts(self, crew: Crew[BlockRef], stored_blocks: int, stored_bytes: int) -> Counts:
        read = sum(count for (count,) in self.reads)
        requests = requests_of(self.reader, self.repository.store)
        requests.subtract(self.requests)
        return Counts(crew.taken_count, read, stored_blocks, read * BLOCK_SIZE, stored_bytes, dict(+requests))

    def _refs(self) -> Iterator[BlockRef]:
        """The blocks to look at, with the pages of the base map that they need read ahead of them."""
        listing = self._list()
        while ahead := list(islice(listing, _LOOKAHEAD)):
            self.base.prefetch_blocks([ref.index for ref in ahead])
            self.listed.update(ref.index for ref in ahead)
            yield from ahead

    def _list(self) -> Iterator[BlockRef]:
        task, following = self.task, self.start
        if self.tracking and task.base_snapshot_id:
            try:
                for ref in self.reader.changed(
                    task.base_snapshot_id, task.snapshot_id, following, task.segment.end
                ):
                    following = ref.index + 1
                    yield ref
                return
            except (SourceGoneError, ConflictError):
                # The base is gone, or of another volume: from here on everything is read and compared by
                # digest. When it is the snapshot itself that is gone, the next listing says so.
                self.tracking = False
                self.full_from = following
        yield from self.reader.allocated(task.snapshot_id, following, task.segment.end)

    def _worker(self) -> Callable[[BlockRef], None]:
        buffer = bytearray(BLOCK_SIZE)
        reads = [0]
        self.reads.append(reads)

        def move(ref: BlockRef) -> None:
            held = self.base.digest(ref.index)
            digest = self._read(ref, buffer, reads) if ref.token else ZERO_DIGEST
            if digest == ZERO_DIGEST:
                if held is not None:
                    self.removed.add(ref.index)
            elif digest != held:
                self.changed[ref.index] = self.packs.append(buffer, digest)

        return move

    def _read(self, ref: BlockRef, buffer: bytearray, reads: list[int]) -> bytes:
        """Fill ``buffer`` with a block and return its proven digest."""
        view = memoryview(buffer)
        for _ in range(READS_PER_BLOCK):
            reads[0] += 1
            try:
                digest = self.reader.read_into(self.task.snapshot_id, ref, view)
            except ChecksumError:
                continue
            # Comparing with zeros costs a twentieth of hashing them.
            if buffer == _ZEROS if digest == ZERO_DIGEST else sha256(buffer).digest() == digest:
                return digest
        raise IntegrityError(
            f"Block {ref.index} does not match the checksum that EBS sends with it, "
            f"after {READS_PER_BLOCK} reads.",
            resource=self.task.snapshot_id,
            remedy="Take a new snapshot; if that fails too, the volume is damaged: tell AWS support.",
        )
