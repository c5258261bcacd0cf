"""A small world for the story of a session: accounts, catalog, repository and clock in memory.

Everything here keeps the promises of the ports; ``fail`` makes any call of any account misbehave on purpose.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

from holdfast.errors import ConflictError, HoldfastError, NotFoundError, SourceGoneError
from holdfast.model.blocks import BLOCK_SIZE, GIB
from holdfast.model.configuration import Configuration
from holdfast.model.inventory import AttachedVolume, Instance, InstanceConfiguration
from holdfast.model.session import Outcome
from holdfast.ports import Mail, OrganizationAccount, VolumeSnapshot
from holdfast.repository.repository import Repository
from holdfast.settings import Settings
from tests.memory_catalog import MemoryCatalog
from tests.memory_store import MemoryStore
from tests.repository_builders import FixedClock, SeededIds
from tests.snapshots import MemorySnapshots

START = datetime(2026, 11, 22, 7, tzinfo=UTC)
ACCOUNT = "111122223333"
REGION = "eu-central-1"
INSTALLATION = "holdfast"
POLICY = "daily"
REPOSITORY = "main"

Fault = HoldfastError | Callable[[], None]


class MemoryLists:
    """`ports.WorkLists`."""

    def __init__(self) -> None:
        self.documents: dict[str, Any] = {}

    def write(self, key: str, document: Any) -> None:
        self.documents[key] = copy.deepcopy(document)

    def read(self, key: str) -> Any:
        if key not in self.documents:
            raise NotFoundError("There is no such list.", resource=key)
        return copy.deepcopy(self.documents[key])

    def keys(self, prefix: str) -> Iterator[str]:
        return iter(sorted(key for key in self.documents if key.startswith(prefix)))


class RecordedExecutions:
    """`ports.Executions` that keeps what was started and answered."""

    def __init__(self) -> None:
        self.started: dict[str, tuple[str, dict[str, Any]]] = {}
        self.answers: dict[str, dict[str, Any]] = {}
        self.nobody_waits = False

    def start(self, machine_arn: str, name: str, event: Mapping[str, Any]) -> bool:
        if name in self.started:
            return False
        self.started[name] = (machine_arn, dict(event))
        return True

    def succeed(self, token: str, output: Mapping[str, Any]) -> None:
        if self.nobody_waits or token in self.answers:
            raise ConflictError("Nobody waits for this answer any more.")
        self.answers[token] = dict(output)


class RecordedNotifier:
    """`ports.Notifier`; ``broken`` names topics and senders that refuse."""

    def __init__(self) -> None:
        self.notices: list[tuple[str, str, str, dict[str, Any]]] = []
        self.mails: list[Mail] = []
        self.broken: dict[str, HoldfastError] = {}

    def publish(self, topic_arn: str, subject: str, text: str, document: Mapping[str, Any]) -> None:
        if topic_arn in self.broken:
            raise self.broken[topic_arn]
        self.notices.append((topic_arn, subject, text, dict(document)))

    def send(self, mail: Mail) -> None:
        if mail.sender in self.broken:
            raise self.broken[mail.sender]
        self.mails.append(mail)


@dataclass
class Snapshot:
    """A snapshot of a simulated account."""

    snapshot_id: str
    volume_id: str
    state: str
    started_at: datetime
    size_bytes: int
    tags: dict[str, str]
    reason: str = ""
    kms_key_arn: str = ""

    def shown(self) -> VolumeSnapshot:
        return VolumeSnapshot(
            self.snapshot_id,
            self.volume_id,
            self.state,
            self.started_at,
            self.size_bytes,
            dict(self.tags),
            bool(self.kms_key_arn),
            self.kms_key_arn,
            self.reason,
        )


@dataclass
class AccountRegion:
    """`ports.Spoke`: EC2 of one account and Region.

    ``faults`` maps an operation to what its next calls do: raise, or run something first. ``fates`` maps a
    volume to the state its next snapshots take instead of completing; ``lag`` hides new snapshots from tag
    searches until the clock has advanced by it.
    """

    world: SessionWorld
    account: str
    region: str
    machines: dict[str, InstanceConfiguration] = field(default_factory=dict)
    snapshots: dict[str, Snapshot] = field(default_factory=dict)
    faults: dict[str, list[Fault]] = field(default_factory=dict)
    answers_lost: int = 0
    fates: dict[str, str] = field(default_factory=dict)
    pending: bool = False
    lag: timedelta = timedelta()
    calls: list[tuple[str, Any]] = field(default_factory=list)

    def _enter(self, operation: str, argument: Any = None) -> None:
        self.calls.append((operation, argument))
        self.world.check_role(self.account)
        for fault in [self.faults[operation].pop(0)] if self.faults.get(operation) else []:
            if isinstance(fault, HoldfastError):
                raise fault
            fault()

    def instances(self, instance_ids: Sequence[str] = ()) -> Iterator[Instance]:
        self._enter("instances")
        for instance_id, machine in sorted(self.machines.items()):
            if not instance_ids or instance_id in instance_ids:
                yield machine.instance

    def inventory(self) -> Iterator[Instance]:
        self._enter("inventory")
        for _, machine in sorted(self.machines.items()):
            yield machine.instance

    def configuration(self, instance_id: str) -> InstanceConfiguration:
        self._enter("configuration", instance_id)
        if instance_id not in self.machines:
            raise SourceGoneError("The instance was terminated.", resource=instance_id)
        return self.machines[instance_id]

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
        self._enter("create_snapshots", instance_id)
        made = []
        for volume in self.machines[instance_id].instance.volumes:
            if (volume.root and exclude_root) or volume.volume_id in exclude_volumes:
                continue
            snapshot = Snapshot(
                f"snap-{next(self.world.numbers):017x}",
                volume.volume_id,
                self.fates.get(volume.volume_id, "pending" if self.pending else "completed"),
                self.world.clock.now(),
                volume.size_bytes,
                {**(volume.tags if copy_tags else {}), **tags},
                kms_key_arn=volume.kms_key_arn,
            )
            self.snapshots[snapshot.snapshot_id] = snapshot
            self.world.ebs.snapshots[snapshot.snapshot_id] = dict(self.world.disks.get(volume.volume_id, {}))
            made.append(snapshot.shown())
        if self.answers_lost:
            self.answers_lost -= 1
            raise self.world.unanswered
        return made

    def find_snapshots(self, tags: Mapping[str, str]) -> Sequence[VolumeSnapshot]:
        self._enter("find_snapshots", dict(tags))
        seen_until = self.world.clock.now() - self.lag
        return [
            one.shown()
            for one in self.snapshots.values()
            if tags.items() <= one.tags.items() and (not self.lag or one.started_at <= seen_until)
        ]

    def read_snapshots(self, snapshot_ids: Sequence[str]) -> Sequence[VolumeSnapshot]:
        self._enter("read_snapshots", tuple(snapshot_ids))
        return [self.snapshots[one].shown() for one in snapshot_ids if one in self.snapshots]

    def tag_snapshot(self, snapshot_id: str, tags: Mapping[str, str]) -> None:
        self._enter("tag_snapshot", snapshot_id)
        self._existing(snapshot_id).tags.update(tags)

    def untag_snapshot(self, snapshot_id: str, keys: Sequence[str]) -> None:
        self._enter("untag_snapshot", snapshot_id)
        for key in keys:
            self._existing(snapshot_id).tags.pop(key, None)

    def delete_snapshot(self, snapshot_id: str) -> None:
        self._enter("delete_snapshot", snapshot_id)
        self.snapshots.pop(snapshot_id, None)
        self.world.ebs.snapshots.pop(snapshot_id, None)

    def _existing(self, snapshot_id: str) -> Snapshot:
        if snapshot_id not in self.snapshots:
            raise SourceGoneError("The snapshot does not exist.", resource=snapshot_id)
        return self.snapshots[snapshot_id]

    def complete_snapshots(self) -> None:
        for one in self.snapshots.values():
            if one.state == "pending":
                one.state = "completed"


class MemoryOrganization:
    """`ports.OrganizationTree` of nested dictionaries: unit -> (units, accounts)."""

    def __init__(self, tree: Mapping[str, tuple[Sequence[str], Sequence[OrganizationAccount]]]) -> None:
        self._tree = tree

    def roots(self) -> Sequence[str]:
        return [unit for unit in self._tree if unit.startswith("r-")]

    def units(self, parent: str) -> Sequence[str]:
        return self._tree[parent][0]

    def accounts(self, parent: str) -> Sequence[OrganizationAccount]:
        return self._tree[parent][1]


class SessionWorld:
    """`operations.services.Services` in memory."""

    def __init__(self, configuration: Configuration | None = None) -> None:
        self.configuration = configuration or configured()
        self.clock = FixedClock(START)
        self.ids = SeededIds("session")
        self.settings = Settings(
            installation=INSTALLATION,
            hub_region=REGION,
            session_machine_arn=f"arn:aws:states:{REGION}:999999999999:stateMachine:holdfast-session",
            cell_machine_name="holdfast-cell",
            connections=2,
            pack_bytes=4 * BLOCK_SIZE,
        )
        self.catalog = MemoryCatalog()
        self.work = MemoryLists()
        self.notifier = RecordedNotifier()
        self.regions: dict[tuple[str, str], AccountRegion] = {}
        self.organizations: dict[str, MemoryOrganization] = {}
        self.execution_regions: dict[str, RecordedExecutions] = {}
        self.ebs = MemorySnapshots()
        self.disks: dict[str, dict[int, bytes]] = {}
        self.stores: dict[str, MemoryStore] = {}
        self.refused: dict[str, HoldfastError] = {}
        self.metrics: list[tuple[str, dict[str, float]]] = []
        self.numbers = count(1)
        self.seconds_left = float("inf")
        self.unanswered: HoldfastError = HoldfastError("replaced by a test")

    def remaining(self) -> float:
        return self.seconds_left

    def check_role(self, account: str) -> None:
        if account in self.refused:
            raise self.refused[account]

    def executions(self, region: str) -> RecordedExecutions:
        return self.execution_regions.setdefault(region, RecordedExecutions())

    def organization(self, name: str) -> MemoryOrganization:
        return self.organizations[name]

    def spoke(self, policy: str, account: str, region: str) -> AccountRegion:
        return self.regions.setdefault((account, region), AccountRegion(self, account, region))

    def reader(self, policy: str, account: str, region: str) -> MemorySnapshots:
        self.check_role(account)
        return self.ebs

    def repository(self, name: str, *, create: bool = False) -> Repository:
        store = self.stores.setdefault(name, MemoryStore())
        try:
            repository = Repository.open(store)
        except NotFoundError:
            if not create:
                raise
            repository = Repository.create(store, self.ids, self.clock)
        if create:
            repository.claim(INSTALLATION, self.clock.now())
        return repository

    def count(self, metrics: Mapping[str, float], *, policy: str) -> None:
        self.metrics.append((policy, dict(metrics)))

    def work_of(self, region: str) -> MemoryLists:
        if region in self.refused:
            raise self.refused[region]
        return self.work

    def add_instance(
        self,
        number: int = 1,
        *,
        account: str = ACCOUNT,
        region: str = REGION,
        sizes: Sequence[int] = (1,),
        name: str = "",
        tags: Mapping[str, str] | None = None,
        volume_tags: Mapping[str, str] | None = None,
    ) -> str:
        """An instance with volumes of these sizes (GiB), the first of them root; returns its id."""
        instance_id = f"i-{number:017x}"
        volumes = tuple(
            AttachedVolume(
                volume_id=f"vol-{number:08x}{index:09x}",
                device="/dev/xvda" if index == 0 else f"/dev/sd{'bcdefg'[index - 1]}",
                size_bytes=size * GIB,
                root=index == 0,
                tags=dict(volume_tags or {}),
            )
            for index, size in enumerate(sizes)
        )
        instance = Instance(
            instance_id=instance_id,
            account=account,
            region=region,
            name=name or f"machine {number}",
            tags={"Name": name or f"machine {number}", **(tags or {})},
            volumes=volumes,
        )
        spoke = self.spoke(POLICY, account, region)
        spoke.machines[instance_id] = InstanceConfiguration(
            instance=instance, instance_type="m7g.large", user_data="#!/bin/sh\n"
        )
        for volume in volumes:
            self.disks[volume.volume_id] = {}
        return instance_id

    def volumes(self, instance_id: str) -> tuple[AttachedVolume, ...]:
        for spoke in self.regions.values():
            if instance_id in spoke.machines:
                return spoke.machines[instance_id].instance.volumes
        raise KeyError(instance_id)

    def outcomes(self, session_id: str) -> dict[str, Outcome]:
        return {
            outcome.instance_id: outcome
            for _, body in self.catalog.parts(session_id, "outcome/")
            for outcome in [Outcome.model_validate(body["outcome"])]
        }


def configured(**changes: Any) -> Configuration:
    """One account, one policy: a snapshot every hour, a backup at 7 and 17; ``changes`` go on top."""
    policy = {
        "name": POLICY,
        "source": {"role": "production"},
        "regions": [REGION],
        "selection": {"all": True},
        "daily": {
            "snapshots": {"hours": list(range(24)), "keep": 2},
            "backups": {"hours": [7, 17], "keep": {"days": 7}},
        },
        "repository": REPOSITORY,
        **{key: value for key, value in changes.items() if key in POLICY_FIELDS},
    }
    return Configuration.model_validate(
        {
            "backup_account": "999999999999",
            "hub_region": REGION,
            "roles": [
                {
                    "name": "production",
                    "arn": f"arn:aws:iam::{ACCOUNT}:role/HoldfastBackup",
                    "external_id": "x" * 20,
                }
            ],
            "repositories": [{"name": REPOSITORY, "bucket": "holdfast-main", "region": REGION}],
            "policies": [policy],
            **{key: value for key, value in changes.items() if key not in POLICY_FIELDS},
        }
    )


POLICY_FIELDS = frozenset(
    [
        "enabled",
        "source",
        "regions",
        "selection",
        "exclude_volumes",
        "daily",
        "repository",
        "tags",
        "retries",
        "keep_last",
        "replication",
        "time_zone",
    ]
)
