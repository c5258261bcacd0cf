"""An object store in memory that keeps the promises of the port, and can be damaged on purpose."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from holdfast.errors import ConflictError, DamagedError, NotFoundError
from holdfast.ports import ObjectStat

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


class MemoryStore:
    """Objects in a dictionary; ``written`` counts the bytes of every put and replace by key."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.classes: dict[str, str] = {}
        self.versions: dict[str, int] = {}
        self.written: dict[str, int] = {}
        self.reads: list[tuple[str, int]] = []
        self._lock = threading.Lock()

    def put_new(
        self, key: str, content: bytes | bytearray | memoryview, *, storage_class: str = "STANDARD"
    ) -> None:
        with self._lock:
            if key in self.objects:
                raise ConflictError("The object exists.", resource=key)
            self._write(key, bytes(content))
            self.classes[key] = storage_class

    def replace(self, key: str, content: bytes, *, etag: str) -> None:
        with self._lock:
            if str(self.versions.get(key)) != etag or key not in self.objects:
                raise ConflictError("The object has changed.", resource=key)
            self._write(key, bytes(content))

    def get(self, key: str) -> bytes:
        with self._lock:
            if key not in self.objects:
                raise NotFoundError("There is no such object.", resource=key)
            self.reads.append((key, len(self.objects[key])))
            return self.objects[key]

    def get_range(self, key: str, offset: int, length: int) -> bytes:
        content = self.get(key)[offset : offset + length]
        self.reads[-1] = (key, length)
        if len(content) != length:
            raise DamagedError(f"{key} is shorter than {offset + length} bytes.", resource=key)
        return content

    def stat(self, key: str) -> ObjectStat:
        with self._lock:
            if key not in self.objects:
                raise NotFoundError("There is no such object.", resource=key)
            return self._stat(key)

    def list(self, prefix: str) -> Iterator[ObjectStat]:
        with self._lock:
            stats = [self._stat(key) for key in sorted(self.objects) if key.startswith(prefix)]
        return iter(stats)

    def delete(self, key: str) -> None:
        with self._lock:
            self.objects.pop(key, None)

    def _write(self, key: str, content: bytes) -> None:
        self.objects[key] = content
        self.versions[key] = self.versions.get(key, 0) + 1
        self.written[key] = self.written.get(key, 0) + len(content)

    def _stat(self, key: str) -> ObjectStat:
        version = self.versions.setdefault(key, 1)
        modified = EPOCH + timedelta(seconds=version)
        return ObjectStat(
            key, len(self.objects[key]), str(version), modified, self.classes.get(key, "STANDARD")
        )
