"""Small simulated worlds for tests, and clients that reach them in this process and over loopback."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any
from weakref import WeakKeyDictionary

from botocore.config import Config

import simulator
from simulator.blocks import BLOCK
from simulator.simulator import Simulator
from simulator.world import World

BACKUP = "111111111111"
PROD = "222222222222"
OTHER = "333333333333"
REGION = "eu-central-1"
SECOND_REGION = "us-east-1"

_clients: WeakKeyDictionary[Simulator, dict[tuple[str, ...], Any]] = WeakKeyDictionary()


def world(**parts: Any) -> World:
    """A world of three accounts and two Regions, with ``parts`` of a world file over it."""
    accounts = [{"id": PROD, "name": "prod"}, {"id": OTHER, "name": "other"}]
    content = {"backup_account": BACKUP, "regions": [REGION, SECOND_REGION], "accounts": accounts, **parts}
    return World.model_validate(content)


def instance(name: str = "web", **parts: Any) -> dict[str, Any]:
    """An instance with one volume of 1 GiB."""
    volumes = [{"device": "/dev/xvda", "size_gib": 1}]
    return {"name": name, "account": PROD, "region": REGION, "volumes": volumes, **parts}


@contextmanager
def opened(directory: Path, **parts: Any) -> Iterator[Simulator]:
    """A simulator of ``world(**parts)`` in ``directory``."""
    with simulator.open(directory, world(**parts)) as aws:
        yield aws


def client(aws: Simulator, service: str, account: str = PROD, region: str = REGION) -> Any:
    """A client in this process; without retries, so that every refusal is seen."""
    return _kept(
        aws, ("in process", service, account, region), lambda: new_client(aws, service, account, region)
    )


def new_client(aws: Simulator, service: str, account: str = PROD, region: str = REGION) -> Any:
    """A client of a session of its own, as another sandbox has it."""
    return aws.session(account, region).client(service, config=Config(retries={"total_max_attempts": 1}))


def loopback(aws: Simulator, service: str, account: str = PROD, region: str = REGION) -> Any:
    """A client that speaks HTTP to 127.0.0.1."""
    config = Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"})
    url = aws.endpoints.get(service, aws.serve())

    def make() -> Any:
        return aws.session(account, region).client(service, config=config, endpoint_url=url)

    return _kept(aws, ("loopback", service, account, region), make)


def _kept(aws: Simulator, name: tuple[str, ...], make: Callable[[], Any]) -> Any:
    """Clients take long to make and are safe to share."""
    clients = _clients.setdefault(aws, {})
    if name not in clients:
        clients[name] = make()
    return clients[name]


def block(seed: int) -> bytes:
    """One block of content that follows from ``seed``."""
    return Random(seed).randbytes(4096) * (BLOCK // 4096)


def checksum(content: bytes) -> str:
    """The SHA-256 as EBS writes it."""
    return base64.b64encode(hashlib.sha256(content).digest()).decode()


def volume_ids(aws: Simulator, account: str = PROD, region: str = REGION) -> list[str]:
    """The attached volumes of the only instance, in order of its devices."""
    described = client(aws, "ec2", account, region).describe_instances()["Reservations"][0]["Instances"][0]
    return [mapping["Ebs"]["VolumeId"] for mapping in described["BlockDeviceMappings"]]


def take_snapshot(aws: Simulator, volume_id: str, account: str = PROD, region: str = REGION) -> str:
    """A completed snapshot of a volume."""
    snapshot_id = client(aws, "ec2", account, region).create_snapshot(VolumeId=volume_id)["SnapshotId"]
    aws.clock.advance(aws.world.ebs.snapshot_seconds)
    return str(snapshot_id)


def put_block(ebs: Any, snapshot_id: str, index: int, content: bytes) -> Any:
    """PutSnapshotBlock with the right checksum."""
    return ebs.put_snapshot_block(
        SnapshotId=snapshot_id,
        BlockIndex=index,
        BlockData=content,
        DataLength=len(content),
        Checksum=checksum(content),
        ChecksumAlgorithm="SHA256",
    )
