"""Packs: objects that hold many sealed blocks and, at their end, a directory of them.

``PackWriter`` is the hot path of every backup: nothing in it may copy a block twice or hold the lock while
compressing, encrypting or uploading. An ordinal, once reserved, belongs to one block for ever: it is the
nonce.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable
from mmap import ACCESS_COPY, mmap
from threading import Condition
from typing import Final, NamedTuple

import zstandard

from holdfast.errors import DamagedError
from holdfast.model.blocks import BLOCK_SIZE
from holdfast.ports import IdSource
from holdfast.repository.keys import DIGEST_SIZE, LAST_PART, TAG_SIZE, Keys, ObjectCipher
from holdfast.repository.layout import HEADER_SIZE, ID_SIZE, ObjectKind, check_header, pack_key

RAW: Final = 0
ZSTD: Final = 1
RAW_ABOVE: Final = BLOCK_SIZE * 97 // 100
"""A block that zstd leaves longer than this is stored raw: decompressing it would cost more than it saves."""

LEVEL: Final = 1
MIN_PACK_BYTES: Final = BLOCK_SIZE + 4096
MAX_BLOCK_BYTES: Final = BLOCK_SIZE + TAG_SIZE

_ENTRY = struct.Struct(f">IB{DIGEST_SIZE}s")
_COUNT = struct.Struct(">I")


class StoredBlock(NamedTuple):
    """Where the bytes of a block lie. ``length`` is sealed bytes; ``digest`` is SHA-256 of the plaintext."""

    digest: bytes
    pack_id: bytes
    ordinal: int
    offset: int
    length: int
    encoding: int


class DirectoryEntry(NamedTuple):
    """One block as the directory of its pack describes it."""

    ordinal: int
    offset: int
    length: int
    encoding: int
    digest: bytes


class _OpenPack:
    """A pack that still takes blocks; all of it but the buffer's content is guarded by the writer's lock."""

    __slots__ = ("buffer", "cipher", "entries", "pack_id", "pending", "used", "view")

    def __init__(self, pack_id: bytes, cipher: ObjectCipher, buffer: mmap) -> None:
        self.pack_id = pack_id
        self.cipher = cipher
        self.buffer = buffer
        self.view = memoryview(buffer)
        self.view[:HEADER_SIZE] = cipher.header
        self.used = HEADER_SIZE
        self.entries: list[bytes] = []
        self.pending = 0

    def fits(self, length: int) -> bool:
        trailer = (len(self.entries) + 1) * _ENTRY.size + DIGEST_SIZE + _COUNT.size
        return self.used + length + trailer <= len(self.view)

    def reserve(self, length: int, encoding: int, digest: bytes) -> StoredBlock:
        block = StoredBlock(digest, self.pack_id, len(self.entries), self.used, length, encoding)
        self.entries.append(_ENTRY.pack(length, encoding, digest))
        self.used += length
        return block

    def seal(self) -> memoryview:
        """Append the directory; the bytes of the finished object."""
        tail = pack_directory(self.cipher, self.entries)
        end = self.used + len(tail)
        self.view[self.used : end] = tail
        return self.view[:end]


def pack_directory(cipher: ObjectCipher, entries: list[bytes]) -> bytes:
    """The sealed directory and the count that lets a reader find its start."""
    plain = b"".join(entries)
    sealed = cipher.seal(LAST_PART, plain) if cipher.encrypts else plain + cipher.digest(LAST_PART, plain)
    return sealed + _COUNT.pack(len(entries))


class PackWriter:
    """Appends blocks from many threads to one open pack at a time, and hands over each pack as it fills.

    ``put(pack_id, content)`` stores one finished pack. It runs in the thread whose block did not fit any
    more, while the others go on with the next buffer; the memory behind ``content`` is reused when it
    returns. At most ``buffers`` buffers of ``pack_bytes`` bytes exist. ``sealed`` maps the id of each stored
    pack to its size in bytes. When ``put`` fails, every thread that uses the writer from then on gets its
    error.
    """

    def __init__(
        self,
        keys: Keys,
        ids: IdSource,
        put: Callable[[bytes, memoryview], None],
        *,
        pack_bytes: int = 32 << 20,
        buffers: int = 3,
    ) -> None:
        if pack_bytes < MIN_PACK_BYTES or buffers < 1:
            raise ValueError(f"a pack needs at least {MIN_PACK_BYTES} bytes and one buffer")
        self._keys = keys
        self._ids = ids
        self._put = put
        self._pack_bytes = pack_bytes
        self._free: list[mmap] = []
        self._unmade = buffers
        self._changed = Condition()
        self._open: _OpenPack | None = None
        self._in_flight = 0
        self._failure: BaseException | None = None
        self._overhead = TAG_SIZE if keys.secret else 0
        self._compressors: deque[zstandard.ZstdCompressor] = deque()
        self.sealed: dict[bytes, int] = {}

    def append(self, content: bytes | bytearray | memoryview, digest: bytes) -> StoredBlock:
        """Encode, seal and place one block of BLOCK_SIZE bytes whose SHA-256 is ``digest``.

        The block is durable once its pack is in ``sealed`` (after :meth:`flush` at the latest). ``content``
        may be reused when this returns. Raises what ``put`` raised.
        """
        if len(content) != BLOCK_SIZE or len(digest) != DIGEST_SIZE:
            raise ValueError(f"a block has {BLOCK_SIZE} bytes and a digest of {DIGEST_SIZE}")
        encoded, encoding = self._encode(content)
        pack, block = self._reserve(len(encoded) + self._overhead, encoding, digest)
        try:
            pack.cipher.seal_into(
                block.ordinal, encoded, pack.view[block.offset : block.offset + block.length]
            )
        except BaseException as error:
            self._fail(error)
            raise
        finally:
            with self._changed:
                pack.pending -= 1
                if not pack.pending:
                    self._changed.notify_all()
        return block

    def flush(self) -> None:
        """Store the open pack and wait until every pack is stored. Call it when no append runs any more."""
        with self._changed:
            self._raise_failure()
            pack, self._open = self._open, None
        if pack is not None:
            self._finish(pack)
        with self._changed:
            self._changed.wait_for(lambda: not self._in_flight or self._failure)
            self._raise_failure()

    def _encode(self, content: bytes | bytearray | memoryview) -> tuple[bytes | bytearray | memoryview, int]:
        try:
            compressor = self._compressors.pop()
        except IndexError:
            compressor = zstandard.ZstdCompressor(level=LEVEL)
        encoded = compressor.compress(content)
        self._compressors.append(compressor)
        return (content, RAW) if len(encoded) > RAW_ABOVE else (encoded, ZSTD)

    def _reserve(self, length: int, encoding: int, digest: bytes) -> tuple[_OpenPack, StoredBlock]:
        while True:
            with self._changed:
                self._raise_failure()
                pack = self._open or self._begin()
                if pack is not None and pack.fits(length):
                    pack.pending += 1
                    return pack, pack.reserve(length, encoding, digest)
                if pack is None:
                    self._changed.wait()
                    continue
                self._open = None
            self._finish(pack)

    def _begin(self) -> _OpenPack | None:
        """Open a pack on a free buffer; None when every buffer is in flight. Called under the lock."""
        if self._free:
            buffer = self._free.pop()
        elif self._unmade:
            self._unmade -= 1
            # Zeros that take no memory before they are written: most backups fill no pack.
            buffer = mmap(-1, self._pack_bytes, access=ACCESS_COPY)
        else:
            return None
        pack_id = self._ids.random_bytes(ID_SIZE)
        self._open = _OpenPack(pack_id, self._keys.cipher(ObjectKind.PACK, pack_id), buffer)
        self._in_flight += 1
        return self._open

    def _finish(self, pack: _OpenPack) -> None:
        try:
            with self._changed:
                self._changed.wait_for(lambda: not pack.pending)
                self._raise_failure()
            content = pack.seal()
            size = len(content)
            self._put(pack.pack_id, content)
        except BaseException as error:
            self._fail(error)
            raise
        with self._changed:
            self.sealed[pack.pack_id] = size
            self._free.append(pack.buffer)
            self._in_flight -= 1
            self._changed.notify_all()

    def _fail(self, error: BaseException) -> None:
        with self._changed:
            self._failure = self._failure or error
            self._changed.notify_all()

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure


def read_directory(keys: Keys, pack_id: bytes, content: bytes | memoryview) -> list[DirectoryEntry]:
    """The directory of a whole pack. Raises DamagedError when header, directory or size are wrong."""
    key = pack_key(pack_id)
    cipher = keys.cipher(ObjectKind.PACK, pack_id)
    check_header(content, cipher.header, key)
    view = memoryview(content)
    seal_size = TAG_SIZE if cipher.encrypts else DIGEST_SIZE
    end = len(view) - _COUNT.size
    count = _COUNT.unpack(view[end:])[0] if end >= HEADER_SIZE else 0
    start = end - seal_size - count * _ENTRY.size
    if not count or start < HEADER_SIZE:
        raise DamagedError(f"The directory of {key} does not fit into it.", resource=key)
    plain = open_digested(cipher, LAST_PART, view[start:end], key, "directory")
    entries = []
    offset = HEADER_SIZE
    for ordinal, (length, encoding, digest) in enumerate(_ENTRY.iter_unpack(plain)):
        entries.append(DirectoryEntry(ordinal, offset, length, encoding, digest))
        offset += length
    if offset != start:
        raise DamagedError(f"The blocks of {key} do not fill it as its directory says.", resource=key)
    return entries


def open_digested(cipher: ObjectCipher, part: int, sealed: memoryview, key: str, what: str) -> bytes:
    """Open a part that, when plain, ends in its bound digest. Raises DamagedError."""
    if cipher.encrypts:
        try:
            return cipher.open(part, sealed)
        except ValueError:
            raise DamagedError(f"The {what} of {key} fails authentication.", resource=key) from None
    plain, digest = sealed[:-DIGEST_SIZE], sealed[-DIGEST_SIZE:]
    if cipher.digest(part, plain) != digest:
        raise DamagedError(f"The {what} of {key} does not match its digest.", resource=key)
    return bytes(plain)
