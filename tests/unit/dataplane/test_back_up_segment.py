from __future__ import annotations

import threading
from dataclasses import replace
from itertools import count

import pytest

from holdfast.dataplane.backup import READS_PER_BLOCK, SegmentTask, back_up_segment
from holdfast.dataplane.deadline import Deadline, no_deadline
from holdfast.dataplane.outcome import Continue, SegmentDone
from holdfast.errors import ChecksumError, IntegrityError, SourceGoneError, UnavailableError
from holdfast.model.blocks import BLOCK_SIZE, Segment
from holdfast.repository.map import SegmentRef
from holdfast.repository.repository import Repository
from tests.memory_store import MemoryStore
from tests.repository_builders import FakeKms, FixedClock, SeededIds
from tests.snapshots import Blocks, MemorySnapshots, block

SEGMENT = Segment(0, 0, 32_768)
PACK_BYTES = 2 << 20
_runs = count()


def a_repository(encrypted: bool = True) -> Repository:
    wrapper = FakeKms() if encrypted else None
    return Repository.create(MemoryStore(), SeededIds(), FixedClock(), key_wrapper=wrapper)


def a_task(snapshot: str = "snap-1", **changes: object) -> SegmentTask:
    return replace(SegmentTask(snapshot, None, 16 << 30, SEGMENT), **changes)  # type: ignore[arg-type]


def back_up(
    task: SegmentTask,
    snapshots: MemorySnapshots,
    repository: Repository,
    *,
    deadline: Deadline | None = None,
    connections: int = 4,
) -> SegmentDone | Continue:
    return back_up_segment(
        task,
        reader=snapshots,
        repository=repository,
        ids=SeededIds(f"backup {next(_runs)}"),
        deadline=deadline or no_deadline(),
        connections=connections,
        pack_bytes=PACK_BYTES,
    )


def done(outcome: SegmentDone | Continue) -> SegmentDone:
    assert isinstance(outcome, SegmentDone)
    return outcome


def content(repository: Repository, ref: SegmentRef | None) -> Blocks:
    if ref is None:
        return {}
    return dict(repository.read_blocks(repository.load_map(ref).blocks(0, 32_768), ref.epoch))


def after_blocks(count: int) -> Deadline:
    """A deadline that is near once ``count`` blocks were begun."""
    left = iter([100.0] * count)
    return Deadline(lambda: next(left, 10.0), margin=60.0)


@pytest.mark.parametrize("encrypted", [False, True])
def test_a_first_backup_holds_every_block_that_is_not_zero(encrypted: bool) -> None:
    blocks = {0: block("a"), 1: block(0), 70: block("b"), 32_767: block("c")}
    repository = a_repository(encrypted)
    outcome = done(back_up(a_task(), MemorySnapshots({"snap-1": blocks}), repository))
    assert content(repository, outcome.ref) == {index: blocks[index] for index in (0, 70, 32_767)}
    assert outcome.full
    assert (outcome.counts.blocks_listed, outcome.counts.blocks_read, outcome.counts.blocks_stored) == (
        4,
        4,
        3,
    )
    assert outcome.counts.bytes_read == 4 * BLOCK_SIZE


def test_a_segment_without_data_has_no_map_and_writes_nothing() -> None:
    repository = a_repository()
    written = dict(repository.store.written)  # type: ignore[attr-defined]
    outcome = done(back_up(a_task(), MemorySnapshots({"snap-1": {5: block(0)}}), repository))
    assert outcome.ref is None
    assert repository.store.written == written  # type: ignore[attr-defined]


def test_an_incremental_reads_changed_blocks_only_and_forgets_those_that_became_empty() -> None:
    first = {index: block(f"old {index}") for index in range(10)}
    second = {**first, 3: block("new"), 4: block(0), 11: block("added")}
    del second[5]
    snapshots = MemorySnapshots({"snap-1": first, "snap-2": second})
    repository = a_repository()
    previous = done(back_up(a_task(), snapshots, repository)).ref
    snapshots.reads.clear()
    outcome = done(
        back_up(a_task("snap-2", base_snapshot_id="snap-1", previous=previous), snapshots, repository)
    )
    assert sorted(index for _, index in snapshots.reads) == [3, 4, 11]
    assert not outcome.full
    assert outcome.counts.blocks_stored == 2
    assert content(repository, outcome.ref) == {index: data for index, data in second.items() if index != 4}


