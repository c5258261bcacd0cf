"""Reading blocks out of packs: few ranged requests, every byte verified.

A block is returned only if its SHA-256 equals the digest that its segment map promised.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import NamedTuple

import zstandard

from holdfast.errors import DamagedError
from holdfast.model.blocks import BLOCK_SIZE
from holdfast.repository.keys import Keys
from holdfast.repository.layout import ObjectKind, pack_key
from holdfast.repository.pack import MAX_BLOCK_BYTES, RAW, ZSTD, StoredBlock


class PackRange(NamedTuple):
    """One ranged request: ``length`` bytes at ``offset`` of a pack, and the blocks (index, where) in it."""

    pack_id: bytes
    offset: int
    length: int
    blocks: tuple[tuple[int, StoredBlock], ...]

    def slice(self, content: bytes | memoryview, block: StoredBlock) -> memoryview:
        """The sealed bytes of ``block`` within the bytes of this range."""
        start = block.offset - self.offset
        return memoryview(content)[start : start + block.length]


def coalesce(
    blocks: Iterable[tuple[int, StoredBlock]], *, gap: int = 256 << 10, limit: int = 8 << 20
) -> Iterator[PackRange]:
    """Ranges that cover ``blocks``, in pack order: neighbours less than ``gap`` bytes apart share a request.

    A range is at most ``limit`` bytes (or one block). Blocks may come in any order and may repeat.
    """
    group: list[tuple[int, StoredBlock]] = []
    start = end = 0
    for index, block in sorted(blocks, key=lambda item: (item[1].pack_id, item[1].offset)):
        block_end = block.offset + block.length
        joins = (
            group
            and group[0][1].pack_id == block.pack_id
            and block.offset - end <= gap
            and max(end, block_end) - start <= limit
        )
        if not joins:
            if group:
                yield PackRange(group[0][1].pack_id, start, end - start, tuple(group))
            group, start, end = [], block.offset, block.offset
        group.append((index, block))
        end = max(end, block_end)
    if group:
        yield PackRange(group[0][1].pack_id, start, end - start, tuple(group))


def is_frame_of(encoded: bytes | memoryview, size: int) -> bool:
    """Whether a zstd frame states this content size, and neither a checksum, a dictionary nor unused bits.

    Decompression would ignore the unused bit; refusing it leaves no byte of a plain pack that can change
    unnoticed. Raises ZstdError for other bytes.
    """
    return zstandard.frame_content_size(encoded) == size and not encoded[4] & 0x1F


class BlockOpener:
    """Turns sealed bytes back into blocks. Safe for many threads."""

    def __init__(self, keys: Keys, packs: int = 256) -> None:
        self._cipher = lru_cache(packs)(lambda pack_id: keys.cipher(ObjectKind.PACK, pack_id))
        self._tools: deque[tuple[bytearray, zstandard.ZstdDecompressor]] = deque()

    def open(self, block: StoredBlock, sealed: bytes | memoryview) -> bytes:
        """The BLOCK_SIZE bytes of a block. Raises DamagedError naming the pack."""
        try:
            tools = self._tools.pop()
        except IndexError:
            tools = bytearray(MAX_BLOCK_BYTES), zstandard.ZstdDecompressor()
        try:
            content = self._decode(block, sealed, *tools)
        except (ValueError, zstandard.ZstdError) as error:
            key = pack_key(block.pack_id)
            raise DamagedError(f"Block {block.ordinal} of {key} is damaged: {error}.", resource=key) from None
        finally:
            self._tools.append(tools)
        return content

    def _decode(
        self,
        block: StoredBlock,
        sealed: bytes | memoryview,
        buffer: bytearray,
        decompressor: zstandard.ZstdDecompressor,
    ) -> bytes:
        if len(sealed) != block.length:
            raise ValueError(f"{len(sealed)} bytes instead of {block.length}")
        encoded = self._cipher(block.pack_id).open_into(block.ordinal, sealed, buffer)
        if block.encoding == RAW:
            content = bytes(encoded)
        elif block.encoding == ZSTD and is_frame_of(encoded, BLOCK_SIZE):
            content = decompressor.decompress(encoded, max_output_size=BLOCK_SIZE, allow_extra_data=False)
        else:
            raise ValueError("its encoding is not one of this format")
        if hashlib.sha256(content).digest() != block.digest:
            raise ValueError("its content does not match its digest")
        return content
