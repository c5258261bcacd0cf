"""Disks with content: what volumes and snapshots hold, and when a snapshot becomes complete.

A snapshot shares the blocks that its volume had at that instant; what the guest writes later goes elsewhere.
Everything the simulator proves about backups rests on this.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from moto.ec2.models import ec2_backends
from moto.ec2.models.elastic_block_store import EBSBackend, Snapshot, Volume

from holdfast.errors import NotFoundError
from simulator import kms
from simulator.blocks import BLOCK, BlockFiles, BlockMap, copy_sparse, filled_blocks, read_block
from simulator.clock import VirtualClock
from simulator.patches import Patches
from simulator.world import BlockStorage

GIB_BLOCKS = 2048
_patches = Patches()


@dataclass
class Disk:
    """The content of a volume. Volumes of one lineage have comparable snapshots."""

    blocks: BlockMap
    lineage: str


@dataclass
class Frozen:
    """The content of a snapshot. ``sealed`` is false while it is still being written through EBS direct APIs.

    ``written`` holds the SHA-256 of every block that was put; ``error`` says why the snapshot failed.
    """

    blocks: BlockMap
    lineage: str
    size_gib: int
    starts_at: datetime
    completes_at: datetime
    sealed: bool = True
    parent_id: str = ""
    expires_at: datetime | None = None
    written: dict[int, bytes] = field(default_factory=dict)
    error: str = ""

    def state(self, now: datetime) -> str:
        """``pending``, ``completed`` or ``error`` at ``now``."""
        if self.error or (not self.sealed and self.expires_at is not None and now >= self.expires_at):
            return "error"
        return "completed" if self.sealed and now >= self.completes_at else "pending"

    def progress(self, now: datetime) -> str:
        """Percentage done at ``now``, as EC2 writes it."""
        total = (self.completes_at - self.starts_at).total_seconds()
        if self.state(now) != "pending":
            return "100%" if not self.error else ""
        return (
            f"{int(100 * min(0.99, (now - self.starts_at).total_seconds() / total))}%" if total > 0 else "0%"
        )


@dataclass(frozen=True)
class SnapshotContent:
    """Reads what a snapshot holds; blocks that are not allocated read as zeros."""

    files: BlockFiles
    frozen: Frozen

    @property
    def size_bytes(self) -> int:
        """Size of the volume the snapshot was taken of."""
        return self.frozen.size_gib * GIB_BLOCKS * BLOCK

    def block(self, index: int) -> bytes | None:
        """One block, None when it is not allocated."""
        ref = self.frozen.blocks[index]
        return self.files.read(ref) if ref else None

    def allocated(self) -> Iterator[int]:
        """Indexes of allocated blocks, ascending."""
        return self.frozen.blocks.allocated()

    def sha256(self) -> str:
        """SHA-256 of the whole volume, as a raw image would have it."""
        digest, zeros = hashlib.sha256(), bytes(BLOCK)
        for index in range(self.frozen.size_gib * GIB_BLOCKS):
            digest.update(self.block(index) or zeros)
        return digest.hexdigest()


class ElasticBlockStore:
    """All disks of the simulated AWS, in every account and Region."""

    def __init__(self, directory: Path, clock: VirtualClock, settings: BlockStorage) -> None:
        self.clock = clock
        self.settings = settings
        self.files = BlockFiles(directory / "blocks")
        self._images = directory / "volumes"
        self._writing = threading.Lock()

    def write_blocks(self, volume_id: str, index: int, content: bytes) -> None:
        """A guest writes ``content`` (whole blocks) from block ``index`` on."""
        volume = self.volume(volume_id)
        if len(content) % BLOCK or not content:
            raise ValueError(
                f"{volume_id}: a guest writes whole blocks of {BLOCK} bytes, not {len(content)} bytes"
            )
        count = len(content) // BLOCK
        if index < 0 or index + count > volume.size * GIB_BLOCKS:
            raise ValueError(
                f"{volume_id}: blocks {index}..{index + count - 1} are outside of {volume.size} GiB"
            )
        blocks, view = disk(volume).blocks, memoryview(content)
        for number in range(count):
            self._put(blocks, index + number, self.files.write(view[number * BLOCK : (number + 1) * BLOCK]))

    def discard_blocks(self, volume_id: str, index: int, count: int) -> None:
        """A guest trims blocks: they are not allocated any more."""
        blocks = disk(self.volume(volume_id)).blocks
        for number in range(index, index + count):
            self._put(blocks, number, 0)

    def write_image(self, volume_id: str, path: Path) -> int:
        """Make the volume hold exactly what the raw image at ``path`` holds; returns how many blocks changed.

        Only blocks that differ are written; holes of the image are trimmed.
        """
        volume = self.volume(volume_id)
        self._check_fits(volume, path)
        blocks, present, changed = disk(volume).blocks, set(), 0
        with path.open("rb") as image:
            for index in filled_blocks(image.fileno()):
                present.add(index)
                content = read_block(image.fileno(), index)
                old = blocks[index]
                if not old or self.files.read(old) != content:
                    self._put(blocks, index, self.files.write(content))
                    changed += 1
        for index in [index for index in blocks.allocated() if index not in present]:
            self._put(blocks, index, 0)
            changed += 1
        return changed

    def seed(self, volume: Volume, image: Path) -> None:
        """Put a raw image on a new volume; the image is copied sparsely, so that the original may change."""
        self._check_fits(volume, image)
        copy = self._images / f"{volume.id}.raw"
        copy_sparse(image, copy)
        blocks = disk(volume).blocks
        for index, ref in self.files.add_image(copy):
            blocks[index] = ref

    def volume(self, volume_id: str) -> Volume:
        """A volume of any account and Region. Raises NotFoundError."""
        found = (held for one in _backends() if (held := one.volumes.get(volume_id)))
        volume: Volume | None = next(found, None)
        if volume is not None:
            return volume
        raise NotFoundError("there is no such volume", resource=volume_id)

    def snapshot(self, snapshot_id: str) -> Snapshot:
        """A snapshot of any account and Region. Raises NotFoundError."""
        found = (held for one in _backends() if (held := one.snapshots.get(snapshot_id)))
        snapshot: Snapshot | None = next(found, None)
        if snapshot is not None:
            return snapshot
        raise NotFoundError("there is no such snapshot", resource=snapshot_id)

    def snapshot_content(self, snapshot_id: str) -> SnapshotContent:
        """What a snapshot holds. Raises NotFoundError."""
        return SnapshotContent(self.files, frozen(self.snapshot(snapshot_id)))

    def volume_content(self, volume_id: str) -> SnapshotContent:
        """What a volume holds now. Raises NotFoundError."""
        volume, now = self.volume(volume_id), self.clock.now()
        held = disk(volume)
        return SnapshotContent(self.files, Frozen(held.blocks.share(), held.lineage, volume.size, now, now))

    def fail_snapshot(self, snapshot_id: str, reason: str = "simulated failure") -> None:
        """Let a snapshot end in the state ``error``."""
        frozen(self.snapshot(snapshot_id)).error = reason

    def reclaim(self) -> None:
        """Give the disk space of blocks back that no volume and no snapshot holds any more."""
        seen: set[int] = set()
        refs: set[int] = set()
        for backend in _backends():
            held = [disk(volume).blocks for volume in backend.volumes.values()]
            held += [frozen(snapshot).blocks for snapshot in backend.snapshots.values()]
            for blocks in held:
                refs.update(blocks.references(seen))
        self.files.keep_only(refs)

    def close(self) -> None:
        """Close all files."""
        self.files.close()

    def put_block(self, content: Frozen, index: int, block: bytes, digest: bytes) -> None:
        """Write one block of a snapshot that is not sealed; ``digest`` is its SHA-256."""
        ref = self.files.write(block, digest)
        with self._writing:
            content.blocks[index] = ref
            content.written[index] = digest

    def _put(self, blocks: BlockMap, index: int, ref: int) -> None:
        with self._writing:
            blocks[index] = ref

    def _check_fits(self, volume: Volume, image: Path) -> None:
        size, room = image.stat().st_size, volume.size * GIB_BLOCKS * BLOCK
        if size > room:
            raise ValueError(f"{image} has {size} bytes, {volume.id} has room for {room}")


def disk(volume: Volume) -> Disk:
    """The content of a volume, empty when it never had one."""
    held: Disk | None = volume.__dict__.get("disk")
    if held is None:
        held = volume.__dict__["disk"] = Disk(BlockMap(), volume.id)
    return held


def frozen(snapshot: Snapshot) -> Frozen:
    """The content of a snapshot."""
    content: Frozen = snapshot.__dict__["frozen"]
    return content


def new_volume(backend: Any, size_gib: int) -> Volume:
    """A volume that stands only for where a snapshot came from; EC2 shows it as vol-ffffffff."""
    make: Any = Volume
    volume: Volume = make(backend, "vol-ffffffff", size_gib, None)
    return volume


def _backends() -> list[Any]:
    return [backend for _, _, backend in list(ec2_backends.iter_backends())]


def find_readable(account: str, region: str, snapshot_id: str) -> Snapshot | None:
    """A snapshot that ``account`` owns in ``region`` or that was shared with it."""
    own = ec2_backends[account][region].snapshots.get(snapshot_id)
    if own is not None:
        return own
    for other in list(ec2_backends):
        if other != account and region in ec2_backends[other].keys():  # noqa: SIM118 `in` would create the Region
            found = ec2_backends[other][region].snapshots.get(snapshot_id)
            if found is not None and (
                account in found.create_volume_permission_userids
                or "all" in found.create_volume_permission_groups
            ):
                return found
    return None


def install(simulator: Any) -> None:
    """Give moto's volumes and snapshots content."""
    store: ElasticBlockStore = simulator.ebs

    def create_snapshot(backend: Any, volume_id: str, *arguments: Any, **options: Any) -> Snapshot:
        snapshot: Snapshot = original_create_snapshot(backend, volume_id, *arguments, **options)
        volume, now = snapshot.volume, store.clock.now()
        seconds = 0 if snapshot.from_ami else store.settings.snapshot_seconds
        held = disk(volume)
        snapshot.__dict__["frozen"] = Frozen(
            held.blocks.share(), held.lineage, volume.size, now, now + timedelta(seconds=seconds)
        )
        snapshot.kms_key_id = volume.kms_key_id
        return snapshot

    def get_status(snapshot: Snapshot) -> str:
        content: Frozen | None = snapshot.__dict__.get("frozen")
        return content.state(store.clock.now()) if content else "completed"

    def get_progress(snapshot: Snapshot) -> str:
        content: Frozen | None = snapshot.__dict__.get("frozen")
        return content.progress(store.clock.now()) if content else "100%"

    def set_status(snapshot: Snapshot, status: str) -> None:
        if status == "error":
            frozen(snapshot).error = "simulated failure"

    def get_size(snapshot: Snapshot) -> int:
        content: Frozen | None = snapshot.__dict__.get("frozen")
        return content.size_gib if content else snapshot.volume.size

    def default_key(backend: Any) -> str:
        backend.default_kms_key_id = kms.default_ebs_key(backend.account_id, backend.region_name)
        return str(backend.default_kms_key_id)

    original_create_snapshot = _patches.set(EBSBackend, "create_snapshot", create_snapshot)
    _patches.set(EBSBackend, "_create_default_encryption_key", default_key)
    _patches.set(Snapshot, "status", property(get_status, set_status))
    _patches.set(Snapshot, "state", property(get_status))
    _patches.set(Snapshot, "progress", property(get_progress))
    _patches.set(Snapshot, "volume_size", property(get_size))


def uninstall() -> None:
    """Give moto its own disks back."""
    _patches.undo()
