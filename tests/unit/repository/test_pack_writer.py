"""Packs: what goes in comes out, from many threads, in bounded memory, and failures reach everybody."""

from __future__ import annotations

import hashlib
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from holdfast.errors import DamagedError, UnavailableError
from holdfast.model.blocks import BLOCK_SIZE
from holdfast.repository.blocks import BlockOpener, coalesce
from holdfast.repository.keys import Keys
from holdfast.repository.layout import HEADER_SIZE, pack_key
from holdfast.repository.pack import MIN_PACK_BYTES, RAW, ZSTD, PackWriter, StoredBlock, read_directory
from tests.memory_store import MemoryStore
from tests.repository_builders import SeededIds, block, digest

PLAIN = Keys(bytes(range(32)))
SEALED = Keys(bytes(range(32)), 1, b"k" * 32)


@pytest.fixture(params=[PLAIN, SEALED], ids=["plain", "encrypted"])
def keys(request: pytest.FixtureRequest) -> Keys:
    return request.param


def writer_into(store: MemoryStore, keys: Keys, **options: int) -> PackWriter:
    return PackWriter(
        keys, SeededIds(), lambda pack_id, view: store.put_new(pack_key(pack_id), view), **options
    )


def read(store: MemoryStore, keys: Keys, stored: StoredBlock) -> bytes:
    sealed = store.get_range(pack_key(stored.pack_id), stored.offset, stored.length)
    return BlockOpener(keys).open(stored, sealed)


def test_a_block_comes_back_as_it_was_appended(keys: Keys):
    store = MemoryStore()
    writer = writer_into(store, keys)
    contents = [block("raw"), block("small", compressible=True), bytes(BLOCK_SIZE)]
    rows = [writer.append(content, digest(content)) for content in contents]
    writer.flush()
    assert [row.encoding for row in rows] == [RAW, ZSTD, ZSTD]
    assert [read(store, keys, row) for row in rows] == contents


def test_a_block_may_be_given_as_a_buffer_that_is_reused(keys: Keys):
    store = MemoryStore()
    writer = writer_into(store, keys)
    buffer = bytearray(block(1))
    row = writer.append(memoryview(buffer), digest(buffer))
    buffer[:] = bytes(BLOCK_SIZE)
    writer.flush()
    assert read(store, keys, row) == block(1)


def test_packs_never_exceed_their_size_and_sealed_tells_it(keys: Keys):
    store = MemoryStore()
    writer = writer_into(store, keys, pack_bytes=2 << 20, buffers=1)
    for number in range(10):
        writer.append(block(number), digest(block(number)))
    writer.flush()
    assert len(writer.sealed) == 4
    assert {pack_key(pack_id): size for pack_id, size in writer.sealed.items()} == {
        key: len(content) for key, content in store.objects.items()
    }
    assert max(writer.sealed.values()) <= 2 << 20


def test_the_smallest_pack_holds_one_incompressible_block(keys: Keys):
    store = MemoryStore()
    writer = writer_into(store, keys, pack_bytes=MIN_PACK_BYTES, buffers=1)
    rows = [writer.append(block(number), digest(block(number))) for number in range(3)]
    writer.flush()
    assert len({row.pack_id for row in rows}) == 3
    assert [read(store, keys, row) for row in rows] == [block(number) for number in range(3)]


def test_many_threads_share_one_pack_and_lose_nothing(keys: Keys):
    store = MemoryStore()
    writer = writer_into(store, keys, pack_bytes=3 << 20, buffers=2)
    contents = {number: block(number % 16, compressible=number % 3 == 0) for number in range(96)}

    def append(number: int) -> tuple[int, StoredBlock]:
        return number, writer.append(contents[number], digest(contents[number]))

    with ThreadPoolExecutor(24) as pool:
        rows = dict(pool.map(append, contents))
    writer.flush()
    assert all(read(store, keys, row) == contents[number] for number, row in rows.items())
    places = sorted((row.pack_id, row.ordinal) for row in rows.values())
    assert len(set(places)) == len(contents)


def test_the_directory_lists_every_block_of_the_pack(keys: Keys):
    store = MemoryStore()
    writer = writer_into(store, keys)
    rows = [writer.append(block(n, compressible=True), digest(block(n, compressible=True))) for n in range(5)]
    writer.flush()
    (pack_id,) = writer.sealed
    entries = read_directory(keys, pack_id, store.get(pack_key(pack_id)))
    assert [
        StoredBlock(e.digest, pack_id, e.ordinal, e.offset, e.length, e.encoding) for e in entries
    ] == rows
    assert entries[0].offset == HEADER_SIZE


