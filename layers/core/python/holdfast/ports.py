"""What the core needs from the world, and what it may rely on.

Implementations live in ``aws/`` (the real thing), ``stores/`` (a directory) and the tests; each port has
one contract suite that every implementation passes. Pagination, retry and throttling happen behind the port.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:  # values with pydantic behind them: workers that move blocks must not pay their import
    from holdfast.model.inventory import AttachedVolume, Instance, InstanceConfiguration
    from holdfast.model.restore import InstanceSettings
    from holdfast.model.restore_point import Kind, RestorePoint
    from holdfast.model.session import Session


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

    def put_new(
        self, key: str, content: bytes | bytearray | memoryview, *, storage_class: str = "STANDARD"
    ) -> None:
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

    index: int  # type: ignore[assignment]  # in place of tuple.index, which nobody asks a block for
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
        self,
        size_bytes: int,
        *,
        token: str,
        description: str,
        tags: Mapping[str, str],
        encrypted: bool,
        kms_key_arn: str,
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

    def publish(self, topic_arn: str, subject: str, text: str, document: Mapping[str, Any]) -> None:
        """Publish to an SNS topic: ``text`` for people, ``document`` as JSON for programs.

        ``subject`` is printable ASCII of at most 100 characters.
        """
        ...

    def send(self, mail: Mail) -> None:
        """Send one mail through SES."""
        ...


class VolumeSnapshot(NamedTuple):
    """One EBS snapshot as its account shows it. ``state``: pending, completed, error, recoverable."""

    snapshot_id: str
    volume_id: str
    state: str
    started_at: datetime
    size_bytes: int
    tags: Mapping[str, str]
    encrypted: bool = False
    kms_key_arn: str = ""
    reason: str = ""


class Spoke(Protocol):
    """EC2 in one Region of one protected account, under the role that Holdfast has there."""

    def instances(self, instance_ids: Sequence[str] = ()) -> Iterator[Instance]:
        """Instances that are not terminated, without their volumes. Unknown ids are left out."""
        ...

    def inventory(self) -> Iterator[Instance]:
        """All instances that are not terminated, with the size, type, key and tags of their volumes."""
        ...

    def configuration(self, instance_id: str) -> InstanceConfiguration:
        """Everything EC2 tells about an instance now. Raises SourceGoneError."""
        ...

    def create_snapshots(
        self,
        instance_id: str,
        *,
        exclude_root: bool,
        exclude_volumes: Sequence[str],
        tags: Mapping[str, str],
        copy_tags: bool,
        description: str,
    ) -> Sequence[VolumeSnapshot]:
        """One crash-consistent set of all volumes but the excluded ones; all are made or none.

        Not idempotent: look with :meth:`find_snapshots` first. Raises SourceGoneError, AccessDeniedError,
        KeyUnavailableError, ThrottledError.
        """
        ...

    def find_snapshots(self, tags: Mapping[str, str]) -> Sequence[VolumeSnapshot]:
        """Snapshots that this account owns and that carry all these tags. Eventually consistent."""
        ...

    def read_snapshots(self, snapshot_ids: Sequence[str]) -> Sequence[VolumeSnapshot]:
        """Those of the given snapshots that exist in this account, with the tags they have now."""
        ...

    def tag_snapshot(self, snapshot_id: str, tags: Mapping[str, str]) -> None:
        """Add or replace tags. Raises SourceGoneError."""
        ...

    def untag_snapshot(self, snapshot_id: str, keys: Sequence[str]) -> None:
        """Remove tags; missing ones are not an error. Raises SourceGoneError."""
        ...

    def delete_snapshot(self, snapshot_id: str) -> None:
        """Delete a snapshot; one that is gone already is not an error. Raises ConflictError while in use."""
        ...


class OrganizationAccount(NamedTuple):
    """A member account; ``state`` is ACTIVE, SUSPENDED or PENDING_CLOSURE."""

    account: str
    name: str
    state: str


class OrganizationTree(Protocol):
    """The units and accounts of an AWS Organization."""

    def roots(self) -> Sequence[str]:
        """Ids of the roots."""
        ...

    def units(self, parent: str) -> Sequence[str]:
        """Ids of the organizational units directly under a root or unit. Raises NotFoundError."""
        ...

    def accounts(self, parent: str) -> Sequence[OrganizationAccount]:
        """Accounts directly under a root or unit. Raises NotFoundError."""
        ...


class Switch(NamedTuple):
    """What an operator last said about a policy's automatic runs: ``by`` is an ARN, empty when not known."""

    off: bool
    by: str = ""
    at: datetime | None = None


