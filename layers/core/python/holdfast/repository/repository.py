"""A repository: open, create, write packs, maps and points, read them back.

Order of writes: packs, then maps, then the manifest. Readers trust manifests alone, so a crash anywhere
leaves garbage, never a broken restore point. Models of manifests are imported where they are used: workers
move blocks and need none.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from holdfast.errors import (
    ConfigurationError,
    ConflictError,
    DamagedError,
    KeyUnavailableError,
    NotFoundError,
)
from holdfast.model.ids import stamp
from holdfast.ports import Clock, IdSource, KeyWrapper, ObjectStore
from holdfast.repository import check, expiry, owner
from holdfast.repository.blocks import BlockOpener, coalesce
from holdfast.repository.envelope import envelope_epoch, open_envelope, seal_envelope
from holdfast.repository.header import (
    PACK_CLASSES,
    Header,
    KeyHeader,
    decode_header,
    encode_header,
    verify_mac,
)
from holdfast.repository.keys import KEY_SIZE, Keys
from holdfast.repository.layout import (
    ID_SIZE,
    PLAIN_EPOCH,
    POINTS,
    REPOSITORY_KEY,
    ObjectKind,
    PointName,
    pack_key,
    parse_point_key,
    point_name,
)
from holdfast.repository.map import SegmentMap, SegmentRef, build_map, present, read_range
from holdfast.repository.pack import PackWriter, StoredBlock

if TYPE_CHECKING:
    from holdfast.model.restore_point import RestorePoint
    from holdfast.repository.manifest import PointManifest


class Repository:
    """An open repository. Safe for many threads; many programs may write to one repository at once.

    ``keys`` seal what is written. Objects of an earlier epoch are readable through the points that refer to
    them.
    """

    def __init__(self, store: ObjectStore, header: Header, secret: bytes | None) -> None:
        self.store = store
        self.header = header
        epoch = header.encryption.epoch if header.encryption else PLAIN_EPOCH
        self.keys = Keys(header.id, epoch, secret)
        self._adopted: Mapping[str, str] | None = None

    @classmethod
    def create(
        cls,
        store: ObjectStore,
        ids: IdSource,
        clock: Clock,
        *,
        key_wrapper: KeyWrapper | None = None,
        pack_class: str = "STANDARD",
    ) -> Repository:
        """Make an empty repository. Raises ConflictError when there is one already, ConfigurationError."""
        if pack_class not in PACK_CLASSES:
            raise ConfigurationError(
                f"{pack_class!r} is no storage class for packs.",
                remedy=f"Use one of {', '.join(PACK_CLASSES)}.",
            )
        repository_id = ids.random_bytes(ID_SIZE)
        secret = ids.random_bytes(KEY_SIZE) if key_wrapper else None
        encryption = None
        if key_wrapper and secret:
            encryption = KeyHeader(epoch=1, key=dict(key_wrapper.wrap(secret, repository_id.hex())))
        header = Header(repository_id.hex(), stamp(clock.now()), pack_class, encryption)
        try:
            store.put_new(REPOSITORY_KEY, encode_header(header, secret))
        except ConflictError:
            raise ConflictError(
                "There is a repository already.",
                resource=REPOSITORY_KEY,
                remedy="Open it, or choose another folder.",
            ) from None
        return cls(store, header, secret)

    @classmethod
    def open(cls, store: ObjectStore, key_wrapper: KeyWrapper | None = None) -> Repository:
        """Open what :meth:`create` made. With a ``key_wrapper`` only an encrypted repository is accepted.

        Raises NotFoundError, KeyUnavailableError (no key, wrong key), DamagedError, ConfigurationError (a
        later format version).
        """
        header, mac = decode_header(read_header(store))
        if header.encryption is None:
            if key_wrapper is not None:
                raise DamagedError(
                    "The repository is not encrypted, although a key was given for it.",
                    resource=REPOSITORY_KEY,
                    remedy="If its encryption was just configured, enable it on the repository; "
                    "otherwise somebody has replaced this object.",
                )
            return cls(store, header, None)
        if key_wrapper is None:
            raise KeyUnavailableError(
                "The repository is encrypted.",
                resource=REPOSITORY_KEY,
                remedy="Give its password or KMS key.",
            )
        secret = key_wrapper.unwrap(header.encryption.key, header.repository_id)
        verify_mac(header, mac, secret)
        return cls(store, header, secret)

    @property
    def id(self) -> str:
        return self.header.repository_id

    @property
    def encrypted(self) -> bool:
        return self.keys.secret is not None

    def claim(self, installation: str, now: datetime, *, take_over: bool = False) -> owner.Owner:
        """See :func:`holdfast.repository.owner.claim`."""
        return owner.claim(self.store, self.id, installation, now, take_over=take_over)

    def owner(self) -> owner.Owner | None:
        """Who owns the repository."""
        return owner.read_owner(self.store, self.id)

    def pack_writer(
        self,
        ids: IdSource,
        *,
        pack_bytes: int = 32 << 20,
        buffers: int = 3,
        put: Callable[[bytes, memoryview], None] | None = None,
    ) -> PackWriter:
        """A writer whose packs go to this repository (or through ``put``, which calls :meth:`put_pack`)."""
        return PackWriter(self.keys, ids, put or self.put_pack, pack_bytes=pack_bytes, buffers=buffers)

    def put_pack(self, pack_id: bytes, content: memoryview) -> None:
        """Store a finished pack in the repository's storage class. Putting the same bytes again is fine."""
        self._put(pack_key(pack_id), content, storage_class=self.header.pack_class)

    def load_map(self, ref: SegmentRef | None, first: int = 0) -> SegmentMap:
        """The map behind a reference, an empty one for None; ``first`` is the volume's index of its block 0.

        Raises DamagedError.
        """
        return SegmentMap(self.store, self.keys_of(ref.epoch) if ref else self.keys, ref, first)

    def store_map(
        self,
        previous: SegmentMap,
        changed: Mapping[int, StoredBlock],
        removed: Iterable[int],
        *,
        ids: IdSource,
        pack_bytes: Mapping[bytes, int],
    ) -> SegmentRef | None:
        """Write the map after a backup, and return its reference; see ``map.build_map``."""
        ref, content = build_map(
            previous, changed, frozenset(removed), keys=self.keys, ids=ids, pack_bytes=pack_bytes
        )
        if ref is not None and content:
            self._put(ref.key, content)
        return ref

    def opener(self, epoch: int | None = None) -> BlockOpener:
        """Opens the blocks of maps of ``epoch`` (the present one when None)."""
        return BlockOpener(self.keys if epoch is None else self.keys_of(epoch))

    def read_blocks(
        self, blocks: Iterable[tuple[int, StoredBlock]], epoch: int | None = None
    ) -> Iterator[tuple[int, bytes]]:
        """The content of blocks, in pack order, one ranged request after the other. Raises DamagedError."""
        opener = self.opener(epoch)
        for span in coalesce(blocks):
            content = read_range(self.store, pack_key(span.pack_id), span.offset, span.length)
            for index, block in span.blocks:
                yield index, opener.open(block, span.slice(content, block))

    def keys_of(self, epoch: int) -> Keys:
        """The keys of objects of ``epoch``. Raises DamagedError for an epoch that never was."""
        if epoch == self.keys.epoch:
            return self.keys
        if epoch == PLAIN_EPOCH:
            return self.keys.plain()
        raise DamagedError(f"The repository has no key of epoch {epoch}.", resource=REPOSITORY_KEY)

    def commit_point(self, manifest: PointManifest, *, ids: IdSource, installation: str) -> PointManifest:
        """Make a restore point visible; everything that it reaches must be stored already.

        Committing the same point of the same session again returns the one that is there. Raises
        ConflictError when another point has this name, when ``installation`` is not the owner, or when the
        repository was encrypted meanwhile.
        """
        owner.require_owner(self.store, self.id, installation)
        foreign = next((ref for ref in manifest.references() if ref.epoch != self.keys.epoch), None)
        if foreign is not None:
            raise ConflictError(
                "The restore point reuses a map from before the repository was encrypted.",
                resource=foreign.key,
                remedy="Run a full backup.",
            )
        name = point_name(manifest.instance_id, manifest.point_id)
        content = seal_envelope(self.keys, ObjectKind.POINT, name.key, manifest.model_dump(mode="json"), ids)
        try:
            self.store.put_new(name.key, content)
        except ConflictError:
            there = self.read_point(name)
            if there.session_id == manifest.session_id and there.root == manifest.root:
                return there
            raise ConflictError("Another restore point has this name.", resource=name.key) from None
        if not self.encrypted:
            self._withdraw_if_encrypted(name)
        return manifest

    def is_reusable(self, manifest: PointManifest) -> bool:
        """Whether the next backup may build on this point; not when it predates encryption."""
        return all(ref.epoch == self.keys.epoch for ref in manifest.references())

    def list_points(self, instance_id: str = "") -> Iterator[PointName]:
        """Names of restore points, in order; of one instance when given. Nothing is opened."""
        prefix = f"{POINTS}{instance_id}/" if instance_id else POINTS
        for stat in self.store.list(prefix):
            name = parse_point_key(stat.key)
            if name is not None:
                yield name

    def read_point(self, name: PointName) -> PointManifest:
        """The manifest of a restore point. Raises NotFoundError, DamagedError."""
        from holdfast.repository.manifest import parse_manifest

        content = self.store.get(name.key)
        manifest = parse_manifest(self._open_point(name, content), name.key)
        epoch = envelope_epoch(content)
        if (manifest.instance_id, manifest.point_id) != name or any(
            ref.epoch != epoch for ref in manifest.references()
        ):
            raise DamagedError(f"{name.key} describes something else.", resource=name.key)
        return manifest

    def rebuild(
        self, repository: str, on_damage: Callable[[PointName, DamagedError], None] | None = None
    ) -> Iterator[RestorePoint]:
        """Every restore point for the catalog, from manifests alone; ``repository`` is its configured name.

        A damaged manifest is given to ``on_damage``, or raises DamagedError.
        """
        from holdfast.repository.manifest import restore_point

        for name in self.list_points():
            try:
                manifest = self.read_point(name)
            except DamagedError as error:
                if on_damage is None:
                    raise
                on_damage(name, error)
            else:
                yield restore_point(manifest, repository)

    def expire_points(
        self, expired: Iterable[PointName], now: datetime, *, ids: IdSource, installation: str
    ) -> expiry.Expiry:
        """Delete restore points in two steps; see :func:`holdfast.repository.expiry.expire_points`."""
        return expiry.expire_points(self, expired, now, ids=ids, installation=installation)

    def mark_points(
        self, names: Iterable[PointName], now: datetime, *, ids: IdSource, installation: str
    ) -> None:
        """Mark restore points to be deleted; see :func:`holdfast.repository.expiry.mark_points`."""
        expiry.mark_points(self, names, now, ids=ids, installation=installation)

    def check(self, *, read_data: bool = False, percent: float = 100, salt: bytes = b"") -> check.CheckReport:
        """Verify the repository; see :func:`holdfast.repository.check.check_repository`."""
        return check.check_repository(self, read_data=read_data, percent=percent, salt=salt)

    def open_document(self, kind: ObjectKind, key: str) -> Any:
        """The document of an envelope of the present epoch. Raises NotFoundError, DamagedError."""
        return open_envelope(self.keys, kind, key, self.store.get(key))

    def _open_point(self, name: PointName, content: bytes) -> Any:
        if self.encrypted and envelope_epoch(content) == PLAIN_EPOCH:
            digest = hashlib.sha256(content).hexdigest()
            if self._adopted_points().get(name.key) != digest:
                raise DamagedError(
                    f"{name.key} is not encrypted, and is none of the points from before encryption.",
                    resource=name.key,
                )
            return open_envelope(self.keys.plain(), ObjectKind.POINT, name.key, content)
        return open_envelope(self.keys, ObjectKind.POINT, name.key, content)

    def _adopted_points(self) -> Mapping[str, str]:
        if self._adopted is None:
            adopted = self.header.encryption.plain_points if self.header.encryption else None
            if adopted is None or adopted == "pending":
                self._adopted = {}
            else:
                content = present(lambda: self.store.get(adopted.key), adopted.key)
                if hashlib.sha256(content).hexdigest() != adopted.digest:
                    raise DamagedError(f"{adopted.key} does not match its digest.", resource=adopted.key)
                self._adopted = open_envelope(self.keys, ObjectKind.ADOPTED, adopted.key, content)
        return self._adopted

    def _withdraw_if_encrypted(self, name: PointName) -> None:
        """A plain point that missed the list of adopted ones must not stay: nobody could trust it."""
        header, _ = decode_header(read_header(self.store))
        if header.encryption is not None:
            self.store.delete(name.key)
            raise ConflictError(
                "The repository was encrypted while this backup ran.",
                resource=REPOSITORY_KEY,
                remedy="Run the backup again; it will be a full one.",
            )

    def _put(self, key: str, content: bytes | memoryview, *, storage_class: str = "STANDARD") -> None:
        """Ids are random, so an object that exists is our own from a request whose answer was lost."""
        try:
            self.store.put_new(key, content, storage_class=storage_class)
        except ConflictError:
            if self.store.get(key) != content:
                raise


def read_header(store: ObjectStore) -> bytes:
    """repository.json. Raises NotFoundError saying that there is no repository."""
    try:
        return store.get(REPOSITORY_KEY)
    except NotFoundError:
        raise NotFoundError(
            "There is no repository here.",
            resource=REPOSITORY_KEY,
            remedy="Check bucket and folder, or create the repository.",
        ) from None
