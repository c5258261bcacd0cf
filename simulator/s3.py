"""Buckets as plain files: ``<bucket>/<key>`` is the object, read anew at every request.

A person may look at the files, damage or delete them; what S3 then answers follows from the files. No key,
however hostile its name, leads outside of the bucket's folder.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
import threading
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import moto.s3.models as models
from moto.s3.exceptions import InvalidBucketName
from moto.s3.models import FakeKey, S3Backend, s3_backends
from moto.s3.utils import _VersionedKeyStore

from simulator.patches import Patches

_patches = Patches()
_BUCKET_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_SAFE = "!$&'()+,;=@ "
_buckets: Buckets | None = None


class Buckets:
    """The folder of all buckets. Names that begin with a dot are its own: a bucket's name never does."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._numbers = itertools.count()
        root.mkdir(parents=True, exist_ok=True)

    def object_path(self, bucket: str, key: str) -> Path:
        """Where the current content of an object lies, whether or not it exists."""
        found = _find(bucket, key)
        return self.root / (found.place if isinstance(found, StoredKey) else plain_place(bucket, key))

    def receive(self, content: bytes) -> str:
        """Store content that has no name yet; returns its place."""
        place = f".incoming/{os.getpid()}-{next(self._numbers)}"
        path = self.root / place
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        return place

    def move(self, place: str, target: str, fallback: str) -> str:
        """Move a file to ``target``, to ``fallback`` where the file system cannot; returns where it went."""
        source = self.root / place
        for wanted in (target, fallback):
            path = self.root / wanted
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                source.replace(path)
            except FileNotFoundError:  # a person deleted it
                return wanted
            except (IsADirectoryError, NotADirectoryError, FileExistsError, OSError):
                continue
            self._prune(source.parent)
            return wanted
        raise OSError(f"neither {target} nor {fallback} can hold an object")

    def remove(self, place: str) -> None:
        """Delete a file and the folders that it leaves empty."""
        path = self.root / place
        path.unlink(missing_ok=True)
        self._prune(path.parent)

    def _prune(self, folder: Path) -> None:
        while len(folder.relative_to(self.root).parts) > 1:
            try:
                folder.rmdir()
            except OSError:
                return
            folder = folder.parent

    def adopt(self) -> None:
        """Make objects of files that lie in the folders of buckets unknown, such as a person copies there."""
        for account in list(s3_backends):
            for backend in s3_backends[account].values():
                for bucket in list(backend.buckets.values()):
                    known = {key.place for key in _stored(bucket)}
                    for path in sorted((self.root / bucket.name).rglob("*")):
                        place = path.relative_to(self.root).as_posix()
                        if path.is_file() and not path.is_symlink() and place not in known:
                            key = key_at(place.removeprefix(f"{bucket.name}/"))
                            content = path.read_bytes()
                            backend.put_object(bucket.name, key, content, disable_notification=True)

    def describe(self) -> None:
        """Write beside the buckets what S3 knows of each object that changed, as JSON."""
        for account in list(s3_backends):
            for backend in s3_backends[account].values():
                for bucket in list(backend.buckets.values()):
                    for key in _stored(bucket):
                        if key.changed:
                            self._describe(bucket.name, key)

    def _describe(self, bucket: str, key: StoredKey) -> None:
        known = {
            "key": key.name,
            "version_id": key.version_id,
            "etag": key.etag.strip('"'),
            "storage_class": key.storage_class,
            "last_modified": key.last_modified.isoformat() + "Z",
            "metadata": dict(key.metadata),
            "checksum": {key.checksum_algorithm: key.checksum_value} if key.checksum_algorithm else {},
            "lock": {"mode": key.lock_mode, "until": key.lock_until, "legal_hold": key.lock_legal_status},
            "file": key.place,
        }
        name = hashlib.sha256(f"{key.name}\0{key.version_id}".encode()).hexdigest()
        path = self.root / f".{bucket}.meta" / "objects" / name[:2] / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(known, indent=1, default=str) + "\n", "utf-8")
        key.changed = False


def plain_place(bucket: str, key: str) -> str:
    """The readable place of an object; what a file system would misunderstand is percent-encoded."""
    return "/".join((bucket, *(_segment(segment) for segment in key.split("/"))))


def key_at(place: str) -> str:
    """The key whose readable place within its bucket is ``place``."""
    return "/".join("" if segment == "%" else unquote(segment) for segment in place.split("/"))


def _segment(segment: str) -> str:
    if not segment:
        return "%"  # no encoding ends here, so it stands for nothing else
    return segment.replace(".", "%2E") if segment in (".", "..") else quote(segment, safe=_SAFE)


def _hidden_place(bucket: str, kind: str, key: str, version: str) -> str:
    name = hashlib.sha256(f"{key}\0{version}".encode()).hexdigest()
    return f".{bucket}.meta/{kind}/{name[:2]}/{name}"