def test_flushing_nothing_stores_nothing(keys: Keys):
    store = MemoryStore()
    writer = writer_into(store, keys)
    writer.flush()
    assert (store.objects, writer.sealed) == ({}, {})


def test_a_writer_goes_on_after_a_flush(keys: Keys):
    store = MemoryStore()
    writer = writer_into(store, keys, buffers=1)
    first = writer.append(block(1), digest(block(1)))
    writer.flush()
    second = writer.append(block(2), digest(block(2)))
    writer.flush()
    assert first.pack_id != second.pack_id
    assert read(store, keys, first) == block(1)


def test_at_most_the_given_buffers_are_in_flight():
    """With every buffer being stored, an append waits instead of taking more memory."""
    release, storing, seen = threading.Event(), threading.Semaphore(0), []

    def put(pack_id: bytes, view: memoryview) -> None:
        seen.append(id(view.obj))
        storing.release()
        assert release.wait(30)

    writer = PackWriter(PLAIN, SeededIds(), put, pack_bytes=MIN_PACK_BYTES, buffers=2)
    with ThreadPoolExecutor(8) as pool:
        futures = [pool.submit(writer.append, block(n), digest(block(n))) for n in range(8)]
        storing.acquire()
        storing.acquire()
        assert not storing.acquire(blocking=False)
        release.set()
        for future in futures:
            future.result()
    writer.flush()
    assert len(writer.sealed) == 8
    assert len(set(seen)) == 2


def test_a_pack_that_cannot_be_stored_fails_every_user_of_the_writer():
    def put(pack_id: bytes, view: memoryview) -> None:
        raise UnavailableError("S3 is away")

    writer = PackWriter(PLAIN, SeededIds(), put, pack_bytes=MIN_PACK_BYTES, buffers=1)
    writer.append(block(1), digest(block(1)))
    with pytest.raises(UnavailableError):
        writer.append(block(2), digest(block(2)))
    with pytest.raises(UnavailableError):
        writer.append(block(3), digest(block(3)))
    with pytest.raises(UnavailableError):
        writer.flush()
    assert writer.sealed == {}


def test_threads_that_wait_for_a_buffer_learn_of_a_failure():
    release = threading.Event()

    def put(pack_id: bytes, view: memoryview) -> None:
        release.wait(30)
        raise UnavailableError("S3 is away")

    writer = PackWriter(PLAIN, SeededIds(), put, pack_bytes=MIN_PACK_BYTES, buffers=1)
    with ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(writer.append, block(n), digest(block(n))) for n in range(4)]
        release.set()
        outcomes = [future.exception() for future in futures]
    assert sum(isinstance(outcome, UnavailableError) for outcome in outcomes) == 3


def test_a_block_that_cannot_be_sealed_gives_up_its_pack():
    """Its ordinal is spent, so the pack must not be finished with a hole in it."""
    stored: list[bytes] = []
    writer = PackWriter(SEALED, SeededIds(), lambda pack_id, view: stored.append(pack_id))
    writer.append(block(1), digest(block(1)))

    class Broken:
        overhead = 16

        def seal_into(self, *_: object) -> None:
            raise MemoryError

    writer._open.cipher = Broken()
    with pytest.raises(MemoryError):
        writer.append(block(2), digest(block(2)))
    with pytest.raises(MemoryError):
        writer.flush()
    assert stored == []


@pytest.mark.parametrize("content, sum_", [(b"short", bytes(32)), (bytes(BLOCK_SIZE), b"short")])
def test_only_whole_blocks_are_taken(content: bytes, sum_: bytes):
    with pytest.raises(ValueError, match="a block has"):
        writer_into(MemoryStore(), PLAIN).append(content, sum_)


@pytest.mark.parametrize("options", [{"pack_bytes": MIN_PACK_BYTES - 1}, {"buffers": 0}])
def test_a_writer_without_room_is_refused(options: dict[str, int]):
    with pytest.raises(ValueError, match="at least"):
        writer_into(MemoryStore(), PLAIN, **options)


