"""What the core needs from the world, and what it may rely on.

Implementations live in ``aws/`` (the real thing), ``stores/`` (a directory) and the tests; each port has
one contract suite that every implementation passes. Pagination, retry and throttling happen behind the port.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple, Protocol


class Clock(Protocol):
    """The only source of time."""

    def now(self) -> datetime:
        """The current instant, aware, in UTC."""
        ...


class IdSource(Protocol):
    """The only source of randomness."""

    def random_bytes(self, count: int) -> bytes:
        """``count`` unpredictable bytes; never the same twice, also across processes."""
        ...


class ObjectStat(NamedTuple):
    """An object as a listing shows it. ``etag`` changes whenever the content does."""

    key: str
    size: int
    etag: str
    modified_at: datetime
    storage_class: str = "STANDARD"


class ObjectStore(Protocol):
    """A flat name space of immutable bytes (one prefix of an S3 bucket, or a directory).

    - A key is a relative path of printable ASCII without ``..``; the prefix is the store's own business.
    - ``put_new`` is atomic: the object is there whole, or not at all, and is never overwritten.
    - A successful write is durable, and visible to every later read and listing.
    """

    def put_new(self, key: str, content: bytes | bytearray | memoryview, *, storage_class: str = "STANDARD") -> None:
        """Create an object. Raises ConflictError when the key exists."""
        ...

    def replace(self, key: str, content: bytes, *, etag: str) -> None:
        """Overwrite an object whose etag is still ``etag``. Raises ConflictError otherwise."""
        ...

    def get(self, key: str) -> bytes:
        """The whole object. Raises NotFoundError."""
        ...

    def get_range(self, key: str, offset: int, length: int) -> bytes:
        """Exactly ``length`` bytes at ``offset``. Raises NotFoundError, DamagedError when it is shorter."""
        ...

    def stat(self, key: str) -> ObjectStat:
        """Size and etag. Raises NotFoundError."""
        ...

    def list(self, prefix: str) -> Iterator[ObjectStat]:
        """Objects whose key starts with ``prefix``, in key order."""
        ...

    def delete(self, key: str) -> None:
        """Remove an object (with versioning: add a delete marker). Missing objects are not an error."""
        ...


class KeyWrapper(Protocol):
    """Wraps the repository key; one implementation for KMS, one for passwords."""

    def wrap(self, key: bytes, repository_id: str) -> Mapping[str, str | int]:
        """JSON-safe header fields from which :meth:`unwrap` recovers ``key``."""
        ...

    def unwrap(self, header: Mapping[str, str | int], repository_id: str) -> bytes:
        """The 32-byte repository key. Raises KeyUnavailableError."""
        ...


class BlockRef(NamedTuple):
    """A block that EBS lists. ``token`` is empty when the block is no longer allocated."""

    index: int
    token: str


class SnapshotReader(Protocol):
    """Reads EBS snapshots of one account and Region (EBS direct APIs). Safe to call from many threads."""

    def allocated(self, snapshot_id: str, start: int, end: int) -> Iterator[BlockRef]:
        """Allocated blocks in ``[start, end)``, ascending. Raises SourceGoneError, AccessDeniedError."""
        ...

    def changed(self, base_id: str, snapshot_id: str, start: int, end: int) -> Iterator[BlockRef]:
        """Blocks in ``[start, end)`` that differ between two snapshots, ascending.

        Raises SourceGoneError when the base is gone, ConflictError when the two are unrelated.
        """
        ...

    def read_into(self, snapshot_id: str, ref: BlockRef, buffer: memoryview) -> bytes:
        """Fill ``buffer`` (BLOCK_SIZE bytes) and return the SHA-256 digest that EBS sent (not verified)."""
        ...


class SnapshotWriter(Protocol):
    """Writes new EBS snapshots of one account and Region. Safe to call from many threads."""

    def start(
        self, size_bytes: int, *, token: str, description: str, tags: Mapping[str, str], encrypted: bool, kms_key_arn: str
    ) -> str:
        """Start a snapshot and return its id; the same ``token`` returns the same snapshot."""
        ...

    def put(self, snapshot_id: str, index: int, content: bytes | memoryview, digest: bytes) -> None:
        """Write one whole block; EBS refuses it when ``digest`` is not its SHA-256."""
        ...

    def complete(self, snapshot_id: str, block_count: int, aggregate: bytes) -> None:
        """Seal a snapshot; ``aggregate`` is SHA-256 over the digests of all written blocks in index order."""
        ...


class Mail(NamedTuple):
    """A rendered message."""

    sender: str
    recipients: Sequence[str]
    subject: str
    text: str
    html: str


class Notifier(Protocol):
    """Sends results to people and programs."""

    def publish(self, topic_arn: str, subject: str, message: str) -> None:
        """Publish to an SNS topic."""
        ...

    def send(self, mail: Mail) -> None:
        """Send one mail through SES."""
        ...