class StoredKey(FakeKey):
    """An object (or part of an upload) whose content is a file at ``place``."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self.place = ""
        self.changed = True
        super().__init__(*arguments, **options)
        self._value_buffer.close()
        del self._value_buffer
        if self.multipart is not None:
            self.multipart.dispose()
            self.multipart = None

    @property
    def path(self) -> Path:
        """The file that holds the content."""
        return folder().root / self.place

    @property
    def value(self) -> bytes:
        """The content as the file has it now; empty when the file is gone."""
        try:
            return self.path.read_bytes()
        except FileNotFoundError:
            return b""

    @value.setter
    def value(self, content: bytes | str) -> None:
        held = content.encode() if isinstance(content, str) else bytes(content)
        if self._etag is None:
            self._etag = hashlib.md5(held, usedforsecurity=False).hexdigest()
        self.place = folder().receive(held)

    @property
    def contentsize(self) -> int:  # type: ignore[override]
        """Size in bytes, as the file has it now."""
        try:
            return self.path.stat().st_size
        except FileNotFoundError:
            return 0

    @property
    def is_there(self) -> bool:
        """Whether nobody has deleted the file."""
        return _buckets is None or self.path.is_file()

    def settle(self, bucket: str, *, current: bool) -> None:
        """Move the file to where the current version, or a noncurrent one, belongs."""
        name, version = str(self.name), self.version_id
        if current:
            target, fallback = plain_place(bucket, name), _hidden_place(bucket, "current", name, "")
        else:
            target = fallback = _hidden_place(bucket, "versions", name, version)
        if self.place not in (target, fallback):
            self.place = folder().move(self.place, target, fallback)
        self.changed = True

    def set_metadata(self, *arguments: Any, **options: Any) -> None:
        """As S3; notes that the object has to be described again."""
        super().set_metadata(*arguments, **options)
        self.changed = True

    def dispose(self, garbage: bool = False) -> None:
        """Delete the content, unless the simulator is closed (then the files stay as they are)."""
        self.disposed = True
        if not garbage and _buckets is not None and self.place:
            _buckets.remove(self.place)

    def __del__(self) -> None:
        """A file outlives the object that describes it."""

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.lock = threading.Lock()


class StoredKeys(_VersionedKeyStore):
    """The keys of one bucket with their versions, last one current; files follow what happens to them.

    A current object whose file was deleted by a person is not listed and not found.
    """

    def __setitem__(self, key: str, value: Any) -> None:
        super().__setitem__(key, value)
        self._settle(key)

    def setlist(self, key: str, list_: Any) -> None:
        """Replace the versions of a key; content of those that are dropped is deleted."""
        kept = list(list_) if isinstance(list_, (list, tuple)) else [list_]
        dropped = [version for version in self.getlist(key, []) if not any(version is one for one in kept)]
        dict.__setitem__(self, key, kept)
        self._settle(key)
        taken = {version.place for version in kept if isinstance(version, StoredKey)}
        for version in dropped:
            if isinstance(version, StoredKey) and version.place not in taken:
                version.dispose()

    def pop(self, key: str) -> None:  # type: ignore[override]
        """Forget a key and delete all its content. Raises KeyError."""
        for version in dict.__getitem__(self, key):
            if isinstance(version, StoredKey):
                version.dispose()
        dict.pop(self, key)

    def _settle(self, key: str) -> None:
        versions = dict.__getitem__(self, key)
        for version in (*versions[:-1], *versions[-1:]):
            if isinstance(version, StoredKey) and version.bucket_name:
                version.settle(version.bucket_name, current=version is versions[-1])

    def _itervalues(self) -> Any:
        return (value for _, value in self._iteritems())

    def _iteritems(self) -> Any:
        for key in list(self):
            versions = self.getlist(key, [])
            if versions and not (isinstance(versions[-1], StoredKey) and not versions[-1].is_there):
                yield key, versions[-1]

    items = iteritems = _iteritems
    values = itervalues = _itervalues


def folder() -> Buckets:
    """The folder of the simulator that is open."""
    if _buckets is None:
        raise RuntimeError("no simulated S3 is open")
    return _buckets


def _stored(bucket: Any) -> list[StoredKey]:
    """Every version of every object of a bucket, without delete markers."""
    versions = (version for held in list(dict.values(bucket.keys)) for version in held)
    return [version for version in versions if isinstance(version, StoredKey)]


def _find(bucket: str, key: str) -> Any:
    for account in list(s3_backends):
        for backend in s3_backends[account].values():
            if bucket in backend.buckets:
                return backend.buckets[bucket].keys.get(key)
    return None


def install(simulator: Any) -> None:
    """Let moto's S3 keep content in files."""
    from simulator import s3_rules

    global _buckets
    _buckets = simulator.s3
    original_get = vars(S3Backend)["get_object"]

    def get_object(backend: S3Backend, *arguments: Any, **options: Any) -> Any:
        found = original_get(backend, *arguments, **options)
        return None if isinstance(found, StoredKey) and not found.is_there else found

    original_create = vars(S3Backend)["create_bucket"]

    def create_bucket(backend: S3Backend, bucket_name: str, *arguments: Any, **options: Any) -> Any:
        if not _BUCKET_NAME.fullmatch(bucket_name) or ".." in bucket_name:
            raise InvalidBucketName
        return original_create(backend, bucket_name, *arguments, **options)

    _patches.set(S3Backend, "create_bucket", create_bucket)
    _patches.set(S3Backend, "get_object", get_object)
    _patches.set(models, "FakeKey", StoredKey)
    _patches.set(models, "_VersionedKeyStore", StoredKeys)
    s3_rules.install()


def uninstall() -> None:
    """Give moto its own S3 back; the files stay."""
    from simulator import s3_rules

    global _buckets
    _buckets = None
    s3_rules.uninstall()
    _patches.undo()
