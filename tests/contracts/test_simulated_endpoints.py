"""The fast clients of the library against the simulated AWS on a real socket: the promises of the ports."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from holdfast.aws.ebs import EbsSnapshotReader, EbsSnapshotWriter
from holdfast.aws.ebs import tell as tell_json
from holdfast.aws.http import HttpClient
from holdfast.aws.s3 import S3ObjectStore
from holdfast.aws.s3 import tell as tell_xml
from holdfast.aws.signing import Credentials, Signer
from holdfast.bootstrap import Services, SystemIds, World
from holdfast.errors import (
    AccessDeniedError,
    ConflictError,
    DamagedError,
    KeyUnavailableError,
    NotFoundError,
    SourceGoneError,
)
from holdfast.settings import Settings
from simulator.blocks import BLOCK
from simulator.faults import Fault
from simulator.simulator import Simulator
from tests.worlds import (
    BACKUP,
    OTHER,
    PROD,
    REGION,
    block,
    client,
    instance,
    opened,
    take_snapshot,
    volume_ids,
)

GIB = 1 << 30


class Given:
    """Credentials that never change."""

    def __init__(self, aws: Simulator, account: str) -> None:
        found = aws.session(account, REGION).get_credentials().get_frozen_credentials()
        self._credentials = Credentials(found.access_key, found.secret_key, found.token)

    def current(self) -> Credentials:
        return self._credentials

    def renew(self, stale: Credentials) -> None:
        """There are no others."""


@pytest.fixture(scope="module")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulator]:
    keys = [{"alias": "k", "account": PROD, "region": REGION}]
    with opened(tmp_path_factory.mktemp("aws"), instances=[instance()], keys=keys) as simulator:
        s3 = client(simulator, "s3", BACKUP, REGION)
        s3.create_bucket(Bucket="backups", CreateBucketConfiguration={"LocationConstraint": REGION})
        yield simulator


@pytest.fixture
def reader(aws: Simulator) -> EbsSnapshotReader:
    return EbsSnapshotReader(http(aws, "ebs", PROD, tell_json))


@pytest.fixture
def writer(aws: Simulator) -> EbsSnapshotWriter:
    return EbsSnapshotWriter(http(aws, "ebs", PROD, tell_json))


def http(aws: Simulator, service: str, account: str, tell: Any) -> HttpClient:
    url = aws.endpoints[service]
    return HttpClient(url, Signer(service, REGION), Given(aws, account), tell, sleep=lambda _: None)


def volume_with(aws: Simulator, *contents: bytes) -> str:
    volume = client(aws, "ec2").create_volume(AvailabilityZone=f"{REGION}a", Size=1)["VolumeId"]
    aws.ebs.write_blocks(volume, 0, b"".join(contents))
    return str(volume)


def read(reader: EbsSnapshotReader, snapshot: str, refs: Any) -> dict[int, bytes]:
    found = {}
    for ref in refs:
        buffer = memoryview(bytearray(BLOCK))
        digest = reader.read_into(snapshot, ref, buffer)
        assert digest == hashlib.sha256(buffer).digest()
        found[ref.index] = bytes(buffer)
    return found


def test_what_is_read_is_what_the_volume_held(aws: Simulator, reader: EbsSnapshotReader):
    snapshot = take_snapshot(aws, volume_with(aws, block(1), block(2), block(3)))
    assert read(reader, snapshot, reader.allocated(snapshot, 1, 2048)) == {1: block(2), 2: block(3)}


def test_only_what_changed_is_listed_with_trimmed_blocks_without_a_token(
    aws: Simulator, reader: EbsSnapshotReader
):
    volume = volume_with(aws, block(1), block(2), block(3))
    base = take_snapshot(aws, volume)
    aws.ebs.write_blocks(volume, 1, block(9))
    aws.ebs.discard_blocks(volume, 2, 1)
    later = take_snapshot(aws, volume)
    refs = list(reader.changed(base, later, 0, 2048))
    assert [(ref.index, bool(ref.token)) for ref in refs] == [(1, True), (2, False)]
    assert read(reader, later, refs[:1]) == {1: block(9)}


def test_unrelated_and_vanished_snapshots_are_told_apart(aws: Simulator, reader: EbsSnapshotReader):
    first, second = (take_snapshot(aws, volume_with(aws, block(1))) for _ in range(2))
    with pytest.raises(ConflictError):
        list(reader.changed(first, second, 0, 2048))
    client(aws, "ec2").delete_snapshot(SnapshotId=first)
    with pytest.raises(SourceGoneError):
        list(reader.allocated(first, 0, 2048))


def test_a_written_snapshot_equals_what_was_put(aws: Simulator, writer: EbsSnapshotWriter):
    arguments = {"description": "d", "tags": {"a": "b"}, "encrypted": False, "kms_key_arn": ""}
    snapshot = writer.start(GIB, token="one", **arguments)
    assert writer.start(GIB, token="one", **arguments) == snapshot
    contents = {3: block(1), 0: block(2)}
    for index, content in contents.items():
        writer.put(snapshot, index, content, hashlib.sha256(content).digest())
    digests = b"".join(hashlib.sha256(contents[index]).digest() for index in sorted(contents))
    writer.complete(snapshot, 2, hashlib.sha256(digests).digest())
    held = aws.ebs.snapshot_content(snapshot)
    assert {index: held.block(index) for index in held.allocated()} == contents


def test_a_key_that_was_disabled_is_named_as_the_reason(aws: Simulator, reader: EbsSnapshotReader):
    kms = client(aws, "kms")
    volume = client(aws, "ec2").create_volume(
        AvailabilityZone=f"{REGION}a", Size=1, Encrypted=True, KmsKeyId="alias/k"
    )
    snapshot = take_snapshot(aws, volume["VolumeId"])
    key = kms.describe_key(KeyId="alias/k")["KeyMetadata"]["KeyId"]
    kms.disable_key(KeyId=key)
    with pytest.raises(KeyUnavailableError):
        list(reader.allocated(snapshot, 0, 2048))
    kms.enable_key(KeyId=key)


@pytest.mark.parametrize("effect", ["throttle", "internal", "unavailable", "reset", "lost"])
def test_passing_trouble_is_not_noticed(aws: Simulator, reader: EbsSnapshotReader, effect: str):
    snapshot = take_snapshot(aws, volume_ids(aws)[0])
    aws.ebs.write_blocks(volume_ids(aws)[0], 0, block(1))
    snapshot = take_snapshot(aws, volume_ids(aws)[0])
    aws.faults.clear()
    aws.faults.add(Fault(call="ebs:*", effect=effect, every=2))
    assert read(reader, snapshot, reader.allocated(snapshot, 0, 2048)) == {0: block(1)}
    aws.faults.clear()


@pytest.fixture
def store(aws: Simulator, request: pytest.FixtureRequest) -> S3ObjectStore:
    prefix = f"test-{abs(hash(request.node.name))}/"
    connection = http(aws, "s3", BACKUP, tell_xml)
    return S3ObjectStore(connection, "backups", prefix, root="/backups/", owner=BACKUP)


def test_objects_are_created_once_replaced_by_etag_and_listed_in_order(store: S3ObjectStore):
    store.put_new("b", b"1")
    store.put_new("a", memoryview(b"22"))
    with pytest.raises(ConflictError):
        store.put_new("a", b"3")
    stat = store.stat("a")
    store.replace("a", b"333", etag=stat.etag)
    with pytest.raises(ConflictError):
        store.replace("a", b"4", etag=stat.etag)
    assert [(found.key, found.size) for found in store.list("")] == [("a", 3), ("b", 1)]
    assert (store.get("a"), store.get_range("a", 1, 2)) == (b"333", b"33")
    store.delete("a")
    with pytest.raises(NotFoundError):
        store.get("a")


def test_a_bucket_of_somebody_else_or_of_another_region_is_refused(aws: Simulator):
    stranger = S3ObjectStore(
        http(aws, "s3", BACKUP, tell_xml), "backups", "p", root="/backups/", owner="333333333333"
    )
    with pytest.raises(AccessDeniedError):
        stranger.put_new("a", b"1")
    with pytest.raises(AccessDeniedError):
        stranger.get("a")
    signer = Signer("s3", "us-east-1")
    elsewhere = HttpClient(aws.endpoints["s3"], signer, Given(aws, BACKUP), tell_xml, sleep=lambda _: None)
    with pytest.raises(NotFoundError, match="eu-central-1"):
        S3ObjectStore(elsewhere, "backups", "p", root="/backups/").get("a")


def test_a_shortened_object_is_damaged(aws: Simulator, store: S3ObjectStore):
    store.put_new("pack", b"0123456789")
    path = next(path for path in (aws.directory / "buckets" / "backups").rglob("pack"))
    path.write_bytes(b"01234")
    with pytest.raises(DamagedError):
        store.get_range("pack", 3, 6)
    path.unlink()


@pytest.mark.parametrize("effect", ["throttle", "internal", "unavailable", "reset", "lost"])
def test_a_write_survives_passing_trouble_without_a_second_object(
    aws: Simulator, store: S3ObjectStore, effect: str
):
    aws.faults.clear()
    aws.faults.add(Fault(call="s3:PutObject", effect=effect, nth=1))
    store.put_new("pack", b"content")
    aws.faults.clear()
    assert store.get("pack") == b"content"


def test_a_bucket_whose_name_a_stranger_took_gets_no_backups(aws: Simulator, tmp_path: Path):
    """Although the stranger would let everybody in."""
    s3 = client(aws, "s3", OTHER, REGION)
    s3.create_bucket(Bucket="taken", CreateBucketConfiguration={"LocationConstraint": REGION})
    bundle = tmp_path / "configuration.json"
    bundle.write_text(json.dumps({"backup_account": BACKUP}))
    environment = Settings(configuration=str(bundle), work_bucket="taken", hub_region=REGION).render()
    world = World(environment, aws.clock, SystemIds(), lambda: aws.session(BACKUP, REGION), aws.endpoints)
    services = Services(world)
    with pytest.raises(AccessDeniedError, match="expected account"):
        services.object_store("taken", REGION, "holdfast").put_new("repository.json", b"1")
    with pytest.raises(AccessDeniedError, match="expected account"):
        services.work.write("sessions/1", [])
    anybodys = services.object_store("taken", REGION, "holdfast", anybodys=True)
    anybodys.put_new("repository.json", b"1")
    assert anybodys.get("repository.json") == b"1"