class Catalog(Protocol):
    """The DynamoDB table in the hub Region. A cache: `rebuild` recreates its restore points.

    Reads are strongly consistent, except the listings by time. A *part* is a JSON document that belongs to
    one session (its share for a Region, the outcome of an instance, a recorded verdict) and expires with it.
    """

    def begin_session(self, session: Session) -> bool:
        """Store a new session; False, and nothing written, when that session exists."""
        ...

    def write_session(self, session: Session) -> None:
        """Store a session over what was there."""
        ...

    def read_session(self, session_id: str) -> Session:
        """Raises NotFoundError."""
        ...

    def sessions(self, since: datetime, until: datetime) -> Iterator[Session]:
        """Sessions started in ``[since, until)``, oldest first."""
        ...

    def is_switched_off(self, policy: str) -> bool:
        """Whether an operator stopped automatic runs of this policy at run time."""
        ...

    def switch_policy(self, policy: str, *, off: bool, by: str = "", at: datetime | None = None) -> None:
        """Stop or allow automatic runs of a policy; who said so, and when, is kept with it."""
        ...

    def switches(self) -> Mapping[str, Switch]:
        """The last word on every policy that was ever switched, by name."""
        ...

    def write_part(
        self,
        session_id: str,
        part: str,
        body: Mapping[str, Any],
        *,
        at: datetime,
        new: bool = False,
        version: int | None = None,
    ) -> bool:
        """Store a part. ``at`` dates its expiry.

        False and nothing written: with ``new``, when it exists; with ``version``, when it has a later one.
        """
        ...

    def read_part(self, session_id: str, part: str) -> dict[str, Any] | None:
        """A part, or None."""
        ...

    def remove_part(self, session_id: str, part: str) -> None:
        """Forget a part; a missing one is not an error."""
        ...

    def parts(self, session_id: str, prefix: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """Parts whose name starts with ``prefix``, in order of name."""
        ...

    def add_point(self, point: RestorePoint, configuration: InstanceConfiguration | None = None) -> None:
        """Store a restore point (again), and the configuration its instance had."""
        ...

    def points(self, instance_id: str, kind: Kind | None = None) -> Iterator[RestorePoint]:
        """Restore points of an instance, oldest first."""
        ...

    def points_between(self, since: datetime, until: datetime) -> Iterator[RestorePoint]:
        """Restore points of all instances taken in ``[since, until)``, oldest first."""
        ...

    def configuration(self, instance_id: str, point_id: str) -> InstanceConfiguration:
        """The configuration stored with a restore point. Raises NotFoundError."""
        ...

    def remove_point(self, point: RestorePoint) -> None:
        """Forget a restore point, and its configuration when no other kind of the same point is left."""
        ...


class WorkLists(Protocol):
    """JSON documents that the steps of an execution hand to each other; one short-lived bucket per Region."""

    def write(self, key: str, document: Any) -> None:
        """Store a document over what was there."""
        ...

    def read(self, key: str) -> Any:
        """Raises NotFoundError."""
        ...

    def keys(self, prefix: str) -> Iterator[str]:
        """Keys that start with ``prefix``, in order."""
        ...


class Executions(Protocol):
    """Step Functions in one Region."""

    def start(self, machine_arn: str, name: str, event: Mapping[str, Any]) -> bool:
        """Start an execution; False when one of that name was started before."""
        ...

    def succeed(self, token: str, output: Mapping[str, Any]) -> None:
        """Answer a waiting task. Raises ConflictError when nobody waits for this token any more."""
        ...


class RestoreSite(Protocol):
    """EC2 where a restore creates things: one Region of one account, under its restore role.

    Every create call is idempotent by its ``token`` or name; everything created carries ``tags``.
    """

    def create_volume(
        self,
        snapshot_id: str,
        like: AttachedVolume,
        *,
        availability_zone: str,
        tags: Mapping[str, str],
        token: str,
        encrypted: bool | None,
        kms_key_arn: str,
    ) -> str:
        """Start a volume from a snapshot, of the type of ``like``; returns its id.

        ``encrypted`` None and no key: as the snapshot is.
        """
        ...

    def volumes_ready(self, volume_ids: Sequence[str]) -> bool:
        """Whether all volumes are available or in use.

        Raises PermanentError when one ended in error, UnavailableError while one is not to be seen.
        """
        ...

    def register_image(
        self,
        name: str,
        configuration: InstanceConfiguration,
        volumes: Sequence[tuple[AttachedVolume, str]],
        tags: Mapping[str, str],
    ) -> str:
        """An AMI with the given (volume, snapshot id) pairs; the same name returns the same AMI."""
        ...

    def image_ready(self, image_id: str) -> bool:
        """Whether the AMI can be launched. Raises PermanentError when it failed."""
        ...

    def run_instance(
        self,
        image_id: str,
        configuration: InstanceConfiguration,
        settings: InstanceSettings,
        *,
        tags: Mapping[str, str],
        volume_tags: Mapping[str, str],
        encryption: Mapping[str, str],
        token: str,
    ) -> str:
        """Launch one instance with one new network interface; returns its id.

        ``settings`` is final: what is empty there is not set. ``encryption`` names devices to encrypt anew,
        with the key for each (empty: the account's default key).
        """
        ...

    def instance_volumes(self, instance_id: str) -> tuple[str, Mapping[str, str]]:
        """State of an instance (``pending`` until it is to be seen), and its volume ids by device."""
        ...

    def tag(self, resource_id: str, tags: Mapping[str, str]) -> None:
        """Add tags to something this restore created."""
        ...

    def remove_image(self, name: str, tags: Mapping[str, str]) -> Sequence[str]:
        """Remove the AMI of that name if it still carries ``tags``; the ids of what was removed."""
        ...


class SnapshotCopier(Protocol):
    """Copies of EBS snapshots: sharing in the source's Region, copying into the Region of the session."""

    def default_key(self) -> str:
        """ARN of the key that AWS manages for EBS in this account and Region; it is never shared."""
        ...

    def share(self, snapshot_id: str, account: str) -> None:
        """Let an account read a snapshot. Raises PermanentError for the default key: it is never shared."""
        ...

    def unshare(self, snapshot_id: str, account: str) -> None:
        """Take that back; harmless when it was not shared, or is gone."""
        ...

    def copy(
        self,
        snapshot_id: str,
        source_region: str,
        *,
        encrypted: bool,
        kms_key_arn: str,
        description: str,
        tags: Mapping[str, str],
    ) -> str:
        """Start a copy of a completed snapshot into this Region and return its id.

        Not idempotent: a call without an answer (UnavailableError) may have made one. Raises ThrottledError
        while too many copies into this Region are in progress.
        """
        ...
