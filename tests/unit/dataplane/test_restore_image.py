from __future__ import annotations

import os
from pathlib import Path

import pytest

from holdfast.dataplane.backup import SegmentTask, back_up_segment
from holdfast.dataplane.deadline import no_deadline
from holdfast.dataplane.image import restore_image
from holdfast.dataplane.outcome import SegmentDone
from holdfast.errors import ConfigurationError, DamagedError
from holdfast.model.blocks import BLOCK_SIZE, GIB, Segment
from holdfast.repository.map import SegmentRef
from holdfast.repository.repository import Repository
from holdfast.stores.directory import DirectoryStore
from tests.repository_builders import FakeKms, FixedClock, SeededIds
from tests.snapshots import Blocks, MemorySnapshots, block, noise


def stored(folder: Path, blocks: Blocks) -> tuple[SegmentRef, Repository]:
    folder.mkdir()
    repository = Repository.create(DirectoryStore(folder), SeededIds(), FixedClock(), key_wrapper=FakeKms())
    outcome = back_up_segment(
        SegmentTask("snap-1", None, GIB, Segment(0, 0, 2_048)),
        reader=MemorySnapshots({"snap-1": blocks}),
        repository=repository,
        ids=SeededIds("packs"),
        deadline=no_deadline(),
        connections=2,
        pack_bytes=2 << 20,
    )
    assert isinstance(outcome, SegmentDone)
    assert outcome.ref is not None
    return outcome.ref, repository


def restored(path: Path, ref: SegmentRef | None, size: int, repository: Repository) -> bytes:
    with path.open("wb") as file:
        restore_image([ref], size, repository, file.fileno())
    return path.read_bytes()


def test_an_image_holds_the_volume_and_stays_sparse(tmp_path: Path) -> None:
    blocks = {1: block("a"), 40: noise(), 2_047: block("b")}
    ref, repository = stored(tmp_path / "repository", blocks)
    path, told = tmp_path / "disk.raw", []
    with path.open("wb") as file:
        count = restore_image([ref], GIB, repository, file.fileno(), progress=told.append)
    assert (count, sum(told)) == (3, 3)
    with path.open("rb") as file:
        for index in range(2_048):
            assert file.read(BLOCK_SIZE) == blocks.get(index, bytes(BLOCK_SIZE))
    assert path.stat().st_size == GIB
    assert path.stat().st_blocks * 512 <= 4 * BLOCK_SIZE


def test_a_volume_without_data_is_one_hole(tmp_path: Path) -> None:
    _, repository = stored(tmp_path / "repository", {1: block("a")})
    path = tmp_path / "disk.raw"
    assert restored(path, None, 3 << 20, repository) == bytes(3 << 20)
    assert path.stat().st_blocks == 0


def test_what_the_file_held_before_is_gone(tmp_path: Path) -> None:
    ref, repository = stored(tmp_path / "repository", {1: block("a")})
    path = tmp_path / "disk.raw"
    path.write_bytes(b"old" * BLOCK_SIZE)
    with path.open("r+b") as file:
        restore_image([ref], 2 * BLOCK_SIZE, repository, file.fileno())
    assert path.read_bytes() == bytes(BLOCK_SIZE) + block("a")


def test_the_last_block_of_an_odd_size_is_cut_where_it_is_zero(tmp_path: Path) -> None:
    half = block("a")[: BLOCK_SIZE // 2] + bytes(BLOCK_SIZE // 2)
    ref, repository = stored(tmp_path / "repository", {0: half})
    assert restored(tmp_path / "disk.raw", ref, BLOCK_SIZE // 2, repository) == half[: BLOCK_SIZE // 2]


def test_data_beyond_the_end_of_the_volume_is_damage(tmp_path: Path) -> None:
    ref, repository = stored(tmp_path / "repository", {3: block("a")})
    with pytest.raises(DamagedError, match="beyond the end"):
        restored(tmp_path / "disk.raw", ref, BLOCK_SIZE, repository)


def test_a_damaged_pack_is_named(tmp_path: Path) -> None:
    ref, repository = stored(tmp_path / "repository", {3: noise()})
    pack = next(path for path in (tmp_path / "repository" / "packs").rglob("*") if path.is_file())
    pack.chmod(0o644)
    content = bytearray(pack.read_bytes())
    content[200_000] ^= 4
    pack.write_bytes(content)
    with pytest.raises(DamagedError, match=pack.name):
        restored(tmp_path / "disk.raw", ref, GIB, repository)


def test_only_regular_files_are_written_to(tmp_path: Path) -> None:
    ref, repository = stored(tmp_path / "repository", {1: block("a")})
    reading, writing = os.pipe()
    with pytest.raises(ConfigurationError, match="not a regular file"):
        restore_image([ref], GIB, repository, writing)
    os.close(reading)
    os.close(writing)
