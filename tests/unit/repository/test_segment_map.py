"""Segment maps: what was stored is found, untouched pages are referenced, history does not add up."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import pytest

from holdfast.errors import ConflictError, DamagedError
from holdfast.model.blocks import SEGMENT_BLOCKS
from holdfast.repository.keys import Keys
from holdfast.repository.layout import MAX_MAP_REFERENCES, PAGE_BLOCKS
from holdfast.repository.map import SegmentMap, SegmentRef, build_map
from holdfast.repository.pack import RAW, StoredBlock
from holdfast.repository.page import Page, Table, decode_table, encode_page, encode_table, segment_root
from tests.memory_store import MemoryStore
from tests.repository_builders import SeededIds

PLAIN = Keys(bytes(range(32)))
SEALED = Keys(bytes(range(32)), 1, b"k" * 32)
PACK = b"p" * 32
SIZES = {PACK: 1 << 25, b"q" * 32: 1 << 20}


@pytest.fixture(params=[PLAIN, SEALED], ids=["plain", "encrypted"])
def keys(request: pytest.FixtureRequest) -> Keys:
    return request.param


def row(seed: object, pack: bytes = PACK) -> StoredBlock:
    number = int.from_bytes(hashlib.sha256(str(seed).encode()).digest()[:2], "big")
    return StoredBlock(
        hashlib.sha256(str(seed).encode()).digest(), pack, number, 40 + number, 100 + number, RAW
    )


class Chain:
    """The maps of one segment, one backup after the other."""

    def __init__(self, keys: Keys, first: int = 0) -> None:
        self.store, self.keys, self.first = MemoryStore(), keys, first
        self.ids = SeededIds("chain")
        self.ref: SegmentRef | None = None

    def backup(
        self, changed: Mapping[int, StoredBlock], removed: frozenset[int] = frozenset()
    ) -> SegmentRef | None:
        previous = SegmentMap(self.store, self.keys, self.ref, self.first)
        self.ref, content = build_map(
            previous, changed, removed, keys=self.keys, ids=self.ids, pack_bytes=SIZES
        )
        if content and self.ref:
            self.store.put_new(self.ref.key, content)
        return self.ref

    def map(self, ref: SegmentRef | None = None) -> SegmentMap:
        return SegmentMap(self.store, self.keys, ref or self.ref, self.first)


def content(segment: SegmentMap) -> dict[int, StoredBlock]:
    return dict(segment.blocks(segment.first, segment.first + SEGMENT_BLOCKS))


def test_what_was_stored_is_found(keys: Keys):
    chain = Chain(keys)
    rows = {index: row(index) for index in (0, 1, 63, 64, 700, SEGMENT_BLOCKS - 1)}
    chain.backup(rows)
    segment = chain.map()
    assert content(segment) == rows
    assert segment.block(63) == rows[63]
    assert segment.digest(700) == rows[700].digest
    assert (segment.block(62), segment.digest(62)) == (None, None)
    assert (segment.block(5000), segment.digest(5000)) == (None, None)
    assert segment.ref is not None
    assert segment.ref.blocks == 6


def test_indexes_are_those_of_the_volume(keys: Keys):
    first = 3 * SEGMENT_BLOCKS
    chain = Chain(keys, first)
    chain.backup({first + 100: row(1), first + SEGMENT_BLOCKS - 1: row(2)})
    segment = chain.map()
    assert [index for index, _ in segment.blocks(0, 1 << 40)] == [first + 100, first + SEGMENT_BLOCKS - 1]
    assert segment.digest(first + 100) == row(1).digest
    for outside in (0, first - 1, first + SEGMENT_BLOCKS):
        with pytest.raises(ValueError, match="outside the segment"):
            segment.digest(outside)


def test_a_part_of_a_segment_is_read_alone(keys: Keys):
    chain = Chain(keys)
    chain.backup({index: row(index) for index in range(0, 2000, 10)})
    assert [index for index, _ in chain.map().blocks(95, 131)] == [100, 110, 120, 130]
    assert list(chain.map().blocks(131, 131)) == []
    assert list(chain.map().blocks(200, 100)) == []


def test_an_empty_map_has_no_blocks_and_no_object(keys: Keys):
    chain = Chain(keys)
    assert chain.backup({}) is None
    segment = SegmentMap(chain.store, keys, None)
    assert content(segment) == {}
    assert segment.digest(5) is None
    assert chain.store.objects == {}


def test_nothing_changed_writes_nothing_and_keeps_the_reference(keys: Keys):
    chain = Chain(keys)
    before = chain.backup({5: row(5)})
    assert chain.backup({}) is before
    assert len(chain.store.objects) == 1


def test_a_change_rewrites_its_page_and_references_the_others(keys: Keys):
    chain = Chain(keys)
    old = {index: row(index) for index in range(0, SEGMENT_BLOCKS, PAGE_BLOCKS)}
    full = chain.backup(old)
    incremental = chain.backup({128: row("new"), 130: row("more")})
    assert content(chain.map()) == {**old, 128: row("new"), 130: row("more")}
    segment = chain.map()
    assert [number for number, entry in segment.table.rows.items() if entry.source == 0] == [2]
    assert segment.table.objects == ((bytes.fromhex(full.map_id), full.size),)
    assert incremental.root != full.root
    assert content(chain.map(full)) == old


def test_removed_blocks_are_gone_and_their_page_with_the_last_of_them(keys: Keys):
    chain = Chain(keys)
    chain.backup({0: row(0), 1: row(1), 64: row(64)})
    chain.backup({}, frozenset({1, 64, 9999}))
    segment = chain.map()
    assert content(segment) == {0: row(0)}
    assert set(segment.table.rows) == {0}
    assert chain.backup({}, frozenset({0})) is None


def test_removing_what_was_never_there_changes_nothing_but_the_object(keys: Keys):
    chain = Chain(keys)
    before = chain.backup({0: row(0)})
    after = chain.backup({}, frozenset({7000}))
    assert after.root == before.root
    assert content(chain.map()) == {0: row(0)}


def test_the_root_depends_on_content_alone(keys: Keys):
    """Where blocks lie, in how many steps they came and under which keys is no content."""
    at_once, in_steps = Chain(keys), Chain(SEALED)
    one = at_once.backup({index: row(index) for index in range(200)})
    for index in range(0, 200, 50):
        moved = {
            i: row(i)._replace(pack_id=b"q" * 32, ordinal=i, offset=40 + i) for i in range(index, index + 50)
        }
        two = in_steps.backup(moved)
    assert one.root == two.root
    assert one.digest != two.digest


def test_a_map_never_refers_to_more_than_64_older_objects(keys: Keys):
    chain = Chain(keys)
    expected = {index: row(index) for index in range(0, SEGMENT_BLOCKS, PAGE_BLOCKS)}
    chain.backup(expected)
    most = 0
    for step in range(150):
        index = step * 7 % 512 * PAGE_BLOCKS
        expected[index] = row(("step", step))
        chain.backup({index: expected[index]})
        segment = chain.map()
        assert len(segment.table.objects) <= MAX_MAP_REFERENCES
        most = max(most, sum(entry.source == 0 for entry in segment.table.rows.values()))
    assert content(chain.map()) == expected
    assert most < 16, "rewriting crowded-out pages stays small"


def test_reading_a_fragmented_map_takes_one_request_per_object_at_most_twice(keys: Keys):
    chain = Chain(keys)
    chain.backup({index: row(index) for index in range(SEGMENT_BLOCKS)})
    for step in range(40):
        chain.backup({step * 800: row(("step", step))})
    chain.store.reads.clear()
    segment = chain.map()
    assert len(content(segment)) == SEGMENT_BLOCKS
    assert len(chain.store.reads) <= 2 + 2 * len(segment.table.objects)


def test_looking_up_single_blocks_reads_single_pages(keys: Keys):
    chain = Chain(keys)
    chain.backup({index: row(index) for index in range(SEGMENT_BLOCKS)})
    segment = chain.map()
    chain.store.reads.clear()
    segment.digest(5)
    segment.digest(6)
    segment.block(7)
    assert len(chain.store.reads) == 1
    assert chain.store.reads[0][1] < 4096


def test_prefetching_blocks_reads_neighbouring_pages_together(keys: Keys):
    chain = Chain(keys)
    chain.backup({index: row(index) for index in range(SEGMENT_BLOCKS)})
    segment = chain.map()
    chain.store.reads.clear()
    segment.prefetch_blocks([0, 64, 640, 30_000])
    segment.prefetch_blocks([0])
    assert len(chain.store.reads) == 2
    assert segment.digest(640) == row(640).digest
    assert len(chain.store.reads) == 2


def test_a_map_from_before_encryption_is_not_extended():
    plain = Chain(PLAIN)
    plain.backup({0: row(0)})
    with pytest.raises(ConflictError, match="before the repository was encrypted") as caught:
        build_map(plain.map(), {1: row(1)}, set(), keys=SEALED, ids=SeededIds(), pack_bytes=SIZES)
    assert "full backup" in caught.value.remedy


def test_a_block_outside_the_segment_is_refused(keys: Keys):
    with pytest.raises(ValueError, match="outside the segment"):
        Chain(keys).backup({SEGMENT_BLOCKS: row(1)})
    with pytest.raises(ValueError, match="outside the segment"):
        Chain(keys, SEGMENT_BLOCKS).backup({5: row(1)})


def test_a_reference_survives_json(keys: Keys):
    ref = Chain(keys).backup({5: row(5)})
    assert SegmentRef.from_json(ref.to_json()) == ref
    assert SegmentRef.from_json({**ref.to_json(), "later": 1}) == ref


@pytest.mark.parametrize(
    "change",
    [
        {"map_id": "xyz"},
        {"map_id": "A" * 64},
        {"digest": 5},
        {"root": ""},
        {"size": -1},
        {"size": 10},
        {"size": 1 << 32},
        {"table": "7"},
        {"blocks": SEGMENT_BLOCKS + 1},
        {"blocks": True},
        {"epoch": 256},
        {"epoch": None},
    ],
)
def test_an_impossible_reference_is_refused(change: dict[str, object]):
    ref = Chain(PLAIN).backup({5: row(5)})
    with pytest.raises(ValueError, match=r"segment reference|not an id"):
        SegmentRef.from_json({**ref.to_json(), **change})


def test_a_reference_without_a_field_is_refused():
    with pytest.raises(ValueError, match="without 'map_id'"):
        SegmentRef.from_json({})


def test_a_missing_map_object_is_damage(keys: Keys):
    chain = Chain(keys)
    first = chain.backup({0: row(0), 64: row(64)})
    chain.backup({0: row("new")})
    del chain.store.objects[first.key]
    segment = chain.map()
    assert segment.digest(0) == row("new").digest
    with pytest.raises(DamagedError, match="missing") as caught:
        segment.digest(64)
    assert caught.value.resource == first.key


@pytest.mark.parametrize(
    "change",
    [
        {"digest": "0" * 64},
        {"root": "0" * 64},
        {"blocks": 7},
        {"table": 60},
        {"table": 1 << 20, "size": 1 << 21},
    ],
)
def test_a_reference_that_does_not_match_the_table_is_damage(keys: Keys, change: dict[str, object]):
    chain = Chain(keys)
    ref = chain.backup({0: row(0), 64: row(64)})
    wrong = SegmentRef.from_json({**ref.to_json(), **change})
    with pytest.raises(DamagedError) as caught:
        chain.map(wrong)
    assert caught.value.resource == ref.key


def hostile_map(table: bytes, body: bytes = b"", root: str | None = None, blocks: int = 1) -> SegmentMap:
    """A plain map whose digests are all right and whose content is not."""
    store, map_id = MemoryStore(), b"m" * 32
    cipher = PLAIN.cipher(2, map_id)
    content = cipher.header + body + table
    try:
        found = segment_root(decode_table(table).rows).hex()
    except ValueError:
        found = "0" * 64
    ref = SegmentRef(
        map_id.hex(), cipher.digest(0xFFFFFFFF, table).hex(), root or found, len(content), len(table), blocks
    )
    store.put_new(ref.key, content)
    return SegmentMap(store, PLAIN, ref)


def hostile_page(page: bytes, blocks: int = 1) -> SegmentMap:
    from holdfast.repository.page import PageRow, page_digest

    content_digest = hashlib.sha256(
        b"\x01" + page[: 8 + 32 * int.from_bytes(page[:8], "big").bit_count()]
    ).digest()
    entry = PageRow(0, blocks, 40, len(page), content_digest, page_digest(page))
    return hostile_map(encode_table(Table((), {0: entry})), page, blocks=blocks)


def test_a_table_of_a_hostile_writer_is_refused():
    page = encode_page({0: row(0)}, SIZES)
    good = hostile_page(page)
    assert good.digest(0) == row(0).digest
    entry = good.table.rows[0]
    tables = {
        "no bytes": b"",
        "too many references": bytes([65]) + bytes(65 * 36 + 64),
        "no room for its rows": encode_table(Table((), {0: entry}))[:-1],
        "a source that is not listed": encode_table(Table((), {0: entry._replace(source=1)})),
        "a page outside the object": encode_table(Table((), {0: entry._replace(offset=1 << 20)})),
        "a page in the header": encode_table(Table((), {0: entry._replace(offset=0)})),
        "a page without end": encode_table(Table((), {0: entry._replace(length=1 << 30)})),
    }
    for name, table in tables.items():
        with pytest.raises(DamagedError):
            hostile_map(table, page)
        assert name


def test_a_table_without_pages_is_an_empty_segment():
    segment = hostile_map(encode_table(Table((), {})), blocks=0)
    assert content(segment) == {}
    assert segment.packs(0) == {}


def test_a_page_of_a_hostile_writer_is_refused():
    page = encode_page({0: row(0)}, SIZES)
    locator = len(page) - 14
    pages = {
        "too short": b"\0" * 8,
        "no blocks": bytes(9),
        "bitmap beyond its end": b"\xff" * 8 + bytes(20),
        "longer than its rows": page + b"\0",
        "a pack that is not listed": page[:locator] + b"\x01" + page[locator + 1 :],
        "an unknown encoding": page[:-1] + b"\x09",
        "a block without bytes": page[:-5] + bytes(4) + page[-1:],
        "a block too long": page[:-5] + b"\x7f\xff\xff\xff" + page[-1:],
        "a block before the first": page[:-9] + bytes(4) + page[-5:],
        "a block beyond the pack": page[:-9] + b"\xff\xff\xff\xf0" + page[-5:],
    }
    for name, hostile in pages.items():
        with pytest.raises(DamagedError) as caught:
            hostile_page(hostile).block(0)
        with pytest.raises(DamagedError):
            list(hostile_page(hostile).blocks(0, 64))
        assert caught.value.resource.startswith("maps/"), name


def test_a_page_with_another_number_of_blocks_than_its_table_is_damage():
    with pytest.raises(DamagedError, match="other blocks"):
        hostile_page(encode_page({0: row(0)}, SIZES), blocks=2).block(0)


def test_a_page_tells_its_slots_and_packs():
    page = Page(encode_page({3: row(3), 60: row(60, b"q" * 32)}, SIZES))
    assert list(page.slots()) == [3, 60]
    assert page.packs() == SIZES
    assert (page.block(4), page.digest(4), page.digest(60)) == (None, None, row(60).digest)
