"""The vectors of docs/repository-format.md hold for the code."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from holdfast.repository.envelope import open_envelope
from holdfast.repository.header import decode_header, encode_header, verify_mac
from holdfast.repository.keys import LAST_PART, Keys, derive
from holdfast.repository.layout import ObjectKind
from holdfast.repository.map import SegmentRef
from holdfast.repository.pack import RAW, ZSTD, StoredBlock
from holdfast.repository.page import (
    PageRow,
    Table,
    content_digest,
    decode_table,
    encode_page,
    encode_table,
    page_digest,
    point_root,
    segment_root,
    volume_root,
)
from tests.repository_builders import password

pytestmark = pytest.mark.vectors

DOCUMENT = Path(__file__).parents[3] / "docs" / "repository-format.md"
VECTORS: dict[str, Any] = json.loads(DOCUMENT.read_text().rpartition("```json\n")[2].partition("```")[0])

SECRET = bytes.fromhex(VECTORS["inputs"]["repository_key"])
REPOSITORY_ID = bytes.fromhex(VECTORS["inputs"]["repository_id"])
OBJECT_ID = bytes.fromhex(VECTORS["inputs"]["object_id"])
SEALED = Keys(REPOSITORY_ID, 1, SECRET)
PLAIN = Keys(REPOSITORY_ID)


def test_the_key_of_an_object():
    vector = VECTORS["object_key"]
    header = SEALED.cipher(ObjectKind.PACK, OBJECT_ID).header
    assert header.hex() == vector["header"]
    assert derive(SECRET, REPOSITORY_ID, header).hex() == vector["key"]


@pytest.mark.parametrize("name", ["sealed_part", "sealed_last_part"])
def test_sealing_a_part(name: str):
    vector = VECTORS[name]
    cipher, part = SEALED.cipher(ObjectKind.PACK, OBJECT_ID), vector.get("part", LAST_PART)
    data, sealed = bytes.fromhex(vector["data"]), bytes.fromhex(vector["sealed"])
    into, back = bytearray(len(sealed)), bytearray(len(data))
    cipher.seal_into(part, data, memoryview(into))
    assert cipher.seal(part, data) == bytes(into) == sealed
    assert cipher.open(part, sealed) == bytes(cipher.open_into(part, sealed, back)) == data


def test_the_bound_digest_of_a_plain_part():
    vector = VECTORS["bound_digest_plain"]
    cipher = PLAIN.cipher(ObjectKind.PACK, OBJECT_ID)
    assert cipher.header.hex() == vector["header"]
    assert cipher.digest(vector["part"], bytes.fromhex(vector["data"])).hex() == vector["digest"]


def page() -> bytes:
    one, two = (hashlib.sha256(text).digest() for text in (b"one", b"two"))
    blocks = {
        0: StoredBlock(one, OBJECT_ID, 0, 40, 1000, ZSTD),
        63: StoredBlock(two, OBJECT_ID, 1, 1040, 524304, RAW),
    }
    return encode_page(blocks, {OBJECT_ID: 600_000})


def table() -> Table:
    row = PageRow(0, 2, 40, len(page()) + 16, content_digest(page()), page_digest(page()))
    return Table((), {3: row})


def test_a_page():
    vector = VECTORS["page"]
    assert page().hex() == vector["page"]
    assert page_digest(page()).hex() == vector["page_digest"]
    assert content_digest(page()).hex() == vector["content_digest"]


def test_a_page_table():
    vector = VECTORS["table"]
    encoded = bytes.fromhex(vector["table"])
    assert encode_table(table()) == encoded
    assert decode_table(encoded) == table()
    assert (
        SEALED.cipher(ObjectKind.MAP, OBJECT_ID).digest(LAST_PART, encoded).hex()
        == vector["reference_digest"]
    )
    assert segment_root(table().rows).hex() == vector["segment_root"]


def test_the_roots_of_volume_and_point():
    vector = VECTORS["roots"]
    volume = volume_root(vector["size_bytes"], [segment_root(table().rows)])
    assert volume.hex() == vector["volume_root"]
    assert point_root([(vector["volume_id"], volume)]).hex() == vector["point_root"]


def test_a_key_wrapped_by_a_password():
    vector = VECTORS["password"]
    assert password(vector["password"]).unwrap(vector["key"], REPOSITORY_ID.hex()) == SECRET


def test_repository_json():
    content = VECTORS["repository_json"].encode()
    header, mac = decode_header(content)
    verify_mac(header, mac, SECRET)
    assert encode_header(header, SECRET) == content
    assert header.id == REPOSITORY_ID


@pytest.mark.parametrize("name, keys", [("plain", PLAIN), ("encrypted", SEALED)])
def test_an_envelope_opens_at_its_key(name: str, keys: Keys):
    vector = VECTORS["envelope"]
    content = bytes.fromhex(vector[name])
    assert open_envelope(keys, ObjectKind.CANDIDATE, vector["key"], content) == vector["document"]


def test_the_document_names_every_member_of_a_segment_reference():
    names = SegmentRef.__dataclass_fields__
    assert [name for name in names if f"| `{name}` |" not in DOCUMENT.read_text()] == []
