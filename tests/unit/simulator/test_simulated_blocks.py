"""Maps of blocks against a plain model, and the files that hold blocks."""

from __future__ import annotations

import os
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from simulator.blocks import BLOCK, PAGE, BlockFiles, BlockMap, copy_sparse, filled_blocks

indexes = st.integers(0, 3 * PAGE)
writes = st.lists(st.tuples(indexes, st.integers(0, 3)), max_size=40)


def apply(changes: list[tuple[int, int]], blocks: BlockMap, model: dict[int, int]) -> None:
    for index, ref in changes:
        blocks[index] = ref
        model[index] = ref


@given(before=writes, after=writes, start=indexes)
def test_changed_blocks_are_those_where_a_brute_force_comparison_finds_a_difference(before, after, start):
    blocks, model = BlockMap(), {}
    apply(before, blocks, model)
    snapshot, held = blocks.share(), dict(model)
    apply(after, blocks, model)
    expected = [i for i in range(start, 3 * PAGE + 1) if model.get(i, 0) != held.get(i, 0)]
    assert list(blocks.changed(snapshot, start)) == expected
    assert list(snapshot.changed(blocks, start)) == expected


@given(before=writes, after=writes, start=indexes)
def test_a_snapshot_keeps_its_blocks_whatever_either_side_writes_later(before, after, start):
    blocks, model = BlockMap(), {}
    apply(before, blocks, model)
    snapshot = blocks.share()
    apply(after, blocks, {})
    later = snapshot.share()
    apply(after, later, {})
    allocated = [index for index, ref in sorted(model.items()) if ref and index >= start]
    assert list(snapshot.allocated(start)) == allocated
    assert [snapshot[index] for index in allocated] == [model[index] for index in allocated]


def test_written_blocks_are_read_back_also_after_reopening_the_directory(tmp_path: Path):
    files = BlockFiles(tmp_path / "blocks")
    refs = [files.write(bytes([number]) * BLOCK) for number in (1, 0, 2)]
    names = files.names()
    files.close()
    again = BlockFiles(tmp_path / "blocks")
    again.adopt(names)
    refs.append(again.write(b"\3" * BLOCK))
    assert [again.read(ref)[:1] for ref in refs] == [b"\1", b"\0", b"\2", b"\3"]
    assert len(set(refs)) == 4
    again.close()


def test_space_of_blocks_that_nobody_refers_to_is_given_back(tmp_path: Path):
    files = BlockFiles(tmp_path / "blocks")
    refs = [files.write(bytes([number]) * BLOCK) for number in range(1, 9)]
    written = tmp_path / "blocks" / "written.blocks"
    size, kept = written.stat().st_size, {refs[1], refs[4]}
    files.keep_only(kept)
    assert written.stat().st_blocks * 512 <= 2 * BLOCK
    assert written.stat().st_size == size
    assert [files.read(ref)[:1] for ref in sorted(kept)] == [b"\2", b"\5"]
    assert files.read(files.write(b"\7" * BLOCK))[:1] == b"\7"
    assert files.read(refs[7]) == bytes(BLOCK)
    files.close()


def test_holes_of_an_image_are_not_allocated_and_its_end_is_padded_with_zeros(tmp_path: Path):
    image = tmp_path / "disk.raw"
    with image.open("wb") as file:
        file.write(b"\1" * BLOCK)
        file.seek(10 * BLOCK)
        file.write(b"\2" * 100)
    files = BlockFiles(tmp_path / "blocks")
    found = dict(files.add_image(image))
    assert sorted(found) == [0, 10]
    assert files.read(found[10]) == b"\2" * 100 + bytes(BLOCK - 100)
    files.close()


def test_a_sparse_copy_is_equal_and_keeps_its_holes(tmp_path: Path):
    image, copy = tmp_path / "disk.raw", tmp_path / "deep" / "copy.raw"
    with image.open("wb") as file:
        file.truncate(64 * BLOCK)
        file.seek(5 * BLOCK + 17)
        file.write(b"content")
    copy_sparse(image, copy)
    assert copy.read_bytes() == image.read_bytes()
    descriptor = os.open(copy, os.O_RDONLY)
    assert list(filled_blocks(descriptor)) == [5]
    os.close(descriptor)