def test_two_writers_never_share_a_key_and_nonce():
    """The same blocks, written twice under one repository key, have nothing in common."""
    stores = MemoryStore(), MemoryStore()
    for number, store in enumerate(stores):
        writer = PackWriter(
            SEALED,
            SeededIds(str(number)),
            lambda pack_id, view, store=store: store.put_new(pack_key(pack_id), view),
        )
        writer.append(block(1, compressible=True), digest(block(1, compressible=True)))
        writer.flush()
    one, two = (next(iter(store.objects.values())) for store in stores)
    assert len(one) == len(two)
    assert sum(a == b for a, b in zip(one[HEADER_SIZE:-4], two[HEADER_SIZE:-4], strict=True)) < len(one) / 50


@pytest.mark.parametrize("damage", ["count", "truncated", "extended", "tiny", "empty", "zero count"])
def test_a_directory_that_does_not_fit_is_damage(keys: Keys, damage: str):
    store = MemoryStore()
    writer = writer_into(store, keys)
    writer.append(block(1), digest(block(1)))
    writer.flush()
    (pack_id,) = writer.sealed
    whole = store.get(pack_key(pack_id))
    content = {
        "count": whole[:-4] + b"\xff\xff\xff\xff",
        "truncated": whole[:-1],
        "extended": whole + b"\0",
        "tiny": whole[:42],
        "empty": b"",
        "zero count": whole[:-4] + bytes(4),
    }[damage]
    with pytest.raises(DamagedError) as caught:
        read_directory(keys, pack_id, content)
    assert caught.value.resource == pack_key(pack_id)


def test_blocks_that_do_not_fill_the_pack_are_damage():
    """A directory with a valid digest of its own that leaves bytes unaccounted for."""
    cipher = PLAIN.cipher(1, b"i" * 32)
    entry = (10).to_bytes(4, "big") + bytes([RAW]) + bytes(32)
    content = cipher.header + bytes(11) + entry + cipher.digest(0xFFFFFFFF, entry) + (1).to_bytes(4, "big")
    with pytest.raises(DamagedError, match="do not fill"):
        read_directory(PLAIN, b"i" * 32, content)


def test_a_block_of_another_length_or_encoding_is_damage(keys: Keys):
    store = MemoryStore()
    writer = writer_into(store, keys)
    row = writer.append(block(1), digest(block(1)))
    writer.flush()
    sealed = store.get_range(pack_key(row.pack_id), row.offset, row.length)
    opener = BlockOpener(keys)
    wrong = [
        (row, sealed[:-1]),
        (row._replace(length=5), sealed[:5]),
        (row._replace(encoding=7), sealed),
        (row._replace(encoding=ZSTD), sealed),
        (row._replace(digest=bytes(32)), sealed),
        (row._replace(length=row.length + 100), sealed + bytes(100)),
    ]
    for stored, content in wrong:
        with pytest.raises(DamagedError) as caught:
            opener.open(stored, content)
        assert caught.value.resource == pack_key(row.pack_id)


def test_neighbours_are_read_in_one_request_and_strangers_are_not():
    a, b = b"a" * 32, b"b" * 32
    near = [StoredBlock(b"", a, 0, 40, 100, 1), StoredBlock(b"", a, 1, 140, 100, 1)]
    far = StoredBlock(b"", a, 9, 10_000, 100, 1)
    other = StoredBlock(b"", b, 0, 40, 100, 1)
    spans = list(coalesce([(3, far), (2, other), (1, near[1]), (0, near[0])], gap=50))
    assert [(s.pack_id, s.offset, s.length, [i for i, _ in s.blocks]) for s in spans] == [
        (a, 40, 200, [0, 1]),
        (a, 10_000, 100, [3]),
        (b, 40, 100, [2]),
    ]
    assert bytes(spans[0].slice(bytes(range(200)), near[1])) == bytes(range(100, 200))


def test_a_request_is_limited_in_length_and_a_block_may_repeat():
    rows = [(n, StoredBlock(b"", b"a" * 32, n, 40 + 100 * n, 100, 1)) for n in range(5)]
    assert [s.length for s in coalesce(rows, limit=250)] == [200, 200, 100]
    twice = list(coalesce([rows[0], rows[0]]))
    assert [(s.length, len(s.blocks)) for s in twice] == [(100, 2)]
    assert list(coalesce([])) == []


def test_sha256_is_of_the_plaintext(keys: Keys):
    writer = writer_into(MemoryStore(), keys)
    row = writer.append(block(1), digest(block(1)))
    assert row.digest == hashlib.sha256(block(1)).digest()
