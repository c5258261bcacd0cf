from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from holdfast.aws.ebs import EbsSnapshotReader, EbsSnapshotWriter
from holdfast.errors import (
    ChecksumError,
    ConfigurationError,
    ConflictError,
    IntegrityError,
    KeyUnavailableError,
    SourceGoneError,
    TransientError,
    UnavailableError,
)
from holdfast.model.blocks import BLOCK_SIZE
from holdfast.ports import BlockRef
from tests.aws_builders import FakeTime, close_clients, make_client
from tests.loopback import State, raw, refusal, serving
from tests.snapshots import Blocks, block

SMALL = dict.fromkeys(range(0, 1000, 7), b"x")
OPTIONS = {
    "token": "token-1",
    "description": "Restore of vol-1",
    "tags": {"holdfast:kind": "temporary"},
    "encrypted": True,
    "kms_key_arn": "arn:aws:kms:eu-central-1:111122223333:key/1",
}


@pytest.fixture
def state() -> State:
    return State()


@pytest.fixture
def url(state: State) -> Iterator[str]:
    with serving(state) as url:
        yield url
        close_clients()


def page(document: object) -> bytes:
    body = json.dumps(document).encode()
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


def put_all(writer: EbsSnapshotWriter, snapshot_id: str, blocks: Blocks) -> bytes:
    digests = b""
    for index, content in sorted(blocks.items()):
        digest = hashlib.sha256(content).digest()
        writer.put(snapshot_id, index, content, digest)
        digests += digest
    return hashlib.sha256(digests).digest()


@pytest.mark.parametrize("empty_pages", [0, 3])
def test_allocated_blocks_come_from_many_pages_in_order(state: State, url: str, empty_pages: int) -> None:
    state.snapshots, state.page_size, state.empty_pages = {"snap-1": SMALL}, 25, empty_pages
    reader = EbsSnapshotReader(make_client(url))
    refs = list(reader.allocated("snap-1", 100, 900))
    assert [ref.index for ref in refs] == [index for index in SMALL if 100 <= index < 900]
    assert all(ref.token for ref in refs)
    assert reader.requests == {"ebs:ListSnapshotBlocks": len(state.log)}


def test_changed_blocks_say_which_are_no_longer_allocated(state: State, url: str) -> None:
    state.snapshots = {"snap-1": {1: b"a", 2: b"b", 3: b"c"}, "snap-2": {1: b"a", 2: b"x", 500: b"new"}}
    refs = list(EbsSnapshotReader(make_client(url)).changed("snap-1", "snap-2", 0, 600))
    assert [(ref.index, bool(ref.token)) for ref in refs] == [(2, True), (3, False), (500, True)]


def test_nothing_is_asked_for_an_empty_range(state: State, url: str) -> None:
    assert list(EbsSnapshotReader(make_client(url)).allocated("snap-1", 5, 5)) == []
    assert state.log == []


def test_a_block_is_read_with_the_digest_that_ebs_sends(state: State, url: str) -> None:
    state.snapshots = {"snap-1": {7: block("a")}}
    reader = EbsSnapshotReader(make_client(url))
    (ref,) = reader.allocated("snap-1", 0, 100)
    buffer = bytearray(BLOCK_SIZE)
    assert reader.read_into("snap-1", ref, memoryview(buffer)) == hashlib.sha256(block("a")).digest()
    assert buffer == block("a")


def test_many_threads_read_through_one_reader(state: State, url: str) -> None:
    state.snapshots = {"snap-1": {index: block(index + 1) for index in range(48)}}
    reader = EbsSnapshotReader(make_client(url))

    def read(ref: BlockRef) -> bool:
        buffer = bytearray(BLOCK_SIZE)
        return reader.read_into("snap-1", ref, memoryview(buffer)) == hashlib.sha256(buffer).digest()

    with ThreadPoolExecutor(12) as pool:
        assert all(pool.map(read, reader.allocated("snap-1", 0, 100)))
    assert reader.requests["ebs:GetSnapshotBlock"] == 48


