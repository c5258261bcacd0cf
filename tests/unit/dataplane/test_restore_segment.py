from __future__ import annotations

import hashlib

import pytest

from holdfast.dataplane.backup import SegmentTask, back_up_segment
from holdfast.dataplane.deadline import Deadline, no_deadline
from holdfast.dataplane.outcome import SegmentDone
from holdfast.dataplane.restore import linear_checksum, restore_segment, volume_digests
from holdfast.errors import DamagedError, UnavailableError
from holdfast.model.blocks import BLOCK_SIZE, SEGMENT_BLOCKS, Segment
from holdfast.repository.map import SegmentRef
from holdfast.repository.repository import Repository
from tests.memory_store import MemoryStore
from tests.repository_builders import FakeKms, FixedClock, SeededIds
from tests.snapshots import Blocks, MemorySnapshots, block, noise


@pytest.fixture(params=[False, True], ids=["plain", "encrypted"])
def repository(request: pytest.FixtureRequest) -> Repository:
    wrapper = FakeKms() if request.param else None
    return Repository.create(MemoryStore(), SeededIds(), FixedClock(), key_wrapper=wrapper)


def stored(repository: Repository, blocks: Blocks, segment: int = 0) -> SegmentRef:
    first = segment * SEGMENT_BLOCKS
    outcome = back_up_segment(
        SegmentTask("snap-1", None, 1 << 40, Segment(segment, first, first + SEGMENT_BLOCKS)),
        reader=MemorySnapshots({"snap-1": {first + index: data for index, data in blocks.items()}}),
        repository=repository,
        ids=SeededIds(f"segment {segment}"),
        deadline=no_deadline(),
        connections=3,
        pack_bytes=2 << 20,
    )
    assert isinstance(outcome, SegmentDone)
    assert outcome.ref is not None
    return outcome.ref


def a_snapshot(snapshots: MemorySnapshots) -> str:
    return snapshots.start(1 << 30, token="t", description="", tags={}, encrypted=False, kms_key_arn="")


def test_a_restored_snapshot_has_every_block_and_ebs_agrees(repository: Repository) -> None:
    blocks = {0: block("a"), 63: noise(), 64: noise(), 5_000: block("b"), 32_767: noise()}
    ref, snapshots = stored(repository, blocks), MemorySnapshots()
    snapshot_id = a_snapshot(snapshots)
    done = restore_segment(
        ref, 0, snapshot_id=snapshot_id, repository=repository, writer=snapshots, deadline=no_deadline()
    )
    assert done.done
    assert done.counts.blocks_stored == 5
    assert done.counts.bytes_stored == 5 * BLOCK_SIZE
    snapshots.complete(snapshot_id, *linear_checksum(volume_digests([ref], repository)))
    assert snapshots.snapshots[snapshot_id] == blocks


def test_blocks_of_a_later_segment_go_to_their_place_in_the_volume(repository: Repository) -> None:
    first, second = stored(repository, {1: block("a")}), stored(repository, {2: block("b")}, segment=2)
    snapshots = MemorySnapshots()
    snapshot_id = a_snapshot(snapshots)
    for ref, start in ((first, 0), (second, 2 * SEGMENT_BLOCKS)):
        restore_segment(
            ref,
            start,
            snapshot_id=snapshot_id,
            repository=repository,
            writer=snapshots,
            deadline=no_deadline(),
        )
    checksum = linear_checksum(volume_digests([first, None, second], repository))
    snapshots.complete(snapshot_id, *checksum)
    assert snapshots.snapshots[snapshot_id] == {1: block("a"), 2 * SEGMENT_BLOCKS + 2: block("b")}