def test_a_changed_block_with_the_old_content_is_not_stored_again() -> None:
    blocks = {1: block("a"), 2: block("b")}
    snapshots = MemorySnapshots({"snap-1": blocks, "snap-2": {**blocks, 1: block("x")}, "snap-3": blocks})
    repository = a_repository()
    previous = done(back_up(a_task(), snapshots, repository)).ref
    outcome = done(
        back_up(a_task("snap-3", base_snapshot_id="snap-2", previous=previous), snapshots, repository)
    )
    assert outcome.ref == previous
    assert (outcome.counts.blocks_read, outcome.counts.blocks_stored, outcome.counts.bytes_stored) == (
        1,
        0,
        0,
    )


@pytest.mark.parametrize("why", ["gone", "unrelated", "unknown"])
def test_without_a_usable_base_everything_is_read_but_only_differences_are_stored(why: str) -> None:
    first = {index: block(f"old {index}") for index in range(8)}
    second = {index: data for index, data in first.items() if index != 2} | {7: block("new")}
    snapshots = MemorySnapshots({"snap-1": first, "snap-2": second})
    repository = a_repository()
    previous = done(back_up(a_task(), snapshots, repository)).ref
    base = {"gone": "snap-0", "unrelated": "snap-1", "unknown": None}[why]
    snapshots.unrelated.add("snap-1")
    task = a_task("snap-2", base_snapshot_id=base, previous=previous)
    outcome = done(back_up(task, snapshots, repository))
    assert outcome.full
    assert (outcome.counts.blocks_read, outcome.counts.blocks_stored) == (7, 1)
    assert content(repository, outcome.ref) == second


def test_a_base_that_disappears_between_two_pages_costs_a_full_read_of_the_rest_only() -> None:
    first = {index: block(f"old {index}") for index in range(6)}
    second = {**first, 1: block("new 1"), 4: block("new 4")}
    del second[5]

    class Vanishing(MemorySnapshots):
        def changed(self, base_id, snapshot_id, start, end):  # type: ignore[no-untyped-def]
            yield next(super().changed(base_id, snapshot_id, start, end))
            raise SourceGoneError("The snapshot does not exist.", resource=base_id)

    snapshots = Vanishing({"snap-1": first, "snap-2": second})
    repository = a_repository()
    previous = done(back_up(a_task(), snapshots, repository)).ref
    snapshots.reads.clear()
    outcome = done(
        back_up(a_task("snap-2", base_snapshot_id="snap-1", previous=previous), snapshots, repository)
    )
    assert sorted(index for _, index in snapshots.reads) == [1, 2, 3, 4]
    assert content(repository, outcome.ref) == second


def test_a_snapshot_that_is_gone_is_named() -> None:
    with pytest.raises(SourceGoneError) as caught:
        back_up(a_task("snap-9"), MemorySnapshots(), a_repository())
    assert caught.value.resource == "snap-9"


def test_a_block_damaged_on_the_way_is_read_again() -> None:
    snapshots = MemorySnapshots({"snap-1": {1: block("a"), 2: block(0)}})
    damaged = {1: 2, 2: READS_PER_BLOCK - 1}

    def on_read(_: str, index: int) -> bytes | None:
        damaged[index] -= 1
        if damaged[index] == 0 and index == 1:
            raise ChecksumError("EBS sent no checksum.")
        return block("damaged") if damaged[index] >= 0 else None

    snapshots.on_read = on_read
    repository = a_repository()
    outcome = done(back_up(a_task(), snapshots, repository))
    assert content(repository, outcome.ref) == {1: block("a")}
    assert outcome.counts.blocks_read == 3 + READS_PER_BLOCK


@pytest.mark.parametrize("true", [block("a"), block(0)])
def test_a_block_that_never_matches_its_checksum_ends_the_backup(true: bytes) -> None:
    snapshots = MemorySnapshots({"snap-1": {1: block("b"), 7: true}})
    snapshots.on_read = lambda _, index: block("damaged") if index == 7 else None
    repository = a_repository()
    with pytest.raises(IntegrityError, match="Block 7") as caught:
        back_up(a_task(), snapshots, repository)
    assert caught.value.resource == "snap-1"
    assert not any(key.startswith("maps/") for key in repository.store.written)  # type: ignore[attr-defined]


