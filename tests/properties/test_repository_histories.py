"""Whole histories of a repository: backups, expiry and encryption in any order, read by both readers."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.model.blocks import BLOCK_SIZE, GIB, SEGMENT_BLOCKS
from holdfast.ports import KeyWrapper
from holdfast.repository.encryption import enable_encryption
from holdfast.repository.layout import PointName
from holdfast.repository.map import SegmentRef
from holdfast.repository.repository import Repository
from holdfast.stores.directory import DirectoryStore
from tests.repository_builders import (
    INSTALLATION,
    NOW,
    SeededIds,
    commit,
    make_manifest,
    make_repository,
    password,
    read_volume,
    write_segment,
)
from tools.read_repository import Reader

SIZE = 20 * GIB
PASSWORD = "any password"
BLOCKS = (0, 1, 63, 64, 20_000, SEGMENT_BLOCKS - 1, SEGMENT_BLOCKS, SEGMENT_BLOCKS + 8000)

changes = st.dictionaries(st.sampled_from(BLOCKS), st.integers(0, 5), max_size=4)
backups = st.tuples(st.just("back up"), changes)
expiries = st.tuples(st.just("expire"), st.integers(0, 5))
enabling = st.tuples(st.just("encrypt"), st.none())
histories = st.lists(st.one_of(backups, backups, expiries, enabling), min_size=2, max_size=8)


def content(seed: int) -> bytes:
    """A block of which zstd leaves some bytes; 0 stands for zeros, which are not stored."""
    return hashlib.sha256(bytes([seed])).digest() * (BLOCK_SIZE // 32)


class History:
    """A repository, what it is expected to hold, and the last backup's maps."""

    def __init__(self, folder: Path, wrapper: KeyWrapper | None) -> None:
        self.store = DirectoryStore(folder)
        self.repository = make_repository(self.store, wrapper)
        self.ids = SeededIds("history")
        self.state: dict[int, bytes] = {}
        self.refs: dict[int, SegmentRef | None] = {}
        self.points: dict[PointName, dict[int, bytes]] = {}
        self.now = NOW

    def back_up(self, changed: dict[int, int]) -> None:
        """An incremental, or a full when nothing of the past may be built on."""
        before = dict(self.state)
        self.state.update({index: content(seed) for index, seed in changed.items() if seed})
        for index in [index for index, seed in changed.items() if not seed]:
            self.state.pop(index, None)
        reusable = all(ref is None or ref.epoch == self.repository.keys.epoch for ref in self.refs.values())
        for number in range(2):
            first = number * SEGMENT_BLOCKS
            mine = {i: d for i, d in self.state.items() if first <= i < first + SEGMENT_BLOCKS}
            new = {i: d for i, d in mine.items() if not reusable or before.get(i) != d}
            gone = [i for i in before if first <= i < first + SEGMENT_BLOCKS and i not in mine]
            self.refs[number] = write_segment(
                self.repository,
                new,
                gone,
                previous=self.refs.get(number) if reusable else None,
                first=first,
                ids=self.ids,
            )
        manifest = make_manifest(self.refs, point_id=f"p{len(self.points)}-{self.now:%d}", size_bytes=SIZE)
        self.points[commit(self.repository, manifest)] = dict(self.state)

    def expire(self, number: int) -> None:
        """Two cycles for one point."""
        for _ in range(2):
            expired = sorted(self.points)[number : number + 1]
            self.repository.expire_points(expired, self.now, ids=self.ids, installation=INSTALLATION)
            self.now += timedelta(days=1)
        for name in expired:
            del self.points[name]

    def encrypt(self) -> None:
        if not self.repository.encrypted:
            self.repository = enable_encryption(self.store, password(PASSWORD), ids=self.ids)


@given(histories, st.booleans())
@settings(max_examples=15)
def test_every_point_that_is_kept_is_read_exactly_by_both_readers(
    history: list[tuple[str, object]], encrypted: bool
):
    with TemporaryDirectory() as folder:
        wrapper = password(PASSWORD) if encrypted else None
        played = History(Path(folder), wrapper)
        for step, argument in history:
            if step == "back up":
                played.back_up(argument)
            elif step == "expire":
                played.expire(argument)
            else:
                played.encrypt()
        sealed = played.repository.encrypted
        opened = Repository.open(played.store, password(PASSWORD) if sealed else None)
        assert sorted(opened.list_points()) == sorted(played.points)
        assert opened.check(read_data=True).sound
        second = Reader(Path(folder), PASSWORD if sealed else None)
        for name, expected in played.points.items():
            assert read_volume(opened, name) == expected
            (volume,) = second.point(f"{name.instance_id}/{name.point_id}")["volumes"]
            assert dict(second.blocks(volume)) == expected
