"""The data plane over real sockets that misbehave: bytes arrive, or an error does."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count

import pytest

from holdfast.aws.ebs import EbsSnapshotReader, EbsSnapshotWriter
from holdfast.aws.s3 import S3ObjectStore
from holdfast.dataplane.backup import SegmentTask, back_up_segment
from holdfast.dataplane.deadline import no_deadline
from holdfast.dataplane.outcome import SegmentDone
from holdfast.dataplane.restore import linear_checksum, restore_segment, volume_digests
from holdfast.errors import HoldfastError, IntegrityError, TransientError
from holdfast.model.blocks import BLOCK_SIZE, GIB, Segment
from holdfast.repository.map import SegmentRef
from holdfast.repository.repository import Repository
from tests.aws_builders import close_clients, make_client
from tests.loopback import Fault, Handler, State, checksum_headers, lost_answer, raw, refusal, reset, serving
from tests.repository_builders import FakeKms, FixedClock, SeededIds
from tests.snapshots import Blocks, block, noise

HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 524288\r\n"
_runs = count()


class CrashError(BaseException):
    """The worker's process ends here: nothing catches it."""


def wrong_checksum(handler: Handler) -> bool:
    """A block arrives with the checksum of another."""
    if handler.command != "GET" or "/blocks/" not in handler.url_path:
        return False
    handler.answer(200, block("damaged"), **checksum_headers(block("other")))
    return True


STORM: list[Fault] = [
    refusal(400, "RequestThrottledException", "ACCOUNT_THROTTLED"),
    refusal(503, "SlowDown"),
    refusal(500, "InternalServerException"),
    refusal(403, "ExpiredTokenException"),
    reset(),
    reset(HEAD + b"\r\n" + bytes(70_000)),
    raw(HEAD + b"\r\nshort"),
    raw(b"\0garbage\r\n\r\n"),
    raw(HEAD + b"x-amz-Checksum: none\r\n\r\n" + bytes(BLOCK_SIZE)),
    lost_answer,
    wrong_checksum,
]


@pytest.fixture
def state() -> State:
    return State()


@pytest.fixture
def url(state: State) -> Iterator[str]:
    with serving(state) as url:
        yield url
        close_clients()


def a_store(url: str) -> S3ObjectStore:
    return S3ObjectStore(make_client(url, "s3"), "bucket", "r", root="/bucket/")


def a_repository(url: str) -> Repository:
    return Repository.create(a_store(url), SeededIds(), FixedClock(), key_wrapper=FakeKms())


def back_up(url: str, repository: Repository, snapshot: str = "snap-1", **changes: object) -> SegmentDone:
    outcome = back_up_segment(
        replace(SegmentTask(snapshot, None, GIB, Segment(0, 0, 2_048)), **changes),  # type: ignore[arg-type]
        reader=EbsSnapshotReader(make_client(url)),
        repository=repository,
        ids=SeededIds(f"run {next(_runs)}"),
        deadline=no_deadline(),
        connections=6,
        pack_bytes=2 << 20,
    )
    assert isinstance(outcome, SegmentDone)
    return outcome


def restore(url: str, repository: Repository, ref: SegmentRef, state: State) -> Blocks:
    writer = EbsSnapshotWriter(make_client(url))
    snapshot_id = writer.start(
        GIB, token=f"{next(_runs)}", description="", tags={}, encrypted=False, kms_key_arn=""
    )
    restore_segment(
        ref,
        0,
        snapshot_id=snapshot_id,
        repository=repository,
        writer=writer,
        deadline=no_deadline(),
        connections=6,
    )
    writer.complete(snapshot_id, *linear_checksum(volume_digests([ref], repository)))
    assert snapshot_id in state.completed
    return state.snapshots[snapshot_id]


