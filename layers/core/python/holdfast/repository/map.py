"""Segment maps: for 32,768 blocks of a volume, what each contains and where it lies.

A map object holds the pages that one backup wrote and a table that refers to all pages of the segment,
wherever they are. It refers to at most 64 older objects and never to another table, so reading a map is two
rounds of requests, whatever its history.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from holdfast.errors import ConflictError, DamagedError, NotFoundError
from holdfast.model.blocks import SEGMENT_BLOCKS
from holdfast.ports import IdSource, ObjectStore
from holdfast.repository.keys import LAST_PART, Keys, ObjectCipher
from holdfast.repository.layout import (
    HEADER_SIZE,
    MAX_MAP_REFERENCES,
    PAGE_BLOCKS,
    ObjectKind,
    map_key,
    parse_id,
)
from holdfast.repository.pack import StoredBlock
from holdfast.repository.page import (
    MAX_PAGE_BYTES,
    MAX_TABLE_BYTES,
    SEGMENT_PAGES,
    Page,
    PageRow,
    Table,
    content_digest,
    decode_table,
    encode_page,
    encode_table,
    page_digest,
    segment_root,
)

Place = tuple[bytes, int, PageRow]
"""Object id, page number, and the row of the table with source 0."""

READ_GAP: Final = 64 << 10
"""Pages of one map object that are closer than this many bytes are read in one request."""


@dataclass(frozen=True, slots=True)
class SegmentRef:
    """All a manifest knows of a segment map, and all that is needed to read and verify it.

    ``digest`` binds the page table, ``root`` is the Merkle root of the content; both hex. ``size`` is the
    bytes of the map object, ``table`` the sealed bytes of the table at its end, ``blocks`` the number of
    allocated blocks, ``epoch`` 0 in a plain repository.
    """

    map_id: str
    digest: str
    root: str
    size: int
    table: int
    blocks: int
    epoch: int = 0

    def to_json(self) -> dict[str, str | int]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> SegmentRef:
        """Raises ValueError when a field is missing or is not what the format allows."""
        try:
            ref = cls(**{name: value[name] for name in cls.__dataclass_fields__})
        except KeyError as error:
            raise ValueError(f"segment reference without {error}") from None
        for text in (ref.map_id, ref.digest, ref.root):
            parse_id(str(text))
        numbers = (ref.size, ref.table, ref.blocks, ref.epoch)
        if not all(type(number) is int and number >= 0 for number in numbers):
            raise ValueError("segment reference with a number below 0")
        if (
            ref.blocks > SEGMENT_BLOCKS
            or not HEADER_SIZE + ref.table <= ref.size < 1 << 32
            or ref.epoch > 255
        ):
            raise ValueError("segment reference with an impossible size")
        return ref

    @property
    def key(self) -> str:
        return map_key(bytes.fromhex(self.map_id))


class SegmentMap:
    """A readable segment map. ``first`` is the volume's block index of its slot 0.

    Pages are read when they are asked for and kept; a whole map is at most 2.7 MB. Safe for many threads (two
    threads may read the same page twice).
    """

    def __init__(self, store: ObjectStore, keys: Keys, ref: SegmentRef | None, first: int = 0) -> None:
        """Reads the table. Raises DamagedError. Without ``ref`` the map is empty."""
        self._store = store
        self._keys = keys
        self.ref = ref
        self.first = first
        self.table = _read_table(store, keys, ref) if ref else Table((), {})
        own = (bytes.fromhex(ref.map_id), ref.size) if ref else (b"", 0)
        self.objects = (own, *self.table.objects)
        self._ciphers: dict[int, ObjectCipher] = {}
        self._pages: dict[int, Page] = {}

    def digest(self, index: int) -> bytes | None:
        """SHA-256 of block ``index`` of the volume, or None when the block is not allocated."""
        page = self.page(self._page_number(index))
        return page.digest((index - self.first) % PAGE_BLOCKS) if page else None

    def block(self, index: int) -> StoredBlock | None:
        """Where block ``index`` of the volume lies, or None when it is not allocated."""
        number = self._page_number(index)
        page = self.page(number)
        try:
            return page.block((index - self.first) % PAGE_BLOCKS) if page else None
        except ValueError as error:
            raise self._damaged(number, error) from None

    def blocks(self, start: int, end: int) -> Iterator[tuple[int, StoredBlock]]:
        """Allocated blocks with index in ``[start, end)`` of the volume, ascending."""
        low, high = max(start - self.first, 0), min(end - self.first, SEGMENT_BLOCKS)
        if low < high:
            self.prefetch(range(low // PAGE_BLOCKS, -(-high // PAGE_BLOCKS)))
        for number in range(low // PAGE_BLOCKS, -(-high // PAGE_BLOCKS)):
            for index, block in self.page_blocks(number):
                if start <= index < end:
                    yield index, block

    def page_blocks(self, number: int) -> Iterator[tuple[int, StoredBlock]]:
        """Allocated blocks of page ``number``, ascending, by block index of the volume."""
        page = self.page(number)
        if page is None:
            return
        first = self.first + number * PAGE_BLOCKS
        try:
            for slot, block in page.blocks():
                yield first + slot, block
        except ValueError as error:
            raise self._damaged(number, error) from None

    def page(self, number: int) -> Page | None:
        """Page ``number`` (0..511), or None when none of its blocks is allocated."""
        if number not in self.table.rows:
            return None
        if number not in self._pages:
            self.prefetch((number,))
        return self._pages[number]

    def packs(self, number: int) -> dict[bytes, int]:
        """The packs that page ``number`` refers to, with their sizes in bytes."""
        page = self.page(number)
        return page.packs() if page else {}

    def place(self, number: int) -> Place:
        """Where page ``number`` lies and what it must be: equal when two maps share it."""
        row = self.table.rows[number]
        return self.objects[row.source][0], number, row._replace(source=0)

    def prefetch(self, numbers: range | tuple[int, ...] | set[int]) -> None:
        """Read the given pages with few requests: neighbours inside an object come together."""
        rows = self.table.rows
        wanted = sorted(
            (rows[number].source, rows[number].offset, number)
            for number in numbers
            if number in rows and number not in self._pages
        )
        group: list[int] = []
        for _, offset, number in wanted:
            if group:
                last = rows[group[-1]]
                if rows[number].source != last.source or offset - last.offset - last.length > READ_GAP:
                    self._read(group)
                    group = []
            group.append(number)
        if group:
            self._read(group)

    def prefetch_blocks(self, indexes: list[int]) -> None:
        """Read the pages of the given blocks of the volume."""
        self.prefetch({(index - self.first) // PAGE_BLOCKS for index in indexes})

    def _page_number(self, index: int) -> int:
        if not 0 <= index - self.first < SEGMENT_BLOCKS:
            raise ValueError(f"block {index} is outside the segment that starts at {self.first}")
        return (index - self.first) // PAGE_BLOCKS

    def _read(self, group: list[int]) -> None:
        first, last = self.table.rows[group[0]], self.table.rows[group[-1]]
        key = map_key(self.objects[first.source][0])
        content = memoryview(
            read_range(self._store, key, first.offset, last.offset + last.length - first.offset)
        )
        for number in group:
            row = self.table.rows[number]
            start = row.offset - first.offset
            try:
                self._pages[number] = self._open(number, row, content[start : start + row.length])
            except ValueError as error:
                raise self._damaged(number, error) from None

    def _open(self, number: int, row: PageRow, sealed: memoryview) -> Page:
        cipher = self._ciphers.get(row.source)
        if cipher is None:
            cipher = self._keys.cipher(ObjectKind.MAP, self.objects[row.source][0])
            self._ciphers[row.source] = cipher
        plain = cipher.open(number, sealed)
        if page_digest(plain) != row.page_digest:
            raise ValueError("it does not match its digest")
        page = Page(plain)
        if content_digest(plain) != row.content_digest or page.count != row.blocks:
            raise ValueError("it has other blocks than the table says")
        return page

    def _damaged(self, number: int, error: ValueError) -> DamagedError:
        key = map_key(self.objects[self.table.rows[number].source][0])
        return DamagedError(f"Page {number} of {key} is damaged: {error}.", resource=key)


def build_map(
    previous: SegmentMap,
    changed: Mapping[int, StoredBlock],
    removed: frozenset[int] | set[int],
    *,
    keys: Keys,
    ids: IdSource,
    pack_bytes: Mapping[bytes, int],
) -> tuple[SegmentRef | None, bytes]:
    """The map after a backup, as (reference, bytes of the new map object).

    ``changed`` and ``removed`` are block indexes of the volume inside the segment of ``previous``;
    ``pack_bytes`` has the sizes of the packs of ``changed`` (``PackWriter.sealed``). The reference equals
    ``previous.ref``, with no bytes, when nothing changed; it is None, with no bytes, when no block is left.
    Raises ConflictError when ``previous`` was written before the repository was encrypted.
    """
    if not changed and not removed:
        return previous.ref, b""
    if previous.ref is not None and previous.ref.epoch != keys.epoch:
        raise ConflictError(
            "The previous map was written before the repository was encrypted.",
            resource=previous.ref.key,
            remedy="Run a full backup.",
        )
    touched = _touched_pages(previous, changed, removed)
    kept = {number: row for number, row in previous.table.rows.items() if number not in touched}
    for source in _crowded_out(kept):
        for number in [number for number, row in kept.items() if row.source == source]:
            touched.setdefault(number, {})
            del kept[number]
    previous.prefetch(set(touched))
    return _write_map(previous, touched, kept, removed, keys=keys, ids=ids, pack_bytes=pack_bytes)


def _touched_pages(
    previous: SegmentMap, changed: Mapping[int, StoredBlock], removed: frozenset[int] | set[int]
) -> dict[int, dict[int, StoredBlock]]:
    """New rows by page and slot; a page that only loses blocks has none."""
    touched: dict[int, dict[int, StoredBlock]] = {}
    for index, block in changed.items():
        number, slot = divmod(index - previous.first, PAGE_BLOCKS)
        touched.setdefault(number, {})[slot] = block
    for index in removed:
        number = (index - previous.first) // PAGE_BLOCKS
        if number in previous.table.rows:
            touched.setdefault(number, {})
    if touched and not 0 <= min(touched) <= max(touched) < SEGMENT_PAGES:
        raise ValueError("a block lies outside the segment")
    return touched


def _crowded_out(kept: Mapping[int, PageRow]) -> list[int]:
    """The sources with the fewest live pages beyond the 64 that a table may refer to."""
    live = Counter(row.source for row in kept.values())
    by_need = sorted(live, key=lambda source: (-live[source], source))
    return by_need[MAX_MAP_REFERENCES:]


def _write_map(
    previous: SegmentMap,
    touched: Mapping[int, Mapping[int, StoredBlock]],
    kept: Mapping[int, PageRow],
    removed: frozenset[int] | set[int],
    *,
    keys: Keys,
    ids: IdSource,
    pack_bytes: Mapping[bytes, int],
) -> tuple[SegmentRef | None, bytes]:
    map_id = ids.random_bytes(32)
    cipher = keys.cipher(ObjectKind.MAP, map_id)
    sources = sorted({row.source for row in kept.values()})
    number_of = {source: number for number, source in enumerate(sources, 1)}
    rows = {number: row._replace(source=number_of[row.source]) for number, row in kept.items()}
    parts = [cipher.header]
    offset = HEADER_SIZE
    for number in sorted(touched):
        plain = _merge_page(previous, number, touched[number], removed, pack_bytes)
        if plain is None:
            continue
        sealed = cipher.seal(number, plain)
        count = Page(plain).count
        rows[number] = PageRow(0, count, offset, len(sealed), content_digest(plain), page_digest(plain))
        parts.append(sealed)
        offset += len(sealed)
    if not rows:
        return None, b""
    table = encode_table(Table(tuple(previous.objects[source] for source in sources), rows))
    sealed_table = cipher.seal(LAST_PART, table)
    parts.append(sealed_table)
    content = b"".join(parts)
    ref = SegmentRef(
        map_id=map_id.hex(),
        digest=cipher.digest(LAST_PART, table).hex(),
        root=segment_root(rows).hex(),
        size=len(content),
        table=len(sealed_table),
        blocks=sum(row.blocks for row in rows.values()),
        epoch=keys.epoch,
    )
    return ref, content


def _merge_page(
    previous: SegmentMap,
    number: int,
    new: Mapping[int, StoredBlock],
    removed: frozenset[int] | set[int],
    pack_bytes: Mapping[bytes, int],
) -> bytes | None:
    """The bytes of a page after a backup, or None when no block is left in it."""
    first = previous.first + number * PAGE_BLOCKS
    blocks = {slot: block for slot, block in new.items() if first + slot not in removed}
    sizes: dict[bytes, int] = {}
    old = previous.page(number)
    if old is not None:
        sizes.update(old.packs())
        for index, block in previous.page_blocks(number):
            if index - first not in new and index not in removed:
                blocks[index - first] = block
    sizes.update({block.pack_id: pack_bytes[block.pack_id] for block in new.values()})
    return encode_page(blocks, sizes) if blocks else None


def _read_table(store: ObjectStore, keys: Keys, ref: SegmentRef) -> Table:
    map_id = bytes.fromhex(ref.map_id)
    cipher = keys.cipher(ObjectKind.MAP, map_id)
    try:
        if ref.table > MAX_TABLE_BYTES + cipher.overhead:
            raise ValueError("it is longer than any table")
        sealed = read_range(store, ref.key, ref.size - ref.table, ref.table)
        plain = cipher.open(LAST_PART, sealed)
        if cipher.digest(LAST_PART, plain).hex() != ref.digest:
            raise ValueError("it does not match its digest")
        table = decode_table(plain)
        if segment_root(table.rows).hex() != ref.root:
            raise ValueError("its pages do not add up to the root")
        if sum(row.blocks for row in table.rows.values()) != ref.blocks:
            raise ValueError("it has another number of blocks than the reference says")
        sizes = (ref.size - ref.table, *(size for _, size in table.objects))
        limit = MAX_PAGE_BYTES + cipher.overhead
        for row in table.rows.values():
            if row.length > limit or row.offset < HEADER_SIZE or row.offset + row.length > sizes[row.source]:
                raise ValueError("a page lies outside its object")
    except ValueError as error:
        raise DamagedError(f"The page table of {ref.key} is damaged: {error}.", resource=ref.key) from None
    return table


def read_range(store: ObjectStore, key: str, offset: int, length: int) -> bytes:
    """A range of an object that must be there. Raises DamagedError also when the object is missing."""
    return present(lambda: store.get_range(key, offset, length), key)


def present(read: Callable[[], bytes], key: str) -> bytes:
    """The outcome of ``read``; an object that a verified reference names must not be missing."""

    try:
        return read()
    except NotFoundError:
        raise DamagedError(
            f"{key} is missing.", resource=key, remedy="Restore it from a copy of the bucket."
        ) from None
