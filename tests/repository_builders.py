"""Small repositories with good defaults, for every test that needs one."""

from __future__ import annotations

import hashlib
from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from holdfast.errors import KeyUnavailableError
from holdfast.model.blocks import BLOCK_SIZE, GIB, segments
from holdfast.model.inventory import AttachedVolume, Instance, InstanceConfiguration
from holdfast.ports import KeyWrapper, ObjectStore
from holdfast.repository.layout import PointName, point_name
from holdfast.repository.manifest import PointManifest, manifest_root, volume_manifest
from holdfast.repository.map import SegmentRef
from holdfast.repository.password import PasswordWrapper
from holdfast.repository.repository import Repository

NOW = datetime(2026, 11, 22, 7, tzinfo=UTC)
INSTALLATION = "test-installation"
INSTANCE = "i-0123456789abcdef0"
VOLUME = "vol-0123456789abcdef0"


class SeededIds:
    """Bytes that look random and are the same in every run with the same seed."""

    def __init__(self, seed: str = "seed") -> None:
        self._seed = seed
        self._count = 0

    def random_bytes(self, count: int) -> bytes:
        self._count += 1
        return hashlib.shake_256(f"{self._seed}:{self._count}".encode()).digest(count)


class FixedClock:
    """A clock that a test moves."""

    def __init__(self, now: datetime = NOW) -> None:
        self.current = now

    def now(self) -> datetime:
        return self.current

    def advance(self, by: timedelta) -> None:
        self.current += by


class FakeKms:
    """A KeyWrapper as KMS is one: the key never leaves, the encryption context is bound."""

    def __init__(self, name: str = "key-1") -> None:
        self.name = name
        self.enabled = True
        self._aead = AESGCM(hashlib.sha256(name.encode()).digest())

    def wrap(self, key: bytes, repository_id: str) -> Mapping[str, str | int]:
        blob = self._aead.encrypt(bytes(12), key, repository_id.encode())
        arn = f"arn:aws:kms:eu-central-1:111122223333:key/{self.name}"
        return {"kind": "kms", "key_arn": arn, "wrapped": b64encode(blob).decode()}

    def unwrap(self, header: Mapping[str, str | int], repository_id: str) -> bytes:
        if not self.enabled or header.get("kind") != "kms":
            raise KeyUnavailableError("The key is disabled.", resource=self.name)
        try:
            return self._aead.decrypt(bytes(12), b64decode(str(header["wrapped"])), repository_id.encode())
        except Exception as error:
            raise KeyUnavailableError("KMS refused the key.", resource=self.name) from error


def password(text: str = "correct horse", seed: str = "salt") -> PasswordWrapper:
    """A password wrapper that costs next to nothing."""
    return PasswordWrapper(text, SeededIds(seed), memory_kib=32, iterations=1, lanes=1)


def make_repository(
    store: ObjectStore, key_wrapper: KeyWrapper | None = None, *, seed: str = "repository"
) -> Repository:
    """An owned, empty repository."""
    repository = Repository.create(store, SeededIds(seed), FixedClock(), key_wrapper=key_wrapper)
    repository.claim(INSTALLATION, NOW)
    return repository


def block(seed: str | int, *, compressible: bool = False) -> bytes:
    """BLOCK_SIZE bytes, different for every seed."""
    length = BLOCK_SIZE // 8 if compressible else BLOCK_SIZE
    return hashlib.shake_256(str(seed).encode()).digest(length) * (BLOCK_SIZE // length)


def digest(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()


def write_segment(
    repository: Repository,
    content: Mapping[int, bytes],
    removed: Iterable[int] = (),
    *,
    previous: SegmentRef | None = None,
    first: int = 0,
    ids: SeededIds,
    pack_bytes: int = 4 << 20,
) -> SegmentRef | None:
    """Back up blocks of one segment (block index of the volume -> bytes); the new map."""
    writer = repository.pack_writer(ids, pack_bytes=pack_bytes, buffers=1)
    rows = {index: writer.append(data, digest(data)) for index, data in sorted(content.items())}
    writer.flush()
    return repository.store_map(
        repository.load_map(previous, first), rows, removed, ids=ids, pack_bytes=writer.sealed
    )


def configuration(volumes: Iterable[tuple[str, str, int]]) -> InstanceConfiguration:
    """An instance with volumes (id, device, bytes)."""
    attached = tuple(AttachedVolume(volume_id=v, device=d, size_bytes=s) for v, d, s in volumes)
    instance = Instance(
        instance_id=INSTANCE, account="111122223333", region="eu-central-1", name="web", volumes=attached
    )
    return InstanceConfiguration(instance=instance, image_id="ami-1", instance_type="t4g.micro")


def make_manifest(
    refs: Mapping[int, SegmentRef | None], *, point_id: str = "p1", size_bytes: int = GIB, full: bool = True
) -> PointManifest:
    """A point of one volume; ``refs`` by segment index."""
    parts = [refs.get(segment.index) for segment in segments(size_bytes)]
    volumes = (volume_manifest(VOLUME, "/dev/xvda", size_bytes, parts, "snap-1"),)
    return PointManifest(
        point_id=point_id,
        taken_at=NOW,
        session_id=f"session-{point_id}",
        policy="daily",
        full=full,
        stored_bytes=1,
        configuration=configuration([(VOLUME, "/dev/xvda", size_bytes)]),
        volumes=volumes,
        root=manifest_root(volumes),
    )


def commit(repository: Repository, manifest: PointManifest, *, seed: str = "") -> PointName:
    """Make a point visible; its name."""
    repository.commit_point(
        manifest, ids=SeededIds(f"point {manifest.point_id}{seed}"), installation=INSTALLATION
    )
    return point_name(manifest.instance_id, manifest.point_id)


def read_volume(repository: Repository, name: PointName, volume: int = 0) -> dict[int, bytes]:
    """Every allocated block of a volume of a point, read the way a restore reads it."""
    manifest = repository.read_point(name)
    entry = manifest.volumes[volume]
    content: dict[int, bytes] = {}
    for segment, ref in zip(segments(entry.size_bytes), entry.segments, strict=True):
        if ref is not None:
            rows = repository.load_map(ref, segment.start).blocks(segment.start, segment.end)
            content.update(repository.read_blocks(rows, ref.epoch))
    return content