def test_what_is_backed_up_over_the_wire_is_restored_and_counted(state: State, url: str) -> None:
    first = {index: noise() if index % 2 else block(index) for index in range(0, 40, 2)} | {1: noise()}
    second = {**first, 7: noise(), 8: bytes(BLOCK_SIZE)}
    state.snapshots, state.page_size = {"snap-1": first, "snap-2": second}, 7
    repository = a_repository(url)
    full = back_up(url, repository)
    assert full.counts.requests["ebs:GetSnapshotBlock"] == len(first)
    assert full.counts.requests["ebs:ListSnapshotBlocks"] == 3
    done = back_up(url, repository, "snap-2", base_snapshot_id="snap-1", previous=full.ref)
    assert done.counts.requests["ebs:ListChangedBlocks"] == 1
    assert done.counts.requests["ebs:GetSnapshotBlock"] == 2
    assert done.ref is not None
    assert restore(url, repository, done.ref, state) == {i: data for i, data in second.items() if any(data)}


@pytest.mark.parametrize("seed", range(3))
def test_a_storm_of_faults_costs_time_and_nothing_else(state: State, url: str, seed: int) -> None:
    chance = random.Random(seed)
    blocks = {index: noise() for index in range(24)}
    state.snapshots = {"snap-1": blocks}
    repository = a_repository(url)
    for fault in STORM:
        state.fail(chance.randint(1, 2), fault, on="/blocks/|/packs/")
    chance.shuffle(state.faults)
    ref = back_up(url, repository).ref
    assert ref is not None
    assert state.faults == []
    for fault in STORM:
        state.fail(chance.randint(1, 2), fault, on="PUT /snapshots")
    assert restore(url, repository, ref, state) == blocks


def test_a_source_that_always_lies_is_never_stored(state: State, url: str) -> None:
    state.snapshots = {"snap-1": {index: block(index + 1) for index in range(6)}}
    repository = a_repository(url)
    state.fail(1_000, wrong_checksum, on="GET /snapshots/.*/blocks/4")
    with pytest.raises(IntegrityError, match="Block 4"):
        back_up(url, repository)
    assert not [key for key in state.objects if "/maps/" in key]


def crash_at(number: int) -> Callable[[str], None]:
    numbers, lock = count(), threading.Lock()

    def on_request(_: str) -> None:
        with lock:
            if next(numbers) == number:
                raise CrashError

    return on_request


@pytest.mark.parametrize("number", range(0, 16, 3))
def test_a_worker_that_dies_at_any_request_is_repeated_to_the_same_digests(
    state: State, url: str, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks = {index: noise() for index in range(10)}
    state.snapshots = {"snap-1": blocks}
    repository = a_repository(url)
    expected = back_up(url, repository).ref
    begun = set(state.objects)
    on_request = crash_at(number)
    for adapter in (EbsSnapshotReader, S3ObjectStore):
        for name in ("read_into", "put_new", "_list"):
            if hasattr(adapter, name):
                monkeypatch.setattr(adapter, name, _dying(getattr(adapter, name), on_request))
    with pytest.raises(CrashError):
        back_up(url, repository)
    monkeypatch.undo()
    assert begun <= set(state.objects)
    ref = back_up(url, repository).ref
    assert ref is not None
    assert expected is not None
    assert ref.root == expected.root
    assert restore(url, repository, ref, state) == blocks


def _dying(method: Callable[..., object], on_request: Callable[[str], None]) -> Callable[..., object]:
    def call(*arguments: object, **options: object) -> object:
        on_request(method.__name__)
        return method(*arguments, **options)

    return call


def test_a_quota_that_never_recovers_is_an_error_to_retry_later(state: State, url: str) -> None:
    state.snapshots = {"snap-1": {0: block("a")}}
    repository = a_repository(url)
    state.fail(1_000, refusal(400, "RequestThrottledException"), on="GET /snap")
    with pytest.raises(TransientError):
        back_up(url, repository)


def test_a_repository_that_refuses_is_named(state: State, url: str) -> None:
    state.snapshots = {"snap-1": {0: block("a")}}
    repository = a_repository(url)
    state.fail(1, refusal(403, "AccessDenied"), on="PUT /bucket/r/packs")
    with pytest.raises(HoldfastError) as caught:
        back_up(url, repository)
    assert caught.value.code == "AccessDenied"
    assert "s3://bucket/r/packs/" in str(caught.value)