def test_a_restore_whose_time_is_up_goes_on_where_it_was(repository: Repository) -> None:
    blocks = {index: noise() for index in range(0, 60, 3)}
    ref, snapshots, cursor, rounds = stored(repository, blocks), MemorySnapshots(), 0, 0
    snapshot_id = a_snapshot(snapshots)
    while True:
        left = iter([100.0] * 2)
        progress = restore_segment(
            ref,
            0,
            snapshot_id=snapshot_id,
            repository=repository,
            writer=snapshots,
            deadline=Deadline(lambda left=left: next(left, 10.0), margin=60.0),
            connections=2,
            cursor=cursor,
        )
        if progress.done:
            break
        assert progress.cursor > cursor
        cursor, rounds = progress.cursor, rounds + 1
    assert rounds > 1
    assert len(snapshots.puts) == len(blocks)
    assert snapshots.snapshots[snapshot_id] == blocks


def test_a_restore_that_failed_is_repeated_to_the_same_end(repository: Repository) -> None:
    blocks = {index: noise() for index in range(12)}
    ref, snapshots = stored(repository, blocks), MemorySnapshots()
    snapshot_id = a_snapshot(snapshots)

    def on_put(index: int) -> None:
        if index == 7:
            raise UnavailableError("EBS does not answer.")

    snapshots.on_put = on_put
    with pytest.raises(UnavailableError):
        restore_segment(
            ref, 0, snapshot_id=snapshot_id, repository=repository, writer=snapshots, deadline=no_deadline()
        )
    snapshots.on_put = lambda index: None
    restore_segment(
        ref, 0, snapshot_id=snapshot_id, repository=repository, writer=snapshots, deadline=no_deadline()
    )
    snapshots.complete(snapshot_id, *linear_checksum(volume_digests([ref], repository)))
    assert snapshots.snapshots[snapshot_id] == blocks


@pytest.mark.parametrize("how", ["missing", "cut", "flipped"])
def test_a_damaged_pack_ends_the_restore_and_is_named(repository: Repository, how: str) -> None:
    ref, snapshots = stored(repository, {1: noise(), 2: noise()}), MemorySnapshots()
    objects = repository.store.objects  # type: ignore[attr-defined]
    key = next(key for key in objects if key.startswith("packs/"))
    if how == "missing":
        del objects[key]
    elif how == "cut":
        objects[key] = objects[key][:1000]
    else:
        objects[key] = objects[key][:1000] + bytes([objects[key][1000] ^ 1]) + objects[key][1001:]
    snapshot_id = a_snapshot(snapshots)
    with pytest.raises(DamagedError) as caught:
        restore_segment(
            ref, 0, snapshot_id=snapshot_id, repository=repository, writer=snapshots, deadline=no_deadline()
        )
    assert key in str(caught.value)


class FlippingOnce(MemoryStore):
    """The first bytes that are read of each pack have one bit turned on their way."""

    def get_range(self, key: str, offset: int, length: int) -> bytes:
        content = super().get_range(key, offset, length)
        if key.startswith("packs/") and [read for read, _ in self.reads].count(key) == 1:
            return bytes([content[0] ^ 1]) + content[1:]
        return content


@pytest.mark.parametrize("wrapper", [None, FakeKms()])
def test_bytes_damaged_on_the_way_are_read_again(wrapper: FakeKms | None) -> None:
    repository = Repository.create(FlippingOnce(), SeededIds(), FixedClock(), key_wrapper=wrapper)
    blocks = {index: noise() for index in range(6)}
    ref, snapshots = stored(repository, blocks), MemorySnapshots()
    snapshot_id = a_snapshot(snapshots)
    restore_segment(
        ref, 0, snapshot_id=snapshot_id, repository=repository, writer=snapshots, deadline=no_deadline()
    )
    assert snapshots.snapshots[snapshot_id] == blocks


def test_the_linear_checksum_covers_the_digests_in_order() -> None:
    digests = [hashlib.sha256(bytes([number])).digest() for number in range(3)]
    assert linear_checksum(digests) == (3, hashlib.sha256(b"".join(digests)).digest())
    assert linear_checksum([]) == (0, hashlib.sha256().digest())
