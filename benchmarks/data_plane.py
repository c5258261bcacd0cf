"""CPU per block: Holdfast's worker, the plain way with boto3, and the pipeline from memory into nothing.

All of them run in one process on one CPU, in turns, so that a busy neighbour slows all alike; those with the
tightest goal, Holdfast and memory, follow one another. User and system time of that process count, the clock
on the wall does not. The pipeline from memory is the same code with the same blocks, codec and keys; what it
lacks is what sending and receiving costs: TLS, HTTP, signatures, system calls, and the checksums of uploads.
"""

from __future__ import annotations

import base64
import gc
import hashlib
import os
import resource
import ssl
import statistics
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import zstandard
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from benchmarks.content import blocks
from benchmarks.server import SNAPSHOT, Service, serving
from holdfast.aws import ebs, http, s3
from holdfast.aws.budget import RateBudget
from holdfast.aws.signing import Credentials, Signer
from holdfast.dataplane.backup import SegmentTask, back_up_segment
from holdfast.dataplane.deadline import no_deadline
from holdfast.dataplane.outcome import SegmentDone
from holdfast.dataplane.restore import restore_segment
from holdfast.errors import ConflictError, DamagedError, NotFoundError
from holdfast.model.blocks import BLOCK_SIZE, Segment
from holdfast.ports import BlockRef, ObjectStat
from holdfast.repository.map import SegmentRef
from holdfast.repository.repository import Repository

CONTENTS = 192
PACK_BYTES = 32 << 20
CONNECTIONS = 24
PLAIN_THREADS = 16


class Ids:
    """The operating system's randomness."""

    def random_bytes(self, count: int) -> bytes:
        return os.urandom(count)


class Fixed:
    """Credentials that never change."""

    def __init__(self) -> None:
        self.credentials = Credentials("AKIDEXAMPLE", "secret", "t" * 600)

    def current(self) -> Credentials:
        return self.credentials

    def renew(self, stale: Credentials) -> None:
        """They do not expire."""


class MemoryStore:
    """Objects in a dictionary; packs can be dropped, for a pipeline that ends in nothing."""

    def __init__(self, *, keep_packs: bool = True) -> None:
        self.objects: dict[str, bytes] = {}
        self._keep_packs = keep_packs

    def put_new(
        self, key: str, content: bytes | bytearray | memoryview, *, storage_class: str = "STANDARD"
    ) -> None:
        if key in self.objects:
            raise ConflictError("It exists.", resource=key)
        if self._keep_packs or not key.startswith("packs/"):
            self.objects[key] = bytes(content)

    def replace(self, key: str, content: bytes, *, etag: str) -> None:
        self.objects[key] = content

    def get(self, key: str) -> bytes:
        if key not in self.objects:
            raise NotFoundError("It does not exist.", resource=key)
        return self.objects[key]

    def get_range(self, key: str, offset: int, length: int) -> bytes:
        piece = self.get(key)[offset : offset + length]
        if len(piece) != length:
            raise DamagedError("It is too short.", resource=key)
        return piece

    def stat(self, key: str) -> ObjectStat:
        raise NotFoundError("Nobody asks.", resource=key)

    def list(self, prefix: str) -> Iterator[ObjectStat]:
        return iter(())

    def delete(self, key: str) -> None:
        self.objects.pop(key, None)


class MemoryReader:
    """A snapshot in memory whose digests are known beforehand."""

    def __init__(self, contents: list[bytes], size: int) -> None:
        self.contents = contents
        self.digests = [hashlib.sha256(content).digest() for content in contents]
        self.size = size

    def allocated(self, snapshot_id: str, start: int, end: int) -> Iterator[BlockRef]:
        return (BlockRef(index, "token") for index in range(start, min(end, self.size)))

    def changed(self, base_id: str, snapshot_id: str, start: int, end: int) -> Iterator[BlockRef]:
        return self.allocated(snapshot_id, start, end)

    def read_into(self, snapshot_id: str, ref: BlockRef, buffer: memoryview) -> bytes:
        place = ref.index % len(self.contents)
        buffer[:] = self.contents[place]
        return self.digests[place]


class KeyInHand:
    """Wraps a repository key in nothing: the benchmark is about blocks."""

    def wrap(self, key: bytes, repository_id: str) -> dict[str, str | int]:
        return {"kind": "plain", "key": key.hex()}

    def unwrap(self, header: Any, repository_id: str) -> bytes:
        return bytes.fromhex(str(header["key"]))


class Clock:
    """Not asked for anything that matters here."""

    def now(self) -> Any:
        from datetime import UTC, datetime

        return datetime.now(UTC)


class Parties(NamedTuple):
    """What the contenders work with."""

    service: Service
    reader: ebs.EbsSnapshotReader
    writer: ebs.EbsSnapshotWriter
    store: s3.S3ObjectStore
    count: int


# A worker's connections are busy from its start to its end; here they wait for the other contenders.
http.STALE_AFTER = 3_600.0