@pytest.mark.parametrize("checksum", ["", "short", "!!!", "x" * 44])
def test_a_block_without_a_digest_is_not_believed(state: State, url: str, checksum: str) -> None:
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {BLOCK_SIZE}\r\nx-amz-Checksum: {checksum}\r\n\r\n"
    state.fail(1, raw(head.encode() + bytes(BLOCK_SIZE)))
    reader = EbsSnapshotReader(make_client(url))
    with pytest.raises(ChecksumError):
        reader.read_into("snap-1", BlockRef(0, "token"), memoryview(bytearray(BLOCK_SIZE)))


@pytest.mark.parametrize(
    "fault, error",
    [
        (refusal(404, "ResourceNotFoundException", "SNAPSHOT_NOT_FOUND"), SourceGoneError),
        (refusal(400, "ValidationException", "UNRELATED_SNAPSHOTS"), ConflictError),
        (refusal(400, "ValidationException", "INVALID_PAGE_TOKEN"), TransientError),
        (refusal(400, "ValidationException", "INVALID_PARAMETER_VALUE"), ConfigurationError),
        (refusal(403, "AccessDeniedException", "DEPENDENCY_ACCESS_DENIED"), KeyUnavailableError),
        (raw(page({"ChangedBlocks": [{"BlockIndex": 3}, {"BlockIndex": 2}]})), IntegrityError),
        (raw(page({"ChangedBlocks": [{"BlockIndex": "3"}]})), IntegrityError),
        (raw(page({"ChangedBlocks": [{"BlockIndex": -3}]})), IntegrityError),
        (raw(page({"ChangedBlocks": [{"BlockIndex": 3, "SecondBlockToken": 7}]})), IntegrityError),
        (raw(page({"ChangedBlocks": [], "BlockSize": 4096})), IntegrityError),
        (raw(page({"ChangedBlocks": [7]})), UnavailableError),
        (raw(page({"ChangedBlocks": None})), UnavailableError),
        (raw(page([])), UnavailableError),
        (raw(page("{")[:-2] + b"{{"), UnavailableError),
    ],
)
def test_a_listing_that_cannot_be_used_is_an_error(
    state: State, url: str, fault: object, error: type[Exception]
) -> None:
    state.fail(1, fault)  # type: ignore[arg-type]
    with pytest.raises(error):
        list(EbsSnapshotReader(make_client(url)).changed("snap-1", "snap-2", 0, 10))


def test_a_snapshot_is_started_written_and_completed(state: State, url: str) -> None:
    writer = EbsSnapshotWriter(make_client(url))
    snapshot_id = writer.start(3 << 30, **OPTIONS)
    blocks = {0: block("a"), 9: block("b")}
    aggregate = put_all(writer, snapshot_id, blocks)
    writer.complete(snapshot_id, 2, aggregate)
    assert state.snapshots[snapshot_id] == blocks
    assert state.completed == {snapshot_id: 2}
    wanted = state.tags["token-1"]["wanted"]
    assert wanted == {
        "VolumeSize": 3,
        "ClientToken": "token-1",
        "Description": "Restore of vol-1",
        "Tags": [{"Key": "holdfast:kind", "Value": "temporary"}],
        "Timeout": 4320,
        "Encrypted": True,
        "KmsKeyArn": OPTIONS["kms_key_arn"],
    }


def test_an_empty_snapshot_is_completed_without_an_aggregate(state: State, url: str) -> None:
    writer = EbsSnapshotWriter(make_client(url))
    snapshot_id = writer.start(1 << 30, **OPTIONS)
    writer.complete(snapshot_id, 0, hashlib.sha256().digest())
    assert state.completed == {snapshot_id: 0}


def test_the_same_token_gives_the_same_snapshot_and_another_wish_is_refused(state: State, url: str) -> None:
    writer = EbsSnapshotWriter(make_client(url))
    first = writer.start(1 << 30, **OPTIONS)
    assert writer.start(1 << 30, **OPTIONS) == first
    with pytest.raises(ConflictError, match="used with other parameters"):
        writer.start(2 << 30, **OPTIONS)


