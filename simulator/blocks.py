"""Where the bytes of simulated disks lie: maps of block references that share structure, and files of blocks.

A reference names one immutable block. Two places hold the same reference only if one was copied from the
other, so comparing references is the truth about changed blocks, without reading a byte.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import threading
from array import array
from collections.abc import Iterator
from pathlib import Path

BLOCK = 512 * 1024
PAGE = 1024
_OFFSET_BITS = 40
_NOTHING = array("q", bytes(8 * PAGE))
_ZEROS = bytes(BLOCK)
_DIGESTS_KEPT = 1_000_000
_KEEP_SIZE_PUNCH_HOLE = 0x01 | 0x02  # of fallocate(2)


class BlockMap:
    """Block index -> reference (0: not allocated), in pages that snapshots share until one side writes."""

    __slots__ = ("_owned", "_pages")

    def __init__(self, pages: dict[int, array[int]] | None = None) -> None:
        self._pages = pages or {}
        self._owned: set[int] = set()

    def __getstate__(self) -> dict[int, array[int]]:
        return self._pages

    def __setstate__(self, pages: dict[int, array[int]]) -> None:
        self._pages = pages
        self._owned = set()

    def __getitem__(self, index: int) -> int:
        page = self._pages.get(index // PAGE)
        return page[index % PAGE] if page is not None else 0

    def __setitem__(self, index: int, ref: int) -> None:
        number = index // PAGE
        if number not in self._owned:
            self._pages[number] = array("q", self._pages.get(number, _NOTHING))
            self._owned.add(number)
        self._pages[number][index % PAGE] = ref

    def share(self) -> BlockMap:
        """A copy at this instant: both sides keep the pages and copy one before they change it."""
        self._owned.clear()
        return BlockMap(dict(self._pages))

    def references(self, seen: set[int]) -> Iterator[int]:
        """Every reference; pages whose identity is in ``seen`` are passed over, and added to it."""
        for page in self._pages.values():
            if id(page) not in seen:
                seen.add(id(page))
                yield from filter(None, page)

    def allocated(self, start: int = 0) -> Iterator[int]:
        """Indexes of allocated blocks from ``start`` on, ascending."""
        for number in sorted(self._pages):
            if (number + 1) * PAGE > start:
                first = number * PAGE
                for place, ref in enumerate(self._pages[number]):
                    if ref and first + place >= start:
                        yield first + place

    def changed(self, base: BlockMap, start: int = 0) -> Iterator[int]:
        """Indexes from ``start`` on where the two differ, deallocated ones included, ascending."""
        for number in sorted(self._pages.keys() | base._pages.keys()):
            mine, theirs = self._pages.get(number, _NOTHING), base._pages.get(number, _NOTHING)
            if mine is theirs or (number + 1) * PAGE <= start:
                continue
            first = number * PAGE
            for place in range(PAGE):
                if mine[place] != theirs[place] and first + place >= start:
                    yield first + place


class BlockFiles:
    """The files that references point into: one that grows by every write, and raw images as they were.

    Safe to use from many threads. Written blocks are in the file before the reference is given out.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self._paths: list[Path] = [directory / "written.blocks"]
        self._descriptors: dict[int, int] = {}
        self._digests: dict[int, bytes] = {}
        self._lock = threading.Lock()
        self._end = -1

    def names(self) -> list[str]:
        """The files by number, for :meth:`adopt` after reopening; relative if they lie in the directory."""
        inside = self._directory.parent
        return [
            str(path.relative_to(inside)) if path.is_relative_to(inside) else str(path)
            for path in self._paths
        ]

    def adopt(self, names: list[str]) -> None:
        """Take over the files of an earlier run."""
        self._paths = [self._directory.parent / name for name in names]

    def write(self, content: bytes | memoryview, digest: bytes | None = None) -> int:
        """Store one block of BLOCK bytes and return its reference; ``digest`` is its SHA-256, if known."""
        with self._lock:
            descriptor = self._open_for_writing()
            offset, self._end = self._end, self._end + BLOCK
        if content == _ZEROS:
            with self._lock:
                if os.fstat(descriptor).st_size < offset + BLOCK:
                    os.ftruncate(descriptor, offset + BLOCK)
        else:
            os.pwrite(descriptor, content, offset)
        ref = 1 << _OFFSET_BITS | offset // BLOCK
        if digest is not None:
            self._remember(ref, digest)
        return ref

    def add_image(self, path: Path) -> Iterator[tuple[int, int]]:
        """Register a raw image and yield (block index, reference) of every block that holds data.

        Holes of a sparse file are blocks that are not allocated. The file must not change from now on.
        """
        with self._lock:
            self._paths.append(path)
            number = len(self._paths)
        for index in filled_blocks(self._descriptor(number)):
            yield index, number << _OFFSET_BITS | index

    def read(self, ref: int) -> bytes:
        """The BLOCK bytes behind ``ref``; an image that ends inside its last block is padded with zeros."""
        return read_block(self._descriptor(ref >> _OFFSET_BITS), ref & ((1 << _OFFSET_BITS) - 1))

    def read_with_digest(self, ref: int) -> tuple[bytes, bytes]:
        """The block and its SHA-256, which is computed once."""
        content = self.read(ref)
        digest = self._digests.get(ref)
        if digest is None:
            digest = hashlib.sha256(content).digest()
            self._remember(ref, digest)
        return content, digest

    def keep_only(self, refs: set[int]) -> None:
        """Give the disk space of written blocks that nobody refers to any more back to the file system."""
        descriptor = self._descriptor(1)
        offset, unused = 0, 0
        for offset in range(0, self._end + 1, BLOCK):
            if offset < self._end and 1 << _OFFSET_BITS | offset // BLOCK not in refs:
                unused += BLOCK
            elif unused:
                _punch(descriptor, offset - unused, unused)
                unused = 0

    def close(self) -> None:
        """Give the descriptors back."""
        with self._lock:
            for descriptor in self._descriptors.values():
                os.close(descriptor)
            self._descriptors.clear()
            self._end = -1

    def _remember(self, ref: int, digest: bytes) -> None:
        if len(self._digests) >= _DIGESTS_KEPT:
            self._digests.clear()
        self._digests[ref] = digest

    def _open_for_writing(self) -> int:
        descriptor = self._descriptors.get(1)
        if descriptor is None:
            self._paths[0].parent.mkdir(parents=True, exist_ok=True)
            descriptor = self._descriptors[1] = os.open(self._paths[0], os.O_RDWR | os.O_CREAT, 0o600)
        if self._end < 0:
            self._end = -(-os.fstat(descriptor).st_size // BLOCK) * BLOCK
        return descriptor

    def _descriptor(self, number: int) -> int:
        descriptor = self._descriptors.get(number)
        if descriptor is not None:
            return descriptor
        with self._lock:
            if number == 1:
                return self._open_for_writing()
            if number not in self._descriptors:
                self._descriptors[number] = os.open(self._paths[number - 1], os.O_RDONLY)
            return self._descriptors[number]


def _punch(descriptor: int, offset: int, length: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    arguments = (ctypes.c_int(descriptor), ctypes.c_int(_KEEP_SIZE_PUNCH_HOLE))
    # A file system without holes keeps the space; nothing else depends on it.
    libc.fallocate(*arguments, ctypes.c_int64(offset), ctypes.c_int64(length))


def read_block(descriptor: int, index: int) -> bytes:
    """The block at ``index`` of a file, padded with zeros where the file ends."""
    content = os.pread(descriptor, BLOCK, index * BLOCK)
    return content if len(content) == BLOCK else content.ljust(BLOCK, b"\0")


def filled_blocks(descriptor: int) -> Iterator[int]:
    """Indexes of the blocks of a raw image that are not wholly inside holes, ascending."""
    end, position, following = os.fstat(descriptor).st_size, 0, 0
    while position < end:
        try:
            data = os.lseek(descriptor, position, os.SEEK_DATA)
        except OSError:  # nothing but a hole up to the end
            return
        position = os.lseek(descriptor, data, os.SEEK_HOLE)
        first, after = max(data // BLOCK, following), -(-position // BLOCK)
        yield from range(first, after)
        following = after


def copy_sparse(source: Path, target: Path) -> None:
    """Copy a raw image, keeping its holes."""
    target.parent.mkdir(parents=True, exist_ok=True)
    reading = os.open(source, os.O_RDONLY)
    try:
        writing = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            size = os.fstat(reading).st_size
            os.ftruncate(writing, size)
            for index in filled_blocks(reading):
                offset, left = index * BLOCK, min(BLOCK, size - index * BLOCK)
                while left > 0:
                    copied = os.copy_file_range(reading, writing, left, offset, offset)
                    if copied == 0:
                        break
                    offset, left = offset + copied, left - copied
        finally:
            os.close(writing)
    finally:
        os.close(reading)
