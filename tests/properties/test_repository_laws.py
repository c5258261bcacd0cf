"""Laws of the repository format, over examples nobody thought of."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.errors import DamagedError
from holdfast.model.blocks import SEGMENT_BLOCKS
from holdfast.repository.blocks import coalesce
from holdfast.repository.envelope import open_envelope, seal_envelope
from holdfast.repository.header import decode_header, open_document, seal_document
from holdfast.repository.keys import Keys
from holdfast.repository.layout import MAX_MAP_REFERENCES, ObjectKind, object_header
from holdfast.repository.map import SegmentMap, SegmentRef, build_map
from holdfast.repository.pack import RAW, ZSTD, StoredBlock, read_directory
from holdfast.repository.page import (
    MAX_PAGE_BYTES,
    MAX_TABLE_BYTES,
    Page,
    PageRow,
    Table,
    decode_table,
    encode_page,
    encode_table,
)
from tests.memory_store import MemoryStore
from tests.repository_builders import SeededIds

PLAIN = Keys(bytes(range(32)))
SEALED = Keys(bytes(range(32)), 1, b"k" * 32)
KEYS = st.sampled_from([PLAIN, SEALED])
PACK_BYTES = 1 << 25

indexes = st.one_of(st.integers(0, 300), st.integers(0, SEGMENT_BLOCKS - 1), st.just(SEGMENT_BLOCKS - 1))
rows = st.builds(
    lambda seed, pack, place, length: StoredBlock(
        hashlib.sha256(bytes([seed])).digest(), bytes([pack]) * 32, place, 40 + place, length, RAW
    ),
    st.integers(0, 255),
    st.integers(1, 80),
    st.integers(0, 1 << 24),
    st.integers(1, 524_304),
)
steps = st.lists(
    st.tuples(st.dictionaries(indexes, rows, max_size=12), st.frozensets(indexes, max_size=6)), max_size=12
)
PACKS = {bytes([number]) * 32: PACK_BYTES for number in range(1, 81)}
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@given(KEYS, steps, st.integers(0, 3))
@settings(max_examples=60)
def test_a_chain_of_maps_is_the_dictionary_it_stands_for(
    keys: Keys, history: list[tuple[dict[int, StoredBlock], frozenset[int]]], segment_index: int
):
    first = segment_index * SEGMENT_BLOCKS
    store, ids = MemoryStore(), SeededIds()
    expected: dict[int, StoredBlock] = {}
    ref: SegmentRef | None = None
    for new, gone in history:
        changed = {first + index: row for index, row in new.items()}
        removed = frozenset(first + index for index in gone) - changed.keys()
        previous = SegmentMap(store, keys, ref, first)
        ref, content = build_map(previous, changed, removed, keys=keys, ids=ids, pack_bytes=PACKS)
        if ref and content:
            store.put_new(ref.key, content)
        expected = {index: row for index, row in {**expected, **changed}.items() if index not in removed}
        segment = SegmentMap(store, keys, ref, first)
        assert dict(segment.blocks(first, first + SEGMENT_BLOCKS)) == expected
        assert (ref.blocks if ref else 0) == len(expected)
        assert len(segment.table.objects) <= MAX_MAP_REFERENCES
        assert all(
            segment.digest(first + index) == row.digest
            for index, row in new.items()
            if first + index in expected
        )
    at_once, _ = build_map(
        SegmentMap(store, keys, None, first), expected, frozenset(), keys=keys, ids=ids, pack_bytes=PACKS
    )
    assert (at_once and at_once.root) == (ref and ref.root)


@given(st.dictionaries(st.integers(0, 63), rows, min_size=1))
def test_a_page_comes_back(blocks: dict[int, StoredBlock]):
    encoded = encode_page(blocks, PACKS)
    page = Page(encoded)
    assert len(encoded) <= MAX_PAGE_BYTES
    assert {slot: page.block(slot) for slot in page.slots()} == blocks
    assert all(page.digest(slot) == block.digest for slot, block in blocks.items())
    assert (
        encode_page({slot: block for slot in page.slots() if (block := page.block(slot))}, page.packs())
        == encoded
    )


page_rows = st.builds(
    PageRow,
    st.integers(0, 5),
    st.integers(1, 64),
    st.integers(40, 1 << 31),
    st.integers(55, 6000),
    st.binary(min_size=32, max_size=32),
    st.binary(min_size=32, max_size=32),
)


@given(st.dictionaries(st.integers(0, 511), page_rows, max_size=40), st.integers(5, 64))
def test_a_table_comes_back(entries: dict[int, PageRow], references: int):
    objects = tuple((bytes([number]) * 32, number) for number in range(references))
    table = Table(objects, entries)
    assert decode_table(encode_table(table)) == table
    assert len(encode_table(table)) <= MAX_TABLE_BYTES


@given(
    st.dictionaries(st.integers(0, 10_000), rows, max_size=40),
    st.integers(0, 1 << 20),
    st.integers(1 << 19, 1 << 23),
)
def test_every_block_lies_in_exactly_one_request(blocks: dict[int, StoredBlock], gap: int, limit: int):
    spans = list(coalesce(blocks.items(), gap=gap, limit=limit))
    assert sorted(index for span in spans for index, _ in span.blocks) == sorted(blocks)
    for span in spans:
        assert span.length <= max(limit, *(block.length for _, block in span.blocks))
        for _, block in span.blocks:
            assert block.pack_id == span.pack_id
            assert span.offset <= block.offset
            assert block.offset + block.length <= span.offset + span.length


@given(KEYS, json_values, st.sampled_from(list(ObjectKind)), st.text("abc/", min_size=1))
def test_an_envelope_opens_to_what_was_sealed(keys: Keys, document: Any, kind: ObjectKind, key: str):
    content = seal_envelope(keys, kind, key, document, SeededIds())
    assert open_envelope(keys, kind, key, content) == document
    with pytest.raises(DamagedError):
        open_envelope(keys, kind, key + "x", content)


@given(st.dictionaries(st.text(max_size=8).filter(lambda name: name not in ("digest", "mac")), json_values))
def test_a_sealed_document_opens_to_what_was_sealed(document: dict[str, Any]):
    assert open_document(seal_document(document), "key") == document


@given(st.binary(max_size=2000))
def test_arbitrary_bytes_are_refused_and_nothing_else_happens(content: bytes):
    """A parser raises its one error; it neither crashes nor believes."""
    for parse in (Page, decode_table):
        try:
            parse(content)
        except ValueError:
            continue
    header = object_header(ObjectKind.PACK, 0, b"i" * 32)
    for keys in (PLAIN, SEALED):
        for bytes_ in (content, header + content):
            with pytest.raises(DamagedError):
                read_directory(keys, b"i" * 32, bytes_)
        salted = object_header(ObjectKind.POINT, keys.epoch, b"s" * 32) + content
        for bytes_ in (content, salted):
            with pytest.raises(DamagedError):
                open_envelope(keys, ObjectKind.POINT, "points/a/b", bytes_)
    with pytest.raises(DamagedError):
        decode_header(content)


@given(st.dictionaries(st.sampled_from([*SegmentRef.__dataclass_fields__, "x"]), json_values))
def test_an_arbitrary_reference_is_refused_or_possible(value: dict[str, Any]):
    try:
        ref = SegmentRef.from_json(value)
    except ValueError:
        return
    assert SegmentRef.from_json(ref.to_json()) == ref


@given(st.lists(st.sampled_from([RAW, ZSTD]), min_size=1, max_size=8), KEYS, st.data())
@settings(max_examples=30)
def test_no_two_parts_of_two_packs_share_key_and_nonce(encodings: list[int], keys: Keys, data: st.DataObject):
    """The same plaintext under the same part number of another id gives another sealed part."""
    one, two = (data.draw(st.binary(min_size=32, max_size=32)) for _ in range(2))
    for part, encoding in enumerate(encodings):
        sealed = [
            keys.cipher(ObjectKind.PACK, pack).seal(part, bytes([encoding]) * 32) for pack in (one, two)
        ]
        assert (sealed[0] == sealed[1]) == (one == two or not keys.secret)