def test_a_new_snapshot_that_is_not_visible_yet_is_waited_for(state: State, url: str) -> None:
    time = FakeTime()
    writer = EbsSnapshotWriter(make_client(url, time=time))
    snapshot_id = writer.start(1 << 30, **OPTIONS)
    state.fail(3, refusal(404, "ResourceNotFoundException", "SNAPSHOT_NOT_FOUND"), on="PUT")
    put_all(writer, snapshot_id, {0: block("a")})
    assert len(time.pauses) == 3


def test_a_snapshot_that_was_visible_and_is_not_any_more_is_gone(state: State, url: str) -> None:
    time = FakeTime()
    writer = EbsSnapshotWriter(make_client(url, time=time))
    snapshot_id = writer.start(1 << 30, **OPTIONS)
    put_all(writer, snapshot_id, {0: block("a")})
    state.fail(1, refusal(404, "ResourceNotFoundException", "SNAPSHOT_NOT_FOUND"), on="PUT")
    with pytest.raises(SourceGoneError):
        put_all(writer, snapshot_id, {1: block("b")})
    assert time.pauses == []


def test_a_block_that_reaches_ebs_damaged_is_refused_there(state: State, url: str) -> None:
    writer = EbsSnapshotWriter(make_client(url))
    snapshot_id = writer.start(1 << 30, **OPTIONS)
    with pytest.raises(ConfigurationError, match="The checksum is wrong"):
        writer.put(snapshot_id, 0, block("a"), hashlib.sha256(b"other").digest())
    assert state.snapshots[snapshot_id] == {}


def test_a_block_that_ebs_confirms_with_another_digest_is_an_error(state: State, url: str) -> None:
    writer = EbsSnapshotWriter(make_client(url))
    snapshot_id = writer.start(1 << 30, **OPTIONS)
    other = "4fzcT/VYrpLbe6IqcYPwFW8vYvHNwuQZcmFLOSZyzUM="
    state.fail(
        1, raw(f"HTTP/1.1 201 Created\r\nContent-Length: 0\r\nx-amz-Checksum: {other}\r\n\r\n".encode())
    )
    with pytest.raises(ChecksumError, match="another digest"):
        put_all(writer, snapshot_id, {0: block("a")})


@pytest.mark.parametrize("reason", ["WRITE_REQUEST_TIMEOUT", "CONFLICTING_BLOCK_UPDATE"])
def test_writes_that_ebs_asks_to_repeat_are_repeated(state: State, url: str, reason: str) -> None:
    writer = EbsSnapshotWriter(make_client(url))
    snapshot_id = writer.start(1 << 30, **OPTIONS)
    state.fail(2, refusal(400, "ValidationException", reason), on="PUT")
    put_all(writer, snapshot_id, {0: block("a")})
    assert writer.requests["ebs:PutSnapshotBlock"] == 3


@pytest.mark.parametrize(
    "answer, error",
    [
        ({"SnapshotId": "vol-1"}, UnavailableError),
        ({}, UnavailableError),
        ([], UnavailableError),
        ({"SnapshotId": "snap-0123456789abcdef0", "BlockSize": 4096}, IntegrityError),
    ],
)
def test_a_start_that_names_no_snapshot_is_an_error(
    state: State, url: str, answer: object, error: type[Exception]
) -> None:
    state.fail(1, raw(page(answer)))
    with pytest.raises(error):
        EbsSnapshotWriter(make_client(url)).start(1 << 30, **OPTIONS)


def test_pending_snapshots_over_the_limit_are_waited_for(state: State, url: str) -> None:
    time = FakeTime()
    state.fail(2, refusal(400, "ConcurrentLimitExceededException"), on="POST")
    EbsSnapshotWriter(make_client(url, time=time)).start(1 << 30, **OPTIONS)
    assert len(time.pauses) == 2
