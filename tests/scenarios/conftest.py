"""One deployed installation in a simulated AWS, and a fresh copy of it for every scenario."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import simulator
from holdfast.bootstrap import Services, World
from holdfast.model.blocks import BLOCK_SIZE, SEGMENT_BLOCKS
from holdfast.model.configuration import Configuration
from holdfast.model.session import Outcome, Session
from holdfast.repository.manifest import PointManifest
from holdfast.repository.repository import Repository
from holdfast.settings import Settings
from infra.synth import synthesize
from simulator.simulator import Simulator
from simulator.world import World as WorldFile
from tests.repository_builders import SeededIds

BACKUP, SHOP, OFFICE, MANAGEMENT = "999999999999", "222222222222", "333333333333", "777777777777"
VAULT = "444444444444"
HUB, WEST = "eu-central-1", "eu-west-1"
SUNDAY = datetime(2026, 11, 22, tzinfo=UTC)
SENDER, OPERATORS = "holdfast@example.com", "operators@example.com"


def configuration() -> Configuration:
    """The shop by its role in two Regions, the office through its Organization."""
    return Configuration.model_validate(
        {
            "backup_account": BACKUP,
            "hub_region": HUB,
            "roles": [
                {
                    "name": "shop",
                    "arn": f"arn:aws:iam::{SHOP}:role/HoldfastBackup",
                    "external_id": "agreed-with-the-shop",
                },
                {
                    "name": "vault",
                    "arn": f"arn:aws:iam::{VAULT}:role/HoldfastVault",
                    "external_id": "agreed-with-the-vault",
                },
            ],
            "organizations": [
                {
                    "name": "company",
                    "management_role": f"arn:aws:iam::{MANAGEMENT}:role/HoldfastOrganization",
                    "external_id": "agreed-with-the-company",
                }
            ],
            "repositories": [
                {"name": "main", "bucket": "holdfast-main", "region": HUB, "encryption": {"kind": "kms"}}
            ],
            "policies": [
                {
                    "name": "daily",
                    "source": {"role": "shop"},
                    "regions": [HUB, WEST],
                    "selection": {"all": True},
                    "daily": {
                        "snapshots": {"hours": [7, 12, 17], "keep": 2},
                        "backups": {"hours": [7, 17], "keep": {"days": 7}},
                    },
                    "repository": "main",
                    "retries": 1,
                    "tags": {"copy_from_volumes": True, "custom": {"protected": "yes"}},
                },
                {
                    "name": "company",
                    "source": {"organization": "company"},
                    "regions": [HUB],
                    "selection": {"tags": [{"key": "backup", "value": "company"}]},
                    "daily": {"snapshots": {"hours": [3], "keep": 2}},
                    "retries": 0,
                },
            ],
            "notifications": {"sender": SENDER, "recipients": [OPERATORS]},
        }
    )


def world_file() -> WorldFile:
    web = {"type": "m7g.large", "architecture": "arm64", "user_data": "#!/bin/sh\necho hello\n"}
    return WorldFile.model_validate(
        {
            "backup_account": BACKUP,
            "regions": [HUB, WEST],
            "starts_at": SUNDAY.isoformat(),
            "organization": {"management_account": MANAGEMENT, "units": [{"name": "Workloads"}]},
            "accounts": [
                {"id": BACKUP, "name": "backup"},
                {"id": SHOP, "name": "shop", "member": False},
                {"id": OFFICE, "name": "office", "unit": "Workloads"},
                {"id": VAULT, "name": "vault", "member": False},
            ],
            "senders": [SENDER],
            "instances": [
                {
                    "name": "web",
                    "account": SHOP,
                    "region": HUB,
                    **web,
                    "volumes": [
                        {"device": "/dev/xvda", "size_gib": 1, "tags": {"data": "system"}},
                        {"device": "/dev/sdb", "size_gib": 2, "tags": {"data": "orders"}},
                    ],
                },
                {
                    "name": "db",
                    "account": SHOP,
                    "region": HUB,
                    "volumes": [{"device": "/dev/xvda", "size_gib": 1}],
                },
                {
                    "name": "far",
                    "account": SHOP,
                    "region": WEST,
                    "volumes": [{"device": "/dev/xvda", "size_gib": 1}],
                },
                {
                    "name": "desk",
                    "account": OFFICE,
                    "region": HUB,
                    "tags": {"backup": "company"},
                    "volumes": [{"device": "/dev/xvda", "size_gib": 1}],
                },
            ],
            "ebs": {"snapshot_seconds": 60},
        }
    )


def block(seed: str) -> bytes:
    """A block of a guest, made of ``seed``."""
    return hashlib.sha256(seed.encode()).digest() * (BLOCK_SIZE // 32)


def held_digest(blocks: dict[int, bytes]) -> str:
    """SHA-256 over index and content of every block that is not zero."""
    digest = hashlib.sha256()
    for index in sorted(blocks):
        if any(blocks[index]):
            digest.update(index.to_bytes(8, "big") + blocks[index])
    return digest.hexdigest()


class Installation:
    """What a scenario does with a deployed installation, and what it looks at."""

    def __init__(self, sim: Simulator, settings: Settings) -> None:
        self.sim = sim
        environment = settings.render() | {"AWS_REGION": HUB}
        self.services = Services(
            World(environment, sim.clock, SeededIds(), lambda: sim.session(BACKUP, HUB), sim.endpoints)
        )
        self.catalog = self.services.catalog

    def run_until(self, hour: int, minute: int = 59) -> None:
        """Let schedules fire up to that hour of the first day (24 is the next day), and everything end."""
        self.sim.run_schedules(SUNDAY + timedelta(hours=hour, minutes=minute))
        for execution in self.sim.executions.all():
            self.sim.executions.wait(execution.execution_arn, timeout=300)

    def ec2(self, account: str = SHOP, region: str = HUB) -> Any:
        return self.sim.session(account, region).client("ec2")

    def instance(self, name: str, account: str = SHOP, region: str = HUB) -> dict[str, Any]:
        found = self.ec2(account, region).describe_instances(Filters=[{"Name": "tag:Name", "Values": [name]}])
        instance: dict[str, Any] = found["Reservations"][0]["Instances"][0]
        return instance

    def instance_id(self, name: str, account: str = SHOP, region: str = HUB) -> str:
        return str(self.instance(name, account, region)["InstanceId"])

    def volumes(self, name: str, account: str = SHOP, region: str = HUB) -> dict[str, str]:
        """Volume ids by device."""
        mappings = self.instance(name, account, region)["BlockDeviceMappings"]
        return {one["DeviceName"]: one["Ebs"]["VolumeId"] for one in mappings}

    def snapshots(self, account: str = SHOP, region: str = HUB) -> list[dict[str, Any]]:
        """Our snapshots in an account, with tags as a dictionary."""
        found = self.ec2(account, region).describe_snapshots(
            OwnerIds=["self"], Filters=[{"Name": "tag-key", "Values": ["holdfast:installation"]}]
        )["Snapshots"]
        return [{**one, "Tags": {tag["Key"]: tag["Value"] for tag in one["Tags"]}} for one in found]

    def sessions(self, policy: str = "daily") -> list[Session]:
        found = self.catalog.sessions(SUNDAY - timedelta(days=1), SUNDAY + timedelta(days=60))
        return [session for session in found if session.policy == policy]

    def outcomes(self, session: Session) -> dict[str, Outcome]:
        """Outcomes by instance name."""
        found = [
            Outcome.model_validate(body["outcome"])
            for _, body in self.catalog.parts(session.session_id, "outcome/")
        ]
        return {outcome.instance_name: outcome for outcome in found}

    @property
    def repository(self) -> Repository:
        return self.services.repository("main")

    def manifests(self, name: str, region: str = HUB) -> list[PointManifest]:
        """The backups of an instance, oldest first."""
        repository = self.repository
        points = sorted(repository.list_points(self.instance_id(name, region=region)))
        return [repository.read_point(point) for point in points]

    def stored_sha256(self, manifest: PointManifest, volume_id: str) -> str:
        """SHA-256 of the whole volume as the repository gives it back."""
        volume = next(one for one in manifest.volumes if one.volume_id == volume_id)
        digest, zero, blocks = hashlib.sha256(), bytes(BLOCK_SIZE), self._stored(manifest, volume_id)
        for index in range(volume.size_bytes // BLOCK_SIZE):
            digest.update(blocks.get(index, zero))
        return digest.hexdigest()

    def on_volumes(self, name: str, region: str = HUB) -> dict[str, str]:
        """A digest of what each volume of an instance holds now."""
        held = {one: self.sim.ebs.volume_content(one) for one in self.volumes(name, region=region).values()}
        return {
            one: held_digest({index: content.block(index) or b"" for index in content.allocated()})
            for one, content in held.items()
        }

    def in_repository(self, manifest: PointManifest) -> dict[str, str]:
        """The same digests of what a backup gives back."""
        return {one.volume_id: held_digest(self._stored(manifest, one.volume_id)) for one in manifest.volumes}

    def _stored(self, manifest: PointManifest, volume_id: str) -> dict[int, bytes]:
        volume = next(one for one in manifest.volumes if one.volume_id == volume_id)
        repository, blocks = self.repository, dict[int, bytes]()
        for number, ref in enumerate(volume.segments):
            if ref is not None:
                first = number * SEGMENT_BLOCKS
                held = repository.load_map(ref, first).blocks(first, first + SEGMENT_BLOCKS)
                blocks |= dict(repository.read_blocks(held, ref.epoch))
        return blocks

    def executions(self, machine: str) -> list[Any]:
        return [one for one in self.sim.executions.all() if f":execution:{machine}:" in one.execution_arn]


def deploy(configured: Configuration, world: WorldFile, folder: Path) -> tuple[Path, Settings]:
    """A simulated AWS with this installation deployed, saved in a directory."""
    assembly = synthesize(configured, folder / "cdk.out", bundling=False)
    with simulator.open(folder / "aws", world) as sim:
        organizations = sim.session(MANAGEMENT, HUB).client("organizations")
        root = organizations.list_roots()["Roots"][0]["Id"]
        sim.deploy(assembly, parameters={"OrganizationalUnitIds": root})
        function = (
            sim.session(BACKUP, HUB).client("lambda").get_function(FunctionName="holdfast-start-session")
        )
        environment = function["Configuration"]["Environment"]["Variables"]
    (folder / "configuration.json").write_text(configured.model_dump_json(exclude_defaults=True))
    settings = Settings.parse(environment | {"HOLDFAST_CONFIGURATION": str(bundle_of(assembly, folder))})
    return folder / "aws", settings


@pytest.fixture(scope="session")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Settings]:
    """The installation of most scenarios."""
    return deploy(configuration(), world_file(), tmp_path_factory.mktemp("deployed"))


def bundle_of(assembly: Path, folder: Path) -> Path:
    """The configuration bundle as it was synthesized."""
    found = next(assembly.glob("asset.*/configuration.json"), None)
    return found or folder / "configuration.json"


@contextmanager
def opened(deployed: tuple[Path, Settings], copy: Path) -> Iterator[Installation]:
    """A copy of a deployed installation at midnight of a Sunday."""
    directory, settings = deployed
    shutil.copytree(directory, copy, symlinks=True)
    with simulator.open(copy) as sim:
        yield Installation(sim, settings)


@pytest.fixture
def installation(deployed: tuple[Path, Settings], tmp_path: Path) -> Iterator[Installation]:
    """The same for every scenario."""
    with opened(deployed, tmp_path / "aws") as found:
        yield found