def test_an_error_in_one_thread_stops_the_others_and_is_raised() -> None:
    snapshots = MemorySnapshots({"snap-1": {index: block(index + 1) for index in range(200)}})

    def on_read(_: str, index: int) -> bytes | None:
        if index == 20:
            raise UnavailableError("EBS does not answer.")
        return None

    snapshots.on_read = on_read
    with pytest.raises(UnavailableError):
        back_up(a_task(), snapshots, a_repository())
    assert len(snapshots.reads) < 200


def test_time_that_is_up_at_once_hands_back_the_same_place() -> None:
    snapshots = MemorySnapshots({"snap-1": {1: block("a")}})
    outcome = back_up(a_task(), snapshots, a_repository(), deadline=after_blocks(0))
    assert isinstance(outcome, Continue)
    assert (outcome.cursor, outcome.checkpoint) == (0, None)
    assert snapshots.reads == []


def test_a_continued_backup_reads_no_block_twice() -> None:
    blocks = {index: block(index + 1) for index in range(0, 40, 3)}
    snapshots = MemorySnapshots({"snap-1": blocks})
    repository = a_repository()
    task, rounds = a_task(), 0
    while isinstance(outcome := back_up(task, snapshots, repository, deadline=after_blocks(4)), Continue):
        task = replace(task, cursor=outcome.cursor, checkpoint=outcome.checkpoint, full=outcome.full)
        rounds += 1
    assert rounds > 2
    assert len(snapshots.reads) == len(set(snapshots.reads)) == len(blocks)
    assert content(repository, outcome.ref) == blocks


def test_blocks_removed_before_a_cursor_do_not_come_back() -> None:
    snapshots = MemorySnapshots({"snap-1": {1: block("a")}, "snap-2": {1: block(0), 9: block(0)}})
    repository = a_repository()
    previous = done(back_up(a_task(), snapshots, repository)).ref
    task = a_task("snap-2", previous=previous)
    outcome = back_up(task, snapshots, repository, deadline=after_blocks(1), connections=1)
    assert isinstance(outcome, Continue)
    task = replace(task, cursor=outcome.cursor, checkpoint=outcome.checkpoint, full=outcome.full)
    assert done(back_up(task, snapshots, repository)).ref is None


def test_a_thread_that_hangs_is_left_behind_and_its_block_is_the_cursor() -> None:
    blocks = {index: block(index + 1) for index in range(12)}
    snapshots = MemorySnapshots({"snap-1": blocks})
    hanging, release = threading.Event(), threading.Event()

    def on_read(_: str, index: int) -> bytes | None:
        if index == 5 and not hanging.is_set():
            hanging.set()
            release.wait()
        return None

    snapshots.on_read = on_read
    deadline = Deadline(
        lambda: 1.0 if hanging.is_set() and len(snapshots.reads) >= 12 else 100.0, margin=60.0
    )
    repository = a_repository()
    outcome = back_up(a_task(), snapshots, repository, deadline=deadline)
    assert isinstance(outcome, Continue)
    assert outcome.cursor == 5
    assert content(repository, outcome.checkpoint) == {index: blocks[index] for index in range(5)}
    release.set()
    task = a_task(cursor=outcome.cursor, checkpoint=outcome.checkpoint, full=outcome.full)
    assert content(repository, done(back_up(task, snapshots, repository)).ref) == blocks


def test_a_repository_encrypted_since_the_last_backup_gets_a_full_one() -> None:
    blocks = {1: block("a"), 2: block("b")}
    snapshots = MemorySnapshots({"snap-1": blocks, "snap-2": blocks})
    plain, sealed = a_repository(encrypted=False), a_repository(encrypted=True)
    previous = done(back_up(a_task(), snapshots, plain)).ref
    task = a_task("snap-2", base_snapshot_id="snap-1", previous=previous, cursor=2, checkpoint=previous)
    outcome = done(back_up(task, snapshots, sealed))
    assert outcome.full
    assert content(sealed, outcome.ref) == blocks
