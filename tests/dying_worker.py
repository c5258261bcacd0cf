"""A worker in a process of its own that backs a segment up into a directory, and dies when it is told to.

Run with the directory and the number of the object at whose creation it dies; the object is written whole
by then, and has no name yet.
"""

from __future__ import annotations

import os
import sys
from itertools import count
from pathlib import Path

from holdfast.dataplane.backup import SegmentTask, back_up_segment
from holdfast.dataplane.deadline import no_deadline
from holdfast.dataplane.outcome import SegmentDone
from holdfast.model.blocks import GIB, Segment
from holdfast.repository.layout import PointName
from holdfast.repository.repository import Repository
from holdfast.stores.directory import DirectoryStore
from tests.repository_builders import INSTANCE, FakeKms, SeededIds, block, commit, make_manifest
from tests.snapshots import MemorySnapshots

DIED = 9
FIRST = {index: block(index) for index in range(4)}
SECOND = FIRST | {index: block(f"new {index}") for index in range(2, 9)}


def back_up(root: Path, snapshot: str, run: str) -> PointName:
    """Back up ``snapshot`` on top of the first point, if there is one, and make the point visible."""
    repository = Repository.open(DirectoryStore(root), FakeKms())
    first = PointName(INSTANCE, "p1")
    previous = repository.read_point(first).references()[0] if first in repository.list_points() else None
    base = "snap-1" if previous else None
    outcome = back_up_segment(
        SegmentTask(snapshot, base, GIB, Segment(0, 0, 2048), previous=previous),
        reader=MemorySnapshots({"snap-1": FIRST, "snap-2": SECOND}),
        repository=repository,
        ids=SeededIds(run),
        deadline=no_deadline(),
        connections=3,
        pack_bytes=2 << 20,
    )
    assert isinstance(outcome, SegmentDone)
    point = "p2" if previous else "p1"
    return commit(repository, make_manifest({0: outcome.ref}, point_id=point, full=not previous), seed=run)


def die_at(number: int) -> None:
    """End this process, without a farewell, when it names its object ``number`` (from 0)."""
    link, named = os.link, count()

    def name(unfinished: Path, path: Path) -> None:
        if next(named) == number:
            os._exit(DIED)
        link(unfinished, path)

    os.link = name  # type: ignore[assignment]


if __name__ == "__main__":
    die_at(int(sys.argv[2]))
    back_up(Path(sys.argv[1]), "snap-2", f"run {sys.argv[2]}")
