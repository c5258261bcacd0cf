"""The world of sessions with what restores and manual snapshots need: targets, copies, full repositories."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from holdfast.errors import HoldfastError, PermanentError, ThrottledError, UnavailableError
from holdfast.model.blocks import segments
from holdfast.model.inventory import AttachedVolume, InstanceConfiguration
from holdfast.model.restore import InstanceSettings
from holdfast.repository.manifest import PointManifest, manifest_root, volume_manifest
from tests.repository_builders import SeededIds, write_segment
from tests.session_world import ACCOUNT, REGION, REPOSITORY, AccountRegion, SessionWorld, Snapshot

POINT = "20261122T070000Z-0123456789ab"


@dataclass
class TargetSite:
    """`ports.RestoreSite`; images, volumes and instances are dictionaries by id.

    ``slow`` makes everything stay pending for that many looks; ``faults`` are raised by the next calls.
    """

    spoke: AccountRegion
    volumes: dict[str, dict[str, Any]] = field(default_factory=dict)
    images: dict[str, dict[str, Any]] = field(default_factory=dict)
    instances: dict[str, dict[str, Any]] = field(default_factory=dict)
    faults: dict[str, list[HoldfastError]] = field(default_factory=dict)
    tokens: dict[str, str] = field(default_factory=dict)
    slow: int = 0
    state: str = "running"

    def _enter(self, operation: str) -> None:
        if self.faults.get(operation):
            raise self.faults[operation].pop(0)

    def _is_slow(self) -> bool:
        self.slow -= 1
        return self.slow >= 0

    def _new(self, kind: str) -> str:
        return f"{kind}-{next(self.spoke.world.numbers):017x}"

    def create_volume(self, snapshot_id: str, like: AttachedVolume, **wanted: Any) -> str:
        self._enter("create_volume")
        token = wanted.pop("token")
        if token not in self.tokens:
            self.tokens[token] = self._new("vol")
            content = dict(self.spoke.world.ebs.snapshots[snapshot_id])
            self.volumes[self.tokens[token]] = {"like": like, "content": content, **wanted}
        return self.tokens[token]

    def volumes_ready(self, volume_ids: Sequence[str]) -> bool:
        self._enter("volumes_ready")
        return not self._is_slow() and all(one in self.volumes for one in volume_ids)

    def register_image(
        self,
        name: str,
        configuration: InstanceConfiguration,
        volumes: Sequence[tuple[AttachedVolume, str]],
        tags: Mapping[str, str],
    ) -> str:
        self._enter("register_image")
        if name not in self.images:
            self.images[name] = {"id": self._new("ami"), "tags": dict(tags), "volumes": list(volumes)}
        return str(self.images[name]["id"])

    def image_ready(self, image_id: str) -> bool:
        return not self._is_slow()

    def run_instance(
        self, image_id: str, configuration: InstanceConfiguration, settings: InstanceSettings, **wanted: Any
    ) -> str:
        self._enter("run_instance")
        token = wanted.pop("token")
        if token not in self.tokens:
            self.tokens[token] = self._new("i")
            image = next(one for one in self.images.values() if one["id"] == image_id)
            devices = {}
            for volume, snapshot_id in image["volumes"]:
                devices[volume.device] = self.create_volume(
                    snapshot_id, volume, token=f"{token}{volume.device}", tags=wanted["volume_tags"]
                )
            self.instances[self.tokens[token]] = {"settings": settings, "devices": devices, **wanted}
        return self.tokens[token]

    def instance_volumes(self, instance_id: str) -> tuple[str, Mapping[str, str]]:
        if self._is_slow():
            return "pending", {}
        return self.state, self.instances[instance_id]["devices"]

    def tag(self, resource_id: str, tags: Mapping[str, str]) -> None:
        self._enter("tag")
        self.volumes[resource_id]["tags"] = {**self.volumes[resource_id]["tags"], **tags}

    def remove_image(self, name: str, tags: Mapping[str, str]) -> Sequence[str]:
        self._enter("remove_image")
        if name in self.images and tags.items() <= self.images[name]["tags"].items():
            return [self.images.pop(name)["id"]]
        return []


class TargetWriter:
    """`ports.SnapshotWriter` whose snapshots are those of an account, with their tags."""

    def __init__(self, spoke: AccountRegion) -> None:
        self._spoke = spoke
        self._started: dict[str, str] = {}
        self.encryption: dict[str, tuple[bool, str]] = {}
        self.completed: dict[str, int] = {}
        self.faults: dict[str, list[HoldfastError]] = {}

    def _enter(self, operation: str) -> None:
        if self.faults.get(operation):
            raise self.faults[operation].pop(0)

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
        self._enter("start")
        world = self._spoke.world
        if token not in self._started:
            snapshot_id = self._started[token] = f"snap-{next(world.numbers):017x}"
            self._spoke.snapshots[snapshot_id] = Snapshot(
                snapshot_id, "vol-ffffffff", "pending", world.clock.now(), size_bytes, dict(tags)
            )
            world.ebs.snapshots[snapshot_id] = {}
            self.encryption[snapshot_id] = (encrypted, kms_key_arn)
        return self._started[token]

    def put(self, snapshot_id: str, index: int, content: bytes | memoryview, digest: bytes) -> None:
        self._enter("put")
        assert hashlib.sha256(content).digest() == digest
        self._spoke.world.ebs.snapshots[snapshot_id][index] = bytes(content)

    def complete(self, snapshot_id: str, block_count: int, aggregate: bytes) -> None:
        self._enter("complete")
        blocks = self._spoke.world.ebs.snapshots[snapshot_id]
        digests = b"".join(hashlib.sha256(blocks[index]).digest() for index in sorted(blocks))
        if (len(blocks), hashlib.sha256(digests).digest()) != (block_count, aggregate):
            raise PermanentError("EBS refused: the aggregate checksum does not match.", resource=snapshot_id)
        self._spoke.snapshots[snapshot_id].state = "completed"
        self.completed[snapshot_id] = self.completed.get(snapshot_id, 0) + 1


class Copier:
    """`ports.SnapshotCopier` of one account and Region; at most ``room`` copies can be started.

    ``refusals`` are raised by the next copies; of so many as ``answers_lost`` the answer gets lost.
    """

    def __init__(self, spoke: AccountRegion) -> None:
        self._spoke = spoke
        self.shared: dict[str, set[str]] = {}
        self.keys: dict[str, str] = {}
        self.room = 20
        self.refusal: HoldfastError | None = None
        self.refusals: list[HoldfastError] = []
        self.answers_lost = 0

    def default_key(self) -> str:
        return f"arn:aws:kms:{self._spoke.region}:{self._spoke.account}:key/aws-ebs"

    def share(self, snapshot_id: str, account: str) -> None:
        if self.refusal:
            raise self.refusal
        if self._spoke.snapshots[snapshot_id].kms_key_arn == self.default_key():
            raise PermanentError("The default key aws/ebs is never shared.", resource=snapshot_id)
        self.shared.setdefault(snapshot_id, set()).add(account)

    def unshare(self, snapshot_id: str, account: str) -> None:
        self.shared.get(snapshot_id, set()).discard(account)

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
        world = self._spoke.world
        world.check_role(self._spoke.account)
        if self.refusals:
            raise self.refusals.pop(0)
        if self.room == 0:
            raise ThrottledError("Too many copies are under way.")
        self.room -= 1
        owner = next(
            spoke
            for (_, region), spoke in world.regions.items()
            if region == source_region and snapshot_id in spoke.snapshots
        )
        if owner.account != self._spoke.account:
            assert self._spoke.account in world.copiers[owner.account, source_region].shared[snapshot_id]
        source = owner.snapshots[snapshot_id]
        made = f"snap-{next(world.numbers):017x}"
        key = kms_key_arn or (self.default_key() if encrypted else "")
        self._spoke.snapshots[made] = Snapshot(
            made, "vol-ffffffff", "pending", world.clock.now(), source.size_bytes, dict(tags), kms_key_arn=key
        )
        self.keys[made] = kms_key_arn
        if self.answers_lost:
            self.answers_lost -= 1
            raise UnavailableError("EC2 did not answer.")
        return made


class RestoreWorld(SessionWorld):
    """`operations.services.RestoreServices` and `OnDemandServices` in memory."""

    def __init__(self, configuration: Any = None) -> None:
        super().__init__(configuration)
        self.sites: dict[tuple[str, str], TargetSite] = {}
        self.writers: dict[tuple[str, str], TargetWriter] = {}
        self.copiers: dict[tuple[str, str], Copier] = {}
        self.roles: list[tuple[str, str, str]] = []

    def restore_spoke(self, account: str, region: str) -> AccountRegion:
        return self.spoke("", account, region)

    def restore_site(self, account: str, region: str) -> TargetSite:
        return self.sites.setdefault((account, region), TargetSite(self.restore_spoke(account, region)))

    def snapshot_writer(self, account: str, region: str) -> TargetWriter:
        self.check_role(account)
        return self.writers.setdefault((account, region), TargetWriter(self.restore_spoke(account, region)))

    def spoke_in(self, account: str, region: str, role: str = "") -> AccountRegion:
        self.roles.append((account, region, role))
        return self.spoke("", account, region)

    def snapshot_copier(self, account: str, region: str, role: str = "") -> Copier:
        return self.copiers.setdefault((account, region), Copier(self.spoke("", account, region)))

    @property
    def home(self) -> AccountRegion:
        """EC2 where the instances are."""
        return self.spoke("", ACCOUNT, REGION)

    def adjust(self, instance_id: str, **changes: Any) -> None:
        """Change the configuration of an instance."""
        self.home.machines[instance_id] = self.home.machines[instance_id].model_copy(update=changes)

    def back_up(
        self, instance_id: str, content: Mapping[str, Mapping[int, bytes]], *, point_id: str = POINT
    ) -> PointManifest:
        """Commit a restore point of an instance whose volumes hold these blocks (by device)."""
        repository = self.repository(REPOSITORY, create=True)
        configuration = self.home.machines[instance_id]
        volumes = []
        for volume in configuration.instance.volumes:
            blocks, refs = content.get(volume.device, {}), []
            for segment in segments(volume.size_bytes):
                part = {i: data for i, data in blocks.items() if segment.start <= i < segment.end}
                ids = SeededIds(f"{volume.volume_id} {segment.index} {point_id}")
                refs.append(write_segment(repository, part, first=segment.start, ids=ids) if part else None)
            volumes.append(volume_manifest(volume.volume_id, volume.device, volume.size_bytes, refs))
        manifest = PointManifest(
            point_id=point_id,
            taken_at=self.clock.now(),
            configuration=configuration,
            volumes=tuple(volumes),
            root=manifest_root(volumes),
        )
        repository.commit_point(manifest, ids=SeededIds(point_id), installation=self.settings.installation)
        return manifest