def cpu_seconds() -> float:
    """User and system time of this process, all threads."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def unlimited(adapter: Any) -> None:
    """Lift the quota of AWS: the server here has none, and waiting is not what is measured."""
    budget = RateBudget(1e9, burst=1e9)
    adapter._budgets.of = lambda snapshot_id: (budget, budget)


def parties(service: Service, count: int) -> Parties:
    """Adapters of Holdfast on the server."""
    tls = ssl.create_default_context(cafile=str(service.certificate))
    client = http.HttpClient(service.url, Signer("ebs", "eu-central-1"), Fixed(), ebs.tell, tls=tls)
    s3_client = http.HttpClient(service.url, Signer("s3", "eu-central-1"), Fixed(), s3.tell, tls=tls)
    reader, writer = ebs.EbsSnapshotReader(client), ebs.EbsSnapshotWriter(client)
    unlimited(reader)
    unlimited(writer)
    return Parties(
        service, reader, writer, s3.S3ObjectStore(s3_client, "bucket", "r", root="/bucket/"), count
    )


def new_repository(store: Any) -> Repository:
    """An encrypted repository that nobody has written to."""
    store.delete("repository.json")
    return Repository.create(store, Ids(), Clock(), key_wrapper=KeyInHand())


def back_up(reader: Any, repository: Repository, count: int, connections: int) -> SegmentRef:
    """One full backup of ``count`` blocks."""
    outcome = back_up_segment(
        SegmentTask(SNAPSHOT, None, count * BLOCK_SIZE, Segment(0, 0, count)),
        reader=reader,
        repository=repository,
        ids=Ids(),
        deadline=no_deadline(),
        connections=connections,
        pack_bytes=PACK_BYTES,
    )
    assert isinstance(outcome, SegmentDone)
    assert outcome.ref is not None
    return outcome.ref


class Plain:
    """The plain way: boto3 clients shared by threads, each step as the libraries offer it."""

    def __init__(self, parties: Parties) -> None:
        import boto3
        from botocore.config import Config

        session = boto3.Session("AKIDEXAMPLE", "secret", "t" * 600, "eu-central-1")
        options = {
            "endpoint_url": parties.service.url,
            "verify": str(parties.service.certificate),
            "config": Config(max_pool_connections=PLAIN_THREADS, s3={"addressing_style": "path"}),
        }
        self.ebs = session.client("ebs", **options)
        self.s3 = session.client("s3", **options)
        self.parties = parties
        self.cipher = AESGCM(os.urandom(32))
        self.lock = threading.Lock()
        self.local = threading.local()
        self.packs = 0
        self.rows: list[tuple[int, str, int, int, bytes]] = []

    def back_up(self) -> None:
        """GetSnapshotBlock, SHA-256, zstd-1, AES-256-GCM, put_object of 32 MiB packs."""
        self.rows, self.open_pack = [], bytearray()
        listed = []
        for page in self._pages():
            listed += [(block["BlockIndex"], block["BlockToken"]) for block in page["Blocks"]]
        with ThreadPoolExecutor(PLAIN_THREADS) as pool:
            list(pool.map(self._move, listed))
        self._seal(self.open_pack, self.packs)
        self.packs += 1

    def _pages(self) -> Iterator[dict[str, Any]]:
        arguments: dict[str, Any] = {"SnapshotId": SNAPSHOT, "MaxResults": 10_000, "StartingBlockIndex": 0}
        while True:
            page = self.ebs.list_snapshot_blocks(**arguments)
            yield page
            if not page.get("NextToken"):
                return
            arguments["NextToken"] = page["NextToken"]

    def _move(self, item: tuple[int, str]) -> None:
        index, token = item
        answer = self.ebs.get_snapshot_block(SnapshotId=SNAPSHOT, BlockIndex=index, BlockToken=token)
        content = answer["BlockData"].read()
        digest = hashlib.sha256(content).digest()
        if digest != base64.b64decode(answer["Checksum"]):
            raise SystemExit("The server of the benchmark sends wrong checksums.")
        if not hasattr(self.local, "compressor"):
            self.local.compressor = zstandard.ZstdCompressor(level=1)
        sealed = self.cipher.encrypt(index.to_bytes(12, "big"), self.local.compressor.compress(content), b"")
        full = None
        with self.lock:
            if len(self.open_pack) + len(sealed) > PACK_BYTES:
                full, number, self.open_pack = self.open_pack, self.packs, bytearray()
                self.packs += 1
            self.rows.append((index, f"plain/{self.packs}", len(self.open_pack), len(sealed), digest))
            self.open_pack += sealed
        if full is not None:
            self._seal(full, number)

    def _seal(self, pack: bytearray, number: int) -> None:
        self.s3.put_object(Bucket="bucket", Key=f"plain/{number}", Body=bytes(pack))

    def restore(self) -> None:
        """Ranged get_object, AES-256-GCM, zstd, SHA-256, put_snapshot_block."""
        with ThreadPoolExecutor(PLAIN_THREADS) as pool:
            list(pool.map(self._put, self.rows))

    def _put(self, row: tuple[int, str, int, int, bytes]) -> None:
        index, key, offset, length, digest = row
        wanted = f"bytes={offset}-{offset + length - 1}"
        sealed = self.s3.get_object(Bucket="bucket", Key=key, Range=wanted)["Body"].read()
        plain = self.cipher.decrypt(index.to_bytes(12, "big"), sealed, b"")
        content = zstandard.ZstdDecompressor().decompress(plain)
        if hashlib.sha256(content).digest() != digest:
            raise SystemExit("A block did not survive the plain way.")
        self.ebs.put_snapshot_block(
            SnapshotId=SNAPSHOT,
            BlockIndex=index,
            BlockData=content,
            DataLength=BLOCK_SIZE,
            Checksum=base64.b64encode(digest).decode(),
            ChecksumAlgorithm="SHA256",
        )


class Measured(NamedTuple):
    """CPU milliseconds per block of every contender in every round."""

    backup: dict[str, list[float]]
    restore: dict[str, list[float]]
    ratio: float


def measure(count: int, rounds: int) -> Measured:
    """Run all contenders in turns. The first round warms up and is not counted."""
    contents = blocks(CONTENTS)
    backup: dict[str, list[float]] = {"holdfast": [], "plain": [], "memory": []}
    restore: dict[str, list[float]] = {"holdfast": [], "plain": []}
    cpus = sorted(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as folder, serving(Path(folder), CONTENTS, count, cpus[-1]) as service:
        os.sched_setaffinity(0, {cpus[0]})
        all_parties = parties(service, count)
        repository = new_repository(all_parties.store)
        memory = new_repository(MemoryStore(keep_packs=False))
        plain = Plain(all_parties)
        memory_reader = MemoryReader(contents, count)
        refs: list[SegmentRef] = []
        contenders: list[tuple[list[float], Callable[[], object]]] = [
            (
                backup["holdfast"],
                lambda: refs.append(back_up(all_parties.reader, repository, count, CONNECTIONS)),
            ),
            (backup["memory"], lambda: back_up(memory_reader, memory, count, CONNECTIONS)),
            (backup["plain"], plain.back_up),
            (restore["holdfast"], lambda: _restore(refs[-1], repository, all_parties)),
            (restore["plain"], plain.restore),
        ]
        for number in range(rounds + 1):
            for results, run in contenders:
                gc.collect()
                before = cpu_seconds()
                run()
                spent = (cpu_seconds() - before) * 1000 / count
                if number:
                    results.append(spent)
        os.sched_setaffinity(0, set(cpus))
    stored = sum(len(zstandard.ZstdCompressor(level=1).compress(content)) for content in contents)
    return Measured(backup, restore, stored / (len(contents) * BLOCK_SIZE))


def _restore(ref: SegmentRef, repository: Repository, all_parties: Parties) -> None:
    outcome = restore_segment(
        ref,
        0,
        snapshot_id=SNAPSHOT,
        repository=repository,
        writer=all_parties.writer,
        deadline=no_deadline(),
        connections=CONNECTIONS,
    )
    assert outcome.counts.blocks_stored == all_parties.count


def ratio(results: dict[str, list[float]], one: str, other: str) -> float:
    """Median over rounds of the ratio within a round."""
    return statistics.median(a / b for a, b in zip(results[one], results[other], strict=True))


def main(count: int = 640, rounds: int = 5) -> dict[str, float]:
    """Print CPU per block and the ratios that are goals; return the ratios."""
    measured = measure(count, rounds)
    print(f"data plane: {count} blocks, {rounds} rounds, zstd-1 leaves {measured.ratio:.2f} of the content")
    for what, results in (("backup", measured.backup), ("restore", measured.restore)):
        for name, values in results.items():
            print(
                f"  {what:8}{name:10}{statistics.median(values):7.2f} ms CPU/block  "
                f"({BLOCK_SIZE / 1e3 / statistics.median(values):5.0f} MB/s per CPU; "
                f"rounds {' '.join(f'{value:.2f}' for value in values)})"
            )
    ratios = {
        "backup_to_plain": ratio(measured.backup, "holdfast", "plain"),
        "backup_to_memory": ratio(measured.backup, "holdfast", "memory"),
        "restore_speedup": ratio(measured.restore, "plain", "holdfast"),
    }
    print(f"  backup costs {ratios['backup_to_plain']:.2f} of the plain way (goal: at most 0.60)")
    print(f"  backup costs {ratios['backup_to_memory']:.2f} of memory to nothing (goal: at most 1.50)")
    print(f"  restore costs 1/{ratios['restore_speedup']:.2f} of the plain way (goal: at most 1/1.60)")
    return ratios


if __name__ == "__main__":
    main()
