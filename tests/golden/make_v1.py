"""Writes the golden repositories of format 1, once: `python -m tests.golden.make_v1 DIRECTORY`.

The repositories under ``v1`` are never made anew: they prove that what an earlier release wrote stays
readable. ``expected.json`` beside them lists what they hold: digests of blocks by repository, point, volume.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

from holdfast.model.blocks import BLOCK_SIZE, GIB, SEGMENT_BLOCKS
from holdfast.ports import KeyWrapper
from holdfast.repository.encryption import enable_encryption
from holdfast.repository.manifest import PointManifest, manifest_root, volume_manifest
from holdfast.repository.map import SegmentRef
from holdfast.repository.repository import Repository
from holdfast.stores.directory import DirectoryStore
from tests.repository_builders import (
    INSTALLATION,
    NOW,
    FakeKms,
    FixedClock,
    SeededIds,
    configuration,
    digest,
    password,
)

SIZES = {"vol-a": 20 * GIB, "vol-b": 1 * GIB}
KMS = "golden key"
PASSWORD = "golden password: grüße"


def content(seed: str) -> bytes:
    """A block of which zstd leaves 4 to 5 KiB."""
    return hashlib.shake_256(seed.encode()).digest(4096) * (BLOCK_SIZE // 4096)


Blocks = dict[int, bytes]


def back_up(
    repository: Repository,
    point_id: str,
    changes: dict[str, Blocks],
    removed: set[int],
    previous: PointManifest | None,
) -> PointManifest:
    """One restore point of both volumes."""
    ids = SeededIds(f"{repository.id} {point_id}")
    writer = repository.pack_writer(ids, buffers=1)
    volumes = []
    for number, (volume_id, size) in enumerate(SIZES.items()):
        old = previous.volumes[number].segments if previous else (None,) * -(-size // (16 * GIB))
        refs: list[SegmentRef | None] = []
        for index, ref in enumerate(old):
            first = index * SEGMENT_BLOCKS
            end = first + SEGMENT_BLOCKS
            mine = {i: data for i, data in changes[volume_id].items() if first <= i < end}
            rows = {i: writer.append(data, digest(data)) for i, data in sorted(mine.items())}
            writer.flush()
            gone = removed if volume_id == "vol-a" and index == 0 else set()
            segment = repository.load_map(ref, first)
            refs.append(repository.store_map(segment, rows, gone, ids=ids, pack_bytes=writer.sealed))
        volumes.append(volume_manifest(volume_id, f"/dev/xvd{'ab'[number]}", size, refs, f"snap-{point_id}"))
    manifest = PointManifest(
        point_id=point_id,
        taken_at=NOW,
        session_id=f"session-{point_id}",
        policy="golden",
        full=previous is None,
        configuration=configuration((v.volume_id, v.device, v.size_bytes) for v in volumes),
        volumes=tuple(volumes),
        root=manifest_root(volumes),
    )
    return repository.commit_point(manifest, ids=ids, installation=INSTALLATION)


def make(store: DirectoryStore, wrapper: KeyWrapper | None, *, adopt: bool) -> dict[str, dict[str, Blocks]]:
    """A full and an incremental; with ``adopt`` a plain full, and a second one under the key."""
    repository = Repository.create(
        store,
        SeededIds(f"golden {type(wrapper).__name__} {adopt}"),
        FixedClock(),
        key_wrapper=None if adopt else wrapper,
    )
    repository.claim(INSTALLATION, NOW)
    one: dict[str, Blocks] = {
        "vol-a": {i: content(f"a{i}") for i in (0, 1, 63, 64, 4000, SEGMENT_BLOCKS - 1, SEGMENT_BLOCKS)},
        "vol-b": {2047: bytes(BLOCK_SIZE - 1) + b"\1"},
    }
    first = back_up(repository, "p1", one, set(), None)
    changes: dict[str, Blocks] = {"vol-a": {1: content("new"), 9000: content("more")}, "vol-b": {}}
    two = {"vol-a": {**one["vol-a"], **changes["vol-a"]}, "vol-b": one["vol-b"]}
    del two["vol-a"][4000]
    if adopt and wrapper:
        repository = enable_encryption(store, wrapper, ids=SeededIds("adopt"))
        back_up(repository, "p2", two, set(), None)
    else:
        back_up(repository, "p2", changes, {4000}, first)
    return {"p1": one, "p2": two}


def main(target: Path) -> None:
    expected = {}
    wrappers: dict[str, KeyWrapper | None] = {
        "plain": None,
        "kms": FakeKms(KMS),
        "password": password(PASSWORD, "golden"),
        "adopted": password(PASSWORD, "golden adopted"),
    }
    for name, wrapper in wrappers.items():
        (target / name).mkdir(parents=True)
        points = make(DirectoryStore(target / name), wrapper, adopt=name == "adopted")
        expected[name] = {
            point: {
                volume: {str(index): digest(data).hex() for index, data in sorted(blocks.items())}
                for volume, blocks in volumes.items()
            }
            for point, volumes in points.items()
        }
        if wrapper:
            key = Repository.open(DirectoryStore(target / name), wrapper).keys.secret
            (target / f"{name}.key").write_text((key or b"").hex() + "\n")
    (target / "expected.json").write_text(json.dumps(expected, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
