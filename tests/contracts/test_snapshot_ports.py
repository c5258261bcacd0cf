"""What readers and writers of snapshots promise to the data plane; each implementation passes the same tests.

A new one joins by adding a line to ``SITES``: a function from an empty directory to a context with a site.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from holdfast.aws import ebs
from holdfast.aws.http import HttpClient
from holdfast.aws.signing import Signer
from holdfast.aws.sts import SessionCredentials
from holdfast.errors import ConflictError, HoldfastError, SourceGoneError
from holdfast.model.blocks import BLOCK_SIZE
from holdfast.ports import BlockRef, SnapshotReader, SnapshotWriter
from tests.aws_builders import close_clients, make_client
from tests.loopback import State, serving
from tests.snapshots import Blocks, MemorySnapshots, block
from tests.worlds import PROD, REGION, client, instance, opened, take_snapshot

MISSING = "snap-0123456789abcdef0"


@dataclass
class Site:
    """Where snapshots are: ``take`` makes two of one volume, ``stranger`` one of another volume."""

    reader: SnapshotReader
    writer: SnapshotWriter
    take: Callable[[Blocks, Blocks], tuple[str, str]]
    stranger: Callable[[], str]
    content: Callable[[str], Blocks]

    def start(self, token: str = "token-1", size: int = 1 << 30) -> str:
        return self.writer.start(
            size, token=token, description="A test", tags={"a": "b"}, encrypted=False, kms_key_arn=""
        )

    def put(self, snapshot_id: str, blocks: Blocks) -> bytes:
        """Write blocks; the aggregate over their digests."""
        for index, content in blocks.items():
            self.writer.put(snapshot_id, index, content, hashlib.sha256(content).digest())
        digests = b"".join(hashlib.sha256(blocks[index]).digest() for index in sorted(blocks))
        return hashlib.sha256(digests).digest()


@contextmanager
def memory(_: Path) -> Iterator[Site]:
    snapshots = MemorySnapshots()

    def take(first: Blocks, second: Blocks) -> tuple[str, str]:
        snapshots.snapshots |= {"snap-1": first, "snap-2": second}
        return "snap-1", "snap-2"

    def stranger() -> str:
        snapshots.snapshots["snap-9"] = {}
        snapshots.unrelated.add("snap-9")
        return "snap-9"

    yield Site(snapshots, snapshots, take, stranger, snapshots.snapshots.__getitem__)


@contextmanager
def sockets(_: Path) -> Iterator[Site]:
    state = State(page_size=3)
    with serving(state) as url:

        def take(first: Blocks, second: Blocks) -> tuple[str, str]:
            state.snapshots |= {"snap-1": first, "snap-2": second}
            return "snap-1", "snap-2"

        def stranger() -> str:
            state.snapshots["snap-9"], state.unrelated = {}, True
            return "snap-9"

        made = make_client(url)
        reader, writer = ebs.EbsSnapshotReader(made), ebs.EbsSnapshotWriter(made)
        yield Site(reader, writer, take, stranger, state.snapshots.__getitem__)
        close_clients()


@contextmanager
def simulated(directory: Path) -> Iterator[Site]:
    with opened(directory, instances=[instance()]) as aws:
        ec2: Any = client(aws, "ec2")

        def volume() -> str:
            return str(ec2.create_volume(Size=1, AvailabilityZone=f"{REGION}a")["VolumeId"])

        def take(first: Blocks, second: Blocks) -> tuple[str, str]:
            volume_id, taken = volume(), []
            for before, blocks in (({}, first), (first, second)):
                for index in blocks:
                    if blocks[index] != before.get(index):
                        aws.ebs.write_blocks(volume_id, index, blocks[index])
                for index in before.keys() - blocks.keys():
                    aws.ebs.discard_blocks(volume_id, index, 1)
                taken.append(take_snapshot(aws, volume_id))
            return taken[0], taken[1]

        def stranger() -> str:
            volume_id = volume()
            aws.ebs.write_blocks(volume_id, 0, block("theirs"))
            return take_snapshot(aws, volume_id)

        def content(snapshot_id: str) -> Blocks:
            aws.clock.advance(aws.world.ebs.snapshot_seconds)
            refs = reader.allocated(snapshot_id, 0, 2_048)
            return {ref.index: _read(reader, snapshot_id, ref) for ref in refs}

        made = HttpClient(
            aws.endpoints["ebs"],
            Signer("ebs", REGION, lambda: aws.clock.now().timestamp()),
            SessionCredentials(lambda: aws.session(PROD, REGION)),
            ebs.tell,
        )
        reader, writer = ebs.EbsSnapshotReader(made), ebs.EbsSnapshotWriter(made)
        yield Site(reader, writer, take, stranger, content)
        made.close()


SITES: dict[str, Callable[[Path], AbstractContextManager[Site]]] = {
    "memory": memory,
    "sockets": sockets,
    "simulated": simulated,
}


@pytest.fixture(params=sorted(SITES))
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    with SITES[request.param](tmp_path / "site") as made:
        yield made


def _read(reader: SnapshotReader, snapshot_id: str, ref: BlockRef) -> bytes:
    buffer = bytearray(BLOCK_SIZE)
    digest = reader.read_into(snapshot_id, ref, memoryview(buffer))
    assert digest == hashlib.sha256(buffer).digest()
    return bytes(buffer)


FIRST = {index: block(index + 1) for index in (0, 1, 5, 700, 2_047)}
SECOND = {0: FIRST[0], 1: block("new"), 5: FIRST[5], 9: block("added"), 2_047: FIRST[2_047]}


def test_allocated_blocks_are_listed_in_order_and_read_as_they_were(site: Site) -> None:
    first, _ = site.take(FIRST, SECOND)
    refs = list(site.reader.allocated(first, 0, 2_048))
    assert [ref.index for ref in refs] == sorted(FIRST)
    assert {ref.index: _read(site.reader, first, ref) for ref in refs} == FIRST


@pytest.mark.parametrize("start, end", [(0, 1), (1, 700), (1, 701), (701, 2_047), (3, 3)])
def test_a_listing_keeps_to_its_range(site: Site, start: int, end: int) -> None:
    first, second = site.take(FIRST, SECOND)
    expected = [index for index in sorted(FIRST) if start <= index < end]
    assert [ref.index for ref in site.reader.allocated(first, start, end)] == expected
    expected = [index for index in (1, 9, 700) if start <= index < end]
    assert [ref.index for ref in site.reader.changed(first, second, start, end)] == expected


def test_changed_blocks_have_tokens_of_the_later_snapshot_unless_they_are_gone(site: Site) -> None:
    first, second = site.take(FIRST, SECOND)
    changed = {ref.index: ref for ref in site.reader.changed(first, second, 0, 2_048)}
    assert changed[700].token == ""
    assert _read(site.reader, second, changed[1]) == SECOND[1]
    assert _read(site.reader, second, changed[9]) == SECOND[9]


def test_a_snapshot_that_does_not_exist_is_gone(site: Site) -> None:
    first, _ = site.take(FIRST, SECOND)
    with pytest.raises(SourceGoneError):
        list(site.reader.allocated(MISSING, 0, 10))
    with pytest.raises(SourceGoneError):
        list(site.reader.changed(MISSING, first, 0, 10))


def test_snapshots_of_two_volumes_are_in_conflict(site: Site) -> None:
    first, _ = site.take(FIRST, SECOND)
    with pytest.raises(ConflictError):
        list(site.reader.changed(site.stranger(), first, 0, 10))


def test_what_is_written_and_completed_can_be_read(site: Site) -> None:
    snapshot_id = site.start()
    aggregate = site.put(snapshot_id, FIRST)
    site.writer.complete(snapshot_id, len(FIRST), aggregate)
    assert site.content(snapshot_id) == FIRST


def test_writing_a_block_again_is_harmless(site: Site) -> None:
    snapshot_id = site.start()
    site.put(snapshot_id, FIRST)
    aggregate = site.put(snapshot_id, FIRST)
    site.writer.complete(snapshot_id, len(FIRST), aggregate)
    assert site.content(snapshot_id) == FIRST


def test_a_block_that_is_not_its_digest_is_refused(site: Site) -> None:
    snapshot_id = site.start()
    with pytest.raises(HoldfastError):
        site.writer.put(snapshot_id, 0, block("a"), hashlib.sha256(b"other").digest())


@pytest.mark.parametrize("count, change", [(4, 0), (5, 1)])
def test_a_snapshot_that_is_not_its_aggregate_is_refused(site: Site, count: int, change: int) -> None:
    snapshot_id = site.start()
    aggregate = bytearray(site.put(snapshot_id, FIRST))
    aggregate[0] ^= change
    with pytest.raises(HoldfastError):
        site.writer.complete(snapshot_id, count, bytes(aggregate))
