"""A worker process that dies between any two writes, over a real directory."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from holdfast.repository.layout import PointName
from holdfast.repository.repository import Repository
from holdfast.stores.directory import DirectoryStore
from tests.dying_worker import DIED, FIRST, SECOND, back_up
from tests.repository_builders import FakeKms, make_repository, read_volume

OBJECTS = 5
"""What the second backup writes: three packs, a map and a point."""


def die(template: Path, folder: Path) -> dict[int, Path]:
    """A copy of the repository for each object of a backup, left by a worker that died creating it."""
    roots = {number: folder / str(number) for number in range(OBJECTS + 1)}
    for root in roots.values():
        shutil.copytree(template, root)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    workers = [
        subprocess.Popen([sys.executable, "-m", "tests.dying_worker", root, str(number)], env=environment)
        for number, root in roots.items()
    ]
    assert [worker.wait(120) for worker in workers] == [DIED] * OBJECTS + [0]
    return roots


def test_a_process_that_dies_between_any_two_writes_shows_nothing_and_the_next_one_completes(tmp_path: Path):
    template = tmp_path / "template"
    template.mkdir()
    make_repository(DirectoryStore(template), FakeKms())
    first = back_up(template, "snap-1", "first")
    roots = die(template, tmp_path)
    whole = Repository.open(DirectoryStore(roots.pop(OBJECTS)), FakeKms())
    assert [name.point_id for name in whole.list_points()] == ["p1", "p2"]
    for number, root in roots.items():
        assert list(root.rglob(".unfinished-*")), "it died in the middle of a write"
        left = Repository.open(DirectoryStore(root), FakeKms())
        assert list(left.list_points()) == [first], number
        assert read_volume(left, first) == FIRST
        assert left.check(read_data=True).sound
        second = back_up(root, "snap-2", f"again {number}")
        assert second == PointName(first.instance_id, "p2")
        assert (read_volume(left, first), read_volume(left, second)) == (FIRST, SECOND)
        assert left.check(read_data=True).sound
