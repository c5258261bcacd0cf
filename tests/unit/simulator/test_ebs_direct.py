"""EBS direct APIs of the simulator: what they give, and everything they refuse."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.blocks import BLOCK
from simulator.simulator import Simulator
from tests.worlds import (
    OTHER,
    PROD,
    block,
    checksum,
    client,
    instance,
    loopback,
    opened,
    put_block,
    take_snapshot,
)


@pytest.fixture(scope="module")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulator]:
    with opened(tmp_path_factory.mktemp("aws"), instances=[instance()]) as simulator:
        yield simulator


@pytest.fixture(params=[client, loopback], ids=["in process", "loopback"])
def ebs(aws: Simulator, request: pytest.FixtureRequest) -> Any:
    return request.param(aws, "ebs")


def new_volume(aws: Simulator, size: int = 1, **options: Any) -> str:
    zone = {"AvailabilityZone": "eu-central-1a"}
    return str(client(aws, "ec2").create_volume(Size=size, **zone, **options)["VolumeId"])


def refusal(error: pytest.ExceptionInfo[ClientError]) -> tuple[str, str]:
    return error.value.response["Error"]["Code"], error.value.response.get("Reason", "")


def changed_indexes(ebs: Any, first: str, second: str) -> list[int]:
    answer = ebs.list_changed_blocks(FirstSnapshotId=first, SecondSnapshotId=second)
    return [entry["BlockIndex"] for entry in answer["ChangedBlocks"]]


def test_a_snapshot_lists_and_gives_the_blocks_its_volume_had_at_that_instant(aws: Simulator, ebs: Any):
    volume = new_volume(aws)
    aws.ebs.write_blocks(volume, 3, block(1) + block(2))
    snapshot = take_snapshot(aws, volume)
    aws.ebs.write_blocks(volume, 3, block(9))
    listed = ebs.list_snapshot_blocks(SnapshotId=snapshot)
    assert (listed["VolumeSize"], listed["BlockSize"]) == (1, BLOCK)
    assert [entry["BlockIndex"] for entry in listed["Blocks"]] == [3, 4]
    token = listed["Blocks"][0]["BlockToken"]
    answer = ebs.get_snapshot_block(SnapshotId=snapshot, BlockIndex=3, BlockToken=token)
    assert answer["BlockData"].read() == block(1)
    assert (answer["Checksum"], answer["DataLength"]) == (checksum(block(1)), BLOCK)


@settings(max_examples=25)
@given(
    first=st.dictionaries(st.integers(0, 2047), st.integers(1, 3), max_size=8),
    second=st.dictionaries(st.integers(0, 2047), st.integers(0, 3), max_size=8),
)
def test_changed_blocks_are_the_union_of_writes_and_trims_since_the_first_snapshot(
    aws: Simulator, first: dict[int, int], second: dict[int, int]
):
    volume = new_volume(aws)
    for index, seed in first.items():
        aws.ebs.write_blocks(volume, index, block(seed))
    base = take_snapshot(aws, volume)
    for index, seed in second.items():
        if seed:
            aws.ebs.write_blocks(volume, index, block(seed))
        else:
            aws.ebs.discard_blocks(volume, index, 1)
    later = take_snapshot(aws, volume)
    answer = client(aws, "ebs").list_changed_blocks(FirstSnapshotId=base, SecondSnapshotId=later)
    listed = {entry["BlockIndex"]: entry for entry in answer["ChangedBlocks"]}
    assert list(listed) == sorted(index for index, seed in second.items() if seed or index in first)
    for index, entry in listed.items():
        assert ("FirstBlockToken" in entry) == (index in first)
        assert ("SecondBlockToken" in entry) == bool(second[index])


def test_snapshots_of_different_volumes_are_unrelated(aws: Simulator, ebs: Any):
    first, second = take_snapshot(aws, new_volume(aws)), take_snapshot(aws, new_volume(aws))
    with pytest.raises(ClientError) as error:
        ebs.list_changed_blocks(FirstSnapshotId=first, SecondSnapshotId=second)
    assert refusal(error) == ("ValidationException", "UNRELATED_SNAPSHOTS")


def test_pages_cover_every_block_once_and_start_where_asked(aws: Simulator, ebs: Any):
    volume = new_volume(aws)
    aws.ebs.write_blocks(volume, 0, block(1) * 250)
    snapshot = take_snapshot(aws, volume)
    indexes, token = [], None
    while True:
        more = {"NextToken": token} if token else {}
        page = ebs.list_snapshot_blocks(SnapshotId=snapshot, StartingBlockIndex=7, MaxResults=100, **more)
        assert len(page["Blocks"]) <= 100
        indexes += [entry["BlockIndex"] for entry in page["Blocks"]]
        if not (token := page.get("NextToken")):
            break
    assert indexes == list(range(7, 250))


def test_a_snapshot_cannot_be_read_before_it_is_completed(aws: Simulator, ebs: Any):
    snapshot = client(aws, "ec2").create_snapshot(VolumeId=new_volume(aws))["SnapshotId"]
    with pytest.raises(ClientError) as error:
        ebs.list_snapshot_blocks(SnapshotId=snapshot)
    assert refusal(error) == ("ValidationException", "INVALID_SNAPSHOT_ID")


def test_a_deleted_snapshot_is_not_found(aws: Simulator, ebs: Any):
    snapshot = take_snapshot(aws, new_volume(aws))
    client(aws, "ec2").delete_snapshot(SnapshotId=snapshot)
    with pytest.raises(ClientError) as error:
        ebs.list_snapshot_blocks(SnapshotId=snapshot)
    assert refusal(error) == ("ResourceNotFoundException", "SNAPSHOT_NOT_FOUND")


@pytest.mark.parametrize("seconds", [0, 7 * 86_400 + 1], ids=["forged", "expired"])
def test_forged_and_expired_block_tokens_are_refused(aws: Simulator, ebs: Any, seconds: int):
    volume = new_volume(aws)
    aws.ebs.write_blocks(volume, 0, block(1) * 2)
    snapshot = take_snapshot(aws, volume)
    tokens = [entry["BlockToken"] for entry in ebs.list_snapshot_blocks(SnapshotId=snapshot)["Blocks"]]
    aws.clock.advance(seconds)
    with pytest.raises(ClientError) as error:
        ebs.get_snapshot_block(SnapshotId=snapshot, BlockIndex=0, BlockToken=tokens[0 if seconds else 1])
    assert refusal(error) == ("ValidationException", "INVALID_BLOCK_TOKEN")


def test_page_tokens_expire_and_belong_to_their_listing(aws: Simulator, ebs: Any):
    volume = new_volume(aws)
    aws.ebs.write_blocks(volume, 0, block(1) * 120)
    first = take_snapshot(aws, volume)
    second = take_snapshot(aws, volume)
    token = ebs.list_snapshot_blocks(SnapshotId=first, MaxResults=100)["NextToken"]
    with pytest.raises(ClientError) as error:
        ebs.list_snapshot_blocks(SnapshotId=second, NextToken=token)
    assert refusal(error) == ("ValidationException", "INVALID_PAGE_TOKEN")
    aws.clock.advance(aws.world.ebs.page_seconds)
    with pytest.raises(ClientError) as error:
        ebs.list_snapshot_blocks(SnapshotId=first, NextToken=token)
    assert refusal(error) == ("ValidationException", "INVALID_PAGE_TOKEN")


def test_a_snapshot_written_block_by_block_holds_them_and_confirms_the_aggregate(aws: Simulator, ebs: Any):
    written = {5: block(1), 2: block(2), 2047: bytes(BLOCK)}
    snapshot = ebs.start_snapshot(VolumeSize=1, Description="made", Tags=[{"Key": "k", "Value": "v"}])
    assert (snapshot["Status"], snapshot["BlockSize"], snapshot["VolumeSize"]) == ("pending", BLOCK, 1)
    for index, content in written.items():
        put_block(ebs, snapshot["SnapshotId"], index, content)
    linear = hashlib.sha256(b"".join(hashlib.sha256(written[i]).digest() for i in sorted(written))).digest()
    ebs.complete_snapshot(
        SnapshotId=snapshot["SnapshotId"],
        ChangedBlocksCount=3,
        Checksum=base64.b64encode(linear).decode(),
        ChecksumAlgorithm="SHA256",
        ChecksumAggregationMethod="LINEAR",
    )
    aws.clock.advance(aws.world.ebs.snapshot_seconds)
    content = aws.ebs.snapshot_content(snapshot["SnapshotId"])
    assert {index: content.block(index) for index in content.allocated()} == written
    described = client(aws, "ec2").describe_snapshots(SnapshotIds=[snapshot["SnapshotId"]])["Snapshots"][0]
    assert (described["State"], described["Tags"]) == ("completed", [{"Key": "k", "Value": "v"}])


@pytest.mark.parametrize(
    "count, aggregate", [(2, ""), (1, base64.b64encode(bytes(32)).decode())], ids=["count", "aggregate"]
)
def test_completing_with_a_wrong_count_or_aggregate_is_refused(aws: Simulator, ebs: Any, count, aggregate):
    snapshot = ebs.start_snapshot(VolumeSize=1)["SnapshotId"]
    put_block(ebs, snapshot, 0, block(1))
    more = {"Checksum": aggregate, "ChecksumAlgorithm": "SHA256", "ChecksumAggregationMethod": "LINEAR"}
    with pytest.raises(ClientError) as error:
        ebs.complete_snapshot(SnapshotId=snapshot, ChangedBlocksCount=count, **(more if aggregate else {}))
    assert refusal(error) == ("ValidationException", "INVALID_PARAMETER_VALUE")


@pytest.mark.parametrize(
    "index, content, said, reason",
    [
        (2048, block(1), checksum(block(1)), "INVALID_BLOCK"),
        (0, block(1), checksum(block(2)), "INVALID_PARAMETER_VALUE"),
        (0, block(1)[:-1], checksum(block(1)[:-1]), "INVALID_PARAMETER_VALUE"),
    ],
    ids=["outside of the volume", "wrong checksum", "short block"],
)
def test_wrong_blocks_are_refused(aws: Simulator, ebs: Any, index, content, said, reason):
    snapshot = ebs.start_snapshot(VolumeSize=1)["SnapshotId"]
    with pytest.raises(ClientError) as error:
        ebs.put_snapshot_block(
            SnapshotId=snapshot,
            BlockIndex=index,
            BlockData=content,
            DataLength=len(content),
            Checksum=said,
            ChecksumAlgorithm="SHA256",
        )
    assert refusal(error) == ("ValidationException", reason)


def test_nothing_can_be_put_into_a_sealed_or_foreign_snapshot(aws: Simulator, ebs: Any):
    sealed = take_snapshot(aws, new_volume(aws))
    with pytest.raises(ClientError) as error:
        put_block(ebs, sealed, 0, block(1))
    assert refusal(error) == ("ValidationException", "INVALID_SNAPSHOT_ID")
    foreign = client(aws, "ebs", OTHER).start_snapshot(VolumeSize=1)["SnapshotId"]
    with pytest.raises(ClientError) as error:
        put_block(ebs, foreign, 0, block(1))
    assert refusal(error) == ("ResourceNotFoundException", "SNAPSHOT_NOT_FOUND")


def test_a_client_token_starts_one_snapshot_and_refuses_other_parameters(aws: Simulator, ebs: Any):
    token = f"token-{aws.requests.total()}"
    first = ebs.start_snapshot(VolumeSize=1, ClientToken=token)
    assert ebs.start_snapshot(VolumeSize=1, ClientToken=token)["SnapshotId"] == first["SnapshotId"]
    with pytest.raises(ClientError) as error:
        ebs.start_snapshot(VolumeSize=2, ClientToken=token)
    assert refusal(error)[0] == "ConflictException"


def test_a_child_starts_with_its_parents_blocks_and_counts_only_its_own(aws: Simulator, ebs: Any):
    volume = new_volume(aws)
    aws.ebs.write_blocks(volume, 1, block(1) + block(2))
    parent = take_snapshot(aws, volume)
    child = ebs.start_snapshot(VolumeSize=1, ParentSnapshotId=parent)["SnapshotId"]
    put_block(ebs, child, 2, block(3))
    ebs.complete_snapshot(SnapshotId=child, ChangedBlocksCount=1)
    aws.clock.advance(aws.world.ebs.snapshot_seconds)
    content = aws.ebs.snapshot_content(child)
    assert [content.block(index) for index in (1, 2)] == [block(1), block(3)]
    assert changed_indexes(ebs, parent, child) == [2]


@pytest.mark.parametrize(
    "request_, code",
    [
        ({"VolumeSize": 0}, "ValidationException"),
        ({"VolumeSize": 65_537}, "ValidationException"),
        ({"VolumeSize": 1, "Timeout": 9}, "ValidationException"),
        ({"VolumeSize": 1, "KmsKeyArn": f"arn:aws:kms:eu-central-1:{PROD}:key/none"}, "ValidationException"),
        ({"VolumeSize": 1, "Encrypted": True, "ParentSnapshotId": "snap-1"}, "ValidationException"),
        ({"VolumeSize": 1, "ParentSnapshotId": "snap-00000000"}, "ResourceNotFoundException"),
        ({"VolumeSize": 1, "Tags": [{"Key": "aws:own", "Value": "x"}]}, "ValidationException"),
    ],
)
def test_snapshots_that_cannot_be_are_not_started(aws: Simulator, request_: dict[str, Any], code: str):
    ebs = client_without_validation(aws)
    with pytest.raises(ClientError) as error:
        ebs.start_snapshot(**request_)
    assert refusal(error)[0] == code


def test_a_snapshot_that_nobody_completes_in_time_ends_in_error(aws: Simulator, ebs: Any):
    snapshot = ebs.start_snapshot(VolumeSize=1, Timeout=10)["SnapshotId"]
    aws.clock.advance(600)
    described = client(aws, "ec2").describe_snapshots(SnapshotIds=[snapshot])["Snapshots"][0]
    assert described["State"] == "error"
    with pytest.raises(ClientError) as error:
        put_block(client(aws, "ebs"), snapshot, 0, block(1))
    assert refusal(error)[1] == "INVALID_SNAPSHOT_ID"


def client_without_validation(aws: Simulator) -> Any:
    config = Config(parameter_validation=False, retries={"total_max_attempts": 1})
    return aws.session(PROD, "eu-central-1").client("ebs", config=config)
