"""Bytes of a segment map's pages and of its page table.

A page says for 64 blocks what they contain (bitmap and digests) and where that lies (packs and locators).
Content digests cover the first half and make the Merkle root, which stays the same when packs are rewritten;
page digests bind every byte.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from holdfast.model.blocks import DIGEST_SIZE, SEGMENT_BLOCKS
from holdfast.repository.layout import HEADER_SIZE, ID_SIZE, MAX_MAP_REFERENCES, PAGE_BLOCKS
from holdfast.repository.pack import MAX_BLOCK_BYTES, RAW, ZSTD, StoredBlock

SEGMENT_PAGES: Final = SEGMENT_BLOCKS // PAGE_BLOCKS
ABSENT: Final = bytes(DIGEST_SIZE)
"""Stands for a page without blocks, or a segment without pages, in the Merkle tree."""

_BITMAP = struct.Struct(">Q")
_PACK = struct.Struct(f">{ID_SIZE}sI")
_LOCATOR = struct.Struct(">BIIIB")
_OBJECT = struct.Struct(f">{ID_SIZE}sI")
_TABLE_ROW = struct.Struct(f">BBII{DIGEST_SIZE}s{DIGEST_SIZE}s")
_PRESENT = SEGMENT_PAGES // 8
MAX_PAGE_BYTES: Final = 9 + PAGE_BLOCKS * (DIGEST_SIZE + _PACK.size + _LOCATOR.size)
MAX_TABLE_BYTES: Final = 1 + MAX_MAP_REFERENCES * _OBJECT.size + _PRESENT + SEGMENT_PAGES * _TABLE_ROW.size


class PageRow(NamedTuple):
    """One page in the table. ``source`` 0 is this object, k the k-th referenced; sizes are sealed bytes."""

    source: int
    blocks: int
    offset: int
    length: int
    content_digest: bytes
    page_digest: bytes


class Table(NamedTuple):
    """The page table of a segment: older map objects (id -> size in bytes) and the rows by page number."""

    objects: tuple[tuple[bytes, int], ...]
    rows: Mapping[int, PageRow]


def _hash(tag: int, *parts: bytes | memoryview) -> bytes:
    """SHA-256 with a tag byte, so that no level of the tree can pass for another."""
    digest = hashlib.sha256(bytes((tag,)))
    for part in parts:
        digest.update(part)
    return digest.digest()


def segment_root(rows: Mapping[int, PageRow]) -> bytes:
    """Merkle root of a segment: over the content digests of its 512 pages; ABSENT when it has no blocks."""
    if not rows:
        return ABSENT
    return _hash(2, *(rows[page].content_digest if page in rows else ABSENT for page in range(SEGMENT_PAGES)))


def volume_root(size_bytes: int, segment_roots: list[bytes]) -> bytes:
    """Merkle root of a volume: its size and the roots of its segments in order."""
    return _hash(3, size_bytes.to_bytes(8, "big"), *segment_roots)


def point_root(volumes: list[tuple[str, bytes]]) -> bytes:
    """Merkle root of a restore point: (volume id, volume root) in the order of the manifest."""
    parts = []
    for volume_id, root in volumes:
        name = volume_id.encode()
        parts += [len(name).to_bytes(2, "big"), name, root]
    return _hash(4, *parts)


def page_digest(page: bytes | memoryview) -> bytes:
    """Digest of every byte of a page."""
    return _hash(0, page)


def content_digest(page: bytes | memoryview) -> bytes:
    """Digest of the first half of a page: which blocks it has and what they contain."""
    view = memoryview(page)
    return _hash(1, view[: 8 + DIGEST_SIZE * _BITMAP.unpack(view[:8])[0].bit_count()])


def encode_page(blocks: Mapping[int, StoredBlock], pack_bytes: Mapping[bytes, int]) -> bytes:
    """The bytes of a page with ``blocks`` (slot 0..63 -> block) in packs of ``pack_bytes`` bytes."""
    slots = sorted(blocks)
    packs = sorted({blocks[slot].pack_id for slot in slots})
    number = {pack_id: index for index, pack_id in enumerate(packs)}
    parts = [_BITMAP.pack(sum(1 << slot for slot in slots))]
    parts += [blocks[slot].digest for slot in slots]
    parts.append(bytes((len(packs),)))
    parts += [_PACK.pack(pack_id, pack_bytes[pack_id]) for pack_id in packs]
    for slot in slots:
        _, pack_id, ordinal, offset, length, encoding = blocks[slot]
        parts.append(_LOCATOR.pack(number[pack_id], ordinal, offset, length, encoding))
    return b"".join(parts)


class Page:
    """A page that is read in place: nothing is decoded before it is asked for."""

    __slots__ = ("_bitmap", "_data", "_locators", "_packs", "count")

    def __init__(self, data: bytes) -> None:
        """Raises ValueError when ``data`` is not a page."""
        if len(data) < 9:
            raise ValueError("page too short")
        self._data = data
        self._bitmap: int = _BITMAP.unpack_from(data)[0]
        self.count = self._bitmap.bit_count()
        self._packs = 8 + DIGEST_SIZE * self.count
        if len(data) <= self._packs:
            raise ValueError("page too short for its bitmap")
        self._locators = self._packs + 1 + _PACK.size * data[self._packs]
        if not self.count or len(data) != self._locators + _LOCATOR.size * self.count:
            raise ValueError("page has another length than its rows")

    def slots(self) -> Iterator[int]:
        """The slots (0..63) that hold a block, ascending."""
        return (slot for slot in range(PAGE_BLOCKS) if self._bitmap >> slot & 1)

    def digest(self, slot: int) -> bytes | None:
        """The digest of the block in ``slot``, or None."""
        if not self._bitmap >> slot & 1:
            return None
        start = 8 + DIGEST_SIZE * self._rank(slot)
        return self._data[start : start + DIGEST_SIZE]

    def block(self, slot: int) -> StoredBlock | None:
        """What is stored for ``slot``, or None. Raises ValueError when it points nowhere."""
        if not self._bitmap >> slot & 1:
            return None
        return self._block(slot)

    def blocks(self) -> Iterator[tuple[int, StoredBlock]]:
        """Slot and block of all that it holds, ascending. Raises ValueError when one points nowhere."""
        return ((slot, self._block(slot)) for slot in self.slots())

    def packs(self) -> dict[bytes, int]:
        """The packs that this page refers to, and their sizes in bytes."""
        return dict(_PACK.iter_unpack(self._data[self._packs + 1 : self._locators]))

    def _block(self, slot: int) -> StoredBlock:
        rank = self._rank(slot)
        pack, ordinal, offset, length, encoding = _LOCATOR.unpack_from(
            self._data, self._locators + _LOCATOR.size * rank
        )
        if pack >= self._data[self._packs] or encoding not in (RAW, ZSTD):
            raise ValueError("a row points nowhere")
        pack_id, size = _PACK.unpack_from(self._data, self._packs + 1 + _PACK.size * pack)
        if not 0 < length <= MAX_BLOCK_BYTES or not HEADER_SIZE <= offset <= size - length:
            raise ValueError("a row points outside its pack")
        start = 8 + DIGEST_SIZE * rank
        return StoredBlock(
            self._data[start : start + DIGEST_SIZE], pack_id, ordinal, offset, length, encoding
        )

    def _rank(self, slot: int) -> int:
        return (self._bitmap & (1 << slot) - 1).bit_count()


def encode_table(table: Table) -> bytes:
    """The bytes of a page table."""
    parts = [bytes((len(table.objects),)), *(_OBJECT.pack(*item) for item in table.objects)]
    parts.append(sum(1 << page for page in table.rows).to_bytes(_PRESENT, "big"))
    parts += [_TABLE_ROW.pack(*table.rows[page]) for page in sorted(table.rows)]
    return b"".join(parts)


def decode_table(data: bytes) -> Table:
    """The inverse of :func:`encode_table`. Raises ValueError."""
    objects_end = 1 + _OBJECT.size * (data[0] if data else 0)
    rows_start = objects_end + _PRESENT
    if len(data) < rows_start or data[0] > MAX_MAP_REFERENCES:
        raise ValueError("page table too short, or with too many references")
    objects = tuple(_OBJECT.iter_unpack(data[1:objects_end]))
    present = int.from_bytes(data[objects_end:rows_start], "big")
    if len(data) != rows_start + _TABLE_ROW.size * present.bit_count():
        raise ValueError("page table has another length than its rows")
    rows: dict[int, PageRow] = {}
    for page in range(SEGMENT_PAGES):
        if present >> page & 1:
            row = PageRow(*_TABLE_ROW.unpack_from(data, rows_start + _TABLE_ROW.size * len(rows)))
            if row.source > len(objects):
                raise ValueError("a row points nowhere")
            rows[page] = row
    return Table(objects, rows)
