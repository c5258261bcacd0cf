"""What a backup writes besides block data, measured in bytes, and what does not grow with the volume."""

from __future__ import annotations

import hashlib
import random

import pytest

from holdfast.model.blocks import BLOCK_SIZE, GIB, SEGMENT_BLOCKS
from holdfast.repository.map import SegmentRef
from holdfast.repository.pack import RAW, StoredBlock
from holdfast.repository.repository import Repository
from tests.memory_store import MemoryStore
from tests.repository_builders import (
    FakeKms,
    SeededIds,
    block,
    commit,
    make_manifest,
    make_repository,
    write_segment,
)

TYPICAL = BLOCK_SIZE * 41 // 100
"""Stored bytes of a block of a server's file system under zstd-1 (ratio 0.404 to 0.431)."""

PER_PACK = (32 << 20) // TYPICAL


def stored(index: int, generation: int) -> StoredBlock:
    """A block that some earlier backup stored, without its bytes."""
    pack = hashlib.sha256(f"{generation} {index // PER_PACK}".encode()).digest()
    place = index % PER_PACK
    digest = hashlib.sha256(f"{generation} {index}".encode()).digest()
    return StoredBlock(digest, pack, place, 40 + place * TYPICAL, TYPICAL, RAW)


class PackSizes(dict[bytes, int]):
    def __missing__(self, pack_id: bytes) -> int:
        return 32 << 20


def map_segment(
    repository: Repository, blocks: dict[int, StoredBlock], previous: SegmentRef | None, ids: SeededIds
) -> SegmentRef:
    ref = repository.store_map(repository.load_map(previous), blocks, (), ids=ids, pack_bytes=PackSizes())
    assert ref is not None
    return ref


def spread(fraction: float, generation: int) -> dict[int, StoredBlock]:
    """Changes spread evenly over a segment."""
    count = round(SEGMENT_BLOCKS * fraction)
    chosen = random.Random(generation).sample(range(SEGMENT_BLOCKS), count)
    return {index: stored(index, generation) for index in chosen}


def written(store: MemoryStore) -> int:
    return sum(store.written.values())


@pytest.mark.parametrize("fraction", [0.001, 0.01, 0.05])
def test_an_incremental_of_a_long_chain_writes_less_than_5_percent_besides_block_data(fraction: float):
    """Also after a hundred incrementals, when pages and packs are fragmented."""
    store, ids = MemoryStore(), SeededIds()
    repository = make_repository(store, FakeKms())
    ref = map_segment(repository, {i: stored(i, 0) for i in range(SEGMENT_BLOCKS)}, None, ids)
    for generation in range(1, 101 if fraction < 0.01 else 11):
        changes = spread(fraction, generation)
        before = written(store)
        ref = map_segment(repository, changes, ref, ids)
        commit(repository, make_manifest({0: ref}, point_id=f"p{generation}", size_bytes=16 * GIB))
        assert written(store) - before < 0.05 * len(changes) * TYPICAL, f"backup {generation}"


def test_an_incremental_with_real_blocks_writes_less_than_5_percent_besides_them():
    """0.1 % of the blocks of a segment, incompressible, through packs, map and manifest."""
    store, ids = MemoryStore(), SeededIds()
    repository = make_repository(store, FakeKms())
    full = map_segment(repository, {i: stored(i, 0) for i in range(SEGMENT_BLOCKS)}, None, ids)
    before = dict(store.written)
    content = {index: block(index) for index in random.Random(1).sample(range(SEGMENT_BLOCKS), 33)}
    ref = write_segment(repository, content, previous=full, ids=ids)
    commit(repository, make_manifest({0: ref}, size_bytes=16 * GIB))
    total = written(store) - sum(before.values())
    assert total < 1.05 * len(content) * BLOCK_SIZE


def test_a_full_map_costs_less_than_a_thousandth_of_its_blocks():
    store, ids = MemoryStore(), SeededIds()
    repository = make_repository(store, FakeKms())
    ref = map_segment(repository, {i: stored(i, 0) for i in range(SEGMENT_BLOCKS)}, None, ids)
    assert ref.size < SEGMENT_BLOCKS * TYPICAL / 1000


def test_a_checkpoint_writes_only_what_is_new_since_the_last_one():
    store, ids = MemoryStore(), SeededIds()
    repository = make_repository(store, FakeKms())
    ref, sizes = None, []
    for start in range(0, SEGMENT_BLOCKS, 4096):
        ref = map_segment(repository, {i: stored(i, 0) for i in range(start, start + 4096)}, ref, ids)
        sizes.append(ref.size)
    whole = map_segment(repository, {i: stored(i, 0) for i in range(SEGMENT_BLOCKS)}, None, ids)
    assert sum(sizes) < 1.2 * whole.size
    assert ref is not None
    assert ref.root == whole.root


def commit_of(size_bytes: int) -> tuple[int, int]:
    """(store operations, bytes) of committing an incremental of which one segment has changed."""
    store, ids = MemoryStore(), SeededIds()
    repository = make_repository(store)
    ref = map_segment(repository, {0: stored(0, 0)}, None, ids)
    manifest = make_manifest(dict.fromkeys(range(size_bytes // (16 * GIB)), ref), size_bytes=size_bytes)
    store.reads.clear()
    before = dict(store.written)
    commit(repository, manifest)
    new = {
        key: size - before.get(key, 0) for key, size in store.written.items() if size != before.get(key, 0)
    }
    return len(store.reads) + len(new), sum(new.values())


def test_commit_work_does_not_grow_with_the_volume_beyond_one_reference_per_segment():
    small_calls, small_bytes = commit_of(64 * GIB)
    large_calls, large_bytes = commit_of(16 << 40)
    assert large_calls == small_calls
    assert large_bytes - small_bytes < 1024 * 300
