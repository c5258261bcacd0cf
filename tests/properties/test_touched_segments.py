"""The segments that an incremental backup reads, against a plain count."""

from __future__ import annotations

from collections.abc import Iterator
from unittest.mock import patch

from hypothesis import given
from hypothesis import strategies as st

from holdfast.model.blocks import BLOCK_SIZE, SEGMENT_BLOCKS
from holdfast.operations.sessions import plan_backup
from holdfast.operations.steps import TakenSnapshot
from holdfast.ports import BlockRef

SEGMENTS = 6


class Listing:
    """A reader that lists given blocks as changed and counts how many it was made to tell."""

    def __init__(self, changed: set[int]) -> None:
        self.blocks = sorted(changed)
        self.told = 0

    def changed(self, base_id: str, snapshot_id: str, start: int, end: int) -> Iterator[BlockRef]:
        for index in self.blocks:
            if start <= index < end:
                self.told += 1
                yield BlockRef(index, "token")


near_borders = st.builds(
    lambda segment, offset: (segment * SEGMENT_BLOCKS + offset) % (SEGMENTS * SEGMENT_BLOCKS),
    st.integers(0, SEGMENTS - 1),
    st.integers(-3, 3),
)


@given(
    blocks=st.sets(near_borders | st.integers(0, SEGMENTS * SEGMENT_BLOCKS - 1), max_size=60),
    skim=st.integers(1, 5),
    partial=st.integers(0, SEGMENT_BLOCKS - 1),
)
def test_every_touched_segment_is_found_and_the_listing_stays_bounded(
    blocks: set[int], skim: int, partial: int
):
    size = (SEGMENTS * SEGMENT_BLOCKS - partial) * BLOCK_SIZE
    inside = {index for index in blocks if index < size // BLOCK_SIZE}
    expected = {index // SEGMENT_BLOCKS for index in inside}
    reader = Listing(inside)
    taken = TakenSnapshot(volume_id="vol-1", snapshot_id="snap-2", size_bytes=size)
    with patch.object(plan_backup, "SKIM", skim):
        assert plan_backup._touched(reader, "snap-1", taken) == expected
    assert reader.told <= skim * max(1, len(expected))
