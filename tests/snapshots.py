"""Snapshots in memory behind the ports of the data plane, which can misbehave on purpose."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from itertools import count

from holdfast.errors import ConflictError, IntegrityError, SourceGoneError
from holdfast.model.blocks import BLOCK_SIZE
from holdfast.ports import BlockRef

Blocks = dict[int, bytes]


def block(seed: int | str) -> bytes:
    """A block whose content is a function of ``seed``; 0 gives zeros. It compresses well."""
    if seed == 0:
        return bytes(BLOCK_SIZE)
    return hashlib.sha256(str(seed).encode()).digest() * (BLOCK_SIZE // 32)


def noise() -> bytes:
    """A block that does not compress."""
    return os.urandom(BLOCK_SIZE)


class MemorySnapshots:
    """Reads and writes snapshots that are dictionaries of blocks, all related unless told otherwise.

    ``on_read`` sees (snapshot, index) before each read and may raise, or return bytes to send instead.
    """

    def __init__(self, snapshots: Mapping[str, Blocks] | None = None) -> None:
        self.snapshots: dict[str, Blocks] = {name: dict(blocks) for name, blocks in (snapshots or {}).items()}
        self.unrelated: set[str] = set()
        self.completed: dict[str, tuple[int, bytes]] = {}
        self.reads: list[tuple[str, int]] = []
        self.puts: list[int] = []
        self.on_read: Callable[[str, int], bytes | None] = lambda snapshot_id, index: None
        self.on_put: Callable[[int], None] = lambda index: None
        self._numbers = count(1)
        self._lock = threading.Lock()

    def _of(self, snapshot_id: str) -> Blocks:
        if snapshot_id not in self.snapshots:
            raise SourceGoneError("The snapshot does not exist.", resource=snapshot_id)
        return self.snapshots[snapshot_id]

    def allocated(self, snapshot_id: str, start: int, end: int) -> Iterator[BlockRef]:
        for index in sorted(self._of(snapshot_id)):
            if start <= index < end:
                yield BlockRef(index, f"{snapshot_id}/{index}")

    def changed(self, base_id: str, snapshot_id: str, start: int, end: int) -> Iterator[BlockRef]:
        base, now = self._of(base_id), self._of(snapshot_id)
        if base_id in self.unrelated:
            raise ConflictError("The snapshots are not related.", resource=base_id)
        for index in sorted(base.keys() | now.keys()):
            if start <= index < end and base.get(index) != now.get(index):
                yield BlockRef(index, f"{snapshot_id}/{index}" if index in now else "")

    def read_into(self, snapshot_id: str, ref: BlockRef, buffer: memoryview) -> bytes:
        assert ref.token == f"{snapshot_id}/{ref.index}"
        with self._lock:
            self.reads.append((snapshot_id, ref.index))
        content = self._of(snapshot_id)[ref.index]
        buffer[:] = self.on_read(snapshot_id, ref.index) or content
        return hashlib.sha256(content).digest()

    def start(
        self,
        size_bytes: int,
        *,
        token: str,
        description: str,
        tags: Mapping[str, str],
        encrypted: bool,
        kms_key_arn: str,
    ) -> str:
        snapshot_id = f"snap-{next(self._numbers):08x}"
        self.snapshots[snapshot_id] = {}
        return snapshot_id

    def put(self, snapshot_id: str, index: int, content: bytes | memoryview, digest: bytes) -> None:
        self.on_put(index)
        if len(content) != BLOCK_SIZE or hashlib.sha256(content).digest() != digest:
            raise IntegrityError("The block does not match its checksum.", resource=snapshot_id)
        with self._lock:
            self.puts.append(index)
            self._of(snapshot_id)[index] = bytes(content)

    def complete(self, snapshot_id: str, block_count: int, aggregate: bytes) -> None:
        blocks = self._of(snapshot_id)
        digests = b"".join(hashlib.sha256(blocks[index]).digest() for index in sorted(blocks))
        if block_count != len(blocks) or aggregate != hashlib.sha256(digests).digest():
            raise IntegrityError("The snapshot does not match its checksum.", resource=snapshot_id)
        self.completed[snapshot_id] = (block_count, aggregate)
