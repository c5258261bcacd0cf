"""An object store in a directory: a repository on disk, or a local copy of a bucket's folder.

A key is hostile input: it never leads outside the directory, not even through a symbolic link. Objects
appear by link or rename of a complete, synced file, so a crash leaves whole objects only.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import unquote, urlsplit

from holdfast.errors import ConfigurationError, ConflictError, DamagedError, NotFoundError
from holdfast.ports import ObjectStat

_UNFINISHED = ".unfinished-"
_MAX_KEY = 1024


class DirectoryStore:
    """Objects are files below ``root``. Storage classes are accepted and forgotten."""

    def __init__(self, root: Path) -> None:
        """Raises NotFoundError when ``root`` is not a directory."""
        if not root.is_dir():
            raise NotFoundError("There is no such directory.", resource=str(root))
        self._root = root.resolve()

    @classmethod
    def from_url(cls, url: str) -> DirectoryStore:
        """The store behind ``file:///absolute/path``. Raises ConfigurationError, NotFoundError."""
        parts = urlsplit(url)
        if parts.scheme != "file" or parts.netloc not in ("", "localhost") or not parts.path.startswith("/"):
            raise ConfigurationError(
                f"{url!r} is not the URL of a local directory.", remedy="Write file:///path/to/directory."
            )
        return cls(Path(unquote(parts.path)))

    def put_new(
        self, key: str, content: bytes | bytearray | memoryview, *, storage_class: str = "STANDARD"
    ) -> None:
        """Create an object. Raises ConflictError when the key exists."""
        path = self._path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = self._write(path.parent, content)
        try:
            os.link(unfinished, path)
        except FileExistsError:
            raise ConflictError("The object exists.", resource=key) from None
        finally:
            unfinished.unlink()
        _sync(path.parent)

    def replace(self, key: str, content: bytes, *, etag: str) -> None:
        """Overwrite an object whose etag is still ``etag``. Raises ConflictError otherwise."""
        path = self._path(key)
        lock = os.open(self._root, os.O_RDONLY)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            with suppress(NotFoundError):
                if self.stat(key).etag == etag:
                    os.replace(self._write(path.parent, content), path)
                    _sync(path.parent)
                    return
            raise ConflictError("The object has changed.", resource=key)
        finally:
            os.close(lock)

    def get(self, key: str) -> bytes:
        """The whole object. Raises NotFoundError."""
        try:
            return self._path(key).read_bytes()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            raise _missing(key) from None

    def get_range(self, key: str, offset: int, length: int) -> bytes:
        """Exactly ``length`` bytes at ``offset``. Raises NotFoundError, DamagedError when it is shorter."""
        try:
            with self._path(key).open("rb") as file:
                content = os.pread(file.fileno(), length, offset)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            raise _missing(key) from None
        if len(content) != length:
            raise DamagedError(f"{key} is shorter than {offset + length} bytes.", resource=key)
        return content

    def stat(self, key: str) -> ObjectStat:
        """Size and etag. Raises NotFoundError."""
        path = self._path(key)
        if not path.is_file():
            raise _missing(key)
        return _stat(key, path)

    def list(self, prefix: str) -> Iterator[ObjectStat]:
        """Objects whose key starts with ``prefix``, in key order."""
        folder = self._root / prefix.rpartition("/")[0] if prefix else self._root
        keys = (
            (Path(where) / name).relative_to(self._root).as_posix()
            for where, _, names in os.walk(folder)
            for name in names
            if not name.startswith(_UNFINISHED)
        )
        for key in sorted(key for key in keys if key.startswith(prefix)):
            with suppress(NotFoundError, ConfigurationError, FileNotFoundError):
                yield self.stat(key)

    def delete(self, key: str) -> None:
        """Remove an object. Missing objects are not an error."""
        with suppress(FileNotFoundError, NotADirectoryError):
            self._path(key).unlink()

    def _path(self, key: str) -> Path:
        """Raises ConfigurationError for a key that is no relative path of printable ASCII."""
        parts = key.split("/")
        legal = 0 < len(key) <= _MAX_KEY and key.isascii() and key.isprintable() and "\\" not in key
        if not legal or any(part in ("", ".", "..") or part.startswith(_UNFINISHED) for part in parts):
            raise ConfigurationError(f"{key[:100]!r} is not a key of an object.")
        path = self._root.joinpath(*parts)
        if not path.resolve().is_relative_to(self._root):
            raise ConfigurationError(f"{key[:100]!r} leads outside the directory.")
        return path

    def _write(self, folder: Path, content: bytes | bytearray | memoryview) -> Path:
        handle, name = tempfile.mkstemp(prefix=_UNFINISHED, dir=folder)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        return Path(name)


def _stat(key: str, path: Path) -> ObjectStat:
    found = path.stat()
    modified = datetime.fromtimestamp(found.st_mtime, UTC)
    return ObjectStat(key, found.st_size, f"{found.st_ino:x}-{found.st_mtime_ns:x}", modified)


def _missing(key: str) -> NotFoundError:
    return NotFoundError("There is no such object.", resource=key)


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
