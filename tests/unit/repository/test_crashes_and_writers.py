"""Crashes at any write, many writers at once, and what writing never does."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from holdfast.errors import DamagedError
from holdfast.ports import KeyWrapper
from holdfast.repository.envelope import open_envelope
from holdfast.repository.layout import ObjectKind, PointName, object_header
from holdfast.repository.manifest import PointManifest
from holdfast.repository.repository import Repository
from tests.memory_store import MemoryStore
from tests.repository_builders import (
    INSTALLATION,
    NOW,
    FakeKms,
    SeededIds,
    block,
    commit,
    make_manifest,
    make_repository,
    read_volume,
    write_segment,
)

ONE = {0: block(0, compressible=True), 70: block(70, compressible=True)}
TWO = {**ONE, 70: block("new", compressible=True)}


class Crash(Exception):
    pass


class CrashingStore(MemoryStore):
    """Stops working at the n-th write, before or after it took effect."""

    def __init__(self) -> None:
        super().__init__()
        self.writes_left: int | None = None
        self.took_effect = False

    def put_new(self, key: str, content: bytes, *, storage_class: str = "STANDARD") -> None:
        if self.writes_left == 0:
            if self.took_effect:
                super().put_new(key, content, storage_class=storage_class)
            raise Crash
        if self.writes_left is not None:
            self.writes_left -= 1
        super().put_new(key, content, storage_class=storage_class)


@pytest.fixture(params=[None, FakeKms()], ids=["plain", "encrypted"])
def wrapper(request: pytest.FixtureRequest) -> KeyWrapper | None:
    return request.param


def back_up_second(repository: Repository, ids: SeededIds) -> PointName:
    """The incremental after the first point."""
    previous = repository.read_point(PointName("i-0123456789abcdef0", "p1")).references()[0]
    ref = write_segment(repository, {70: TWO[70]}, previous=previous, ids=ids)
    return commit(repository, make_manifest({0: ref}, point_id="p2", full=False))


@pytest.mark.parametrize("took_effect", [False, True], ids=["before the write", "after the write"])
@pytest.mark.parametrize("writes", range(3))
def test_a_crash_at_any_write_shows_nothing_partial_and_a_new_run_completes(
    wrapper: KeyWrapper | None, writes: int, took_effect: bool
):
    store = CrashingStore()
    repository = make_repository(store, wrapper)
    first = commit(repository, make_manifest({0: write_segment(repository, ONE, ids=SeededIds("1"))}))
    store.writes_left, store.took_effect = writes, took_effect
    with pytest.raises(Crash):
        back_up_second(repository, SeededIds("2"))
    store.writes_left = None
    after = Repository.open(store, wrapper)
    for name in after.list_points():
        assert read_volume(after, name) == (ONE if name == first else TWO)
    assert after.check(read_data=True).sound
    second = back_up_second(after, SeededIds("3"))
    assert read_volume(after, first) == ONE
    assert read_volume(after, second) == TWO
    assert [name.point_id for name in after.list_points()] == ["p1", "p2"]


class AppendOnlyStore(MemoryStore):
    """Refuses whatever Object Lock would refuse."""

    def replace(self, key: str, content: bytes, *, etag: str) -> None:
        raise AssertionError(f"{key} is replaced")

    def delete(self, key: str) -> None:
        raise AssertionError(f"{key} is deleted")


def test_backing_up_only_ever_creates_objects(wrapper: KeyWrapper | None):
    store = AppendOnlyStore()
    repository = make_repository(store, wrapper)
    commit(repository, make_manifest({0: write_segment(repository, ONE, ids=SeededIds("1"))}))
    second = back_up_second(repository, SeededIds("2"))
    assert read_volume(repository, second) == TWO
    assert set(store.versions.values()) == {1}


def test_many_writers_share_a_repository_without_a_lock(wrapper: KeyWrapper | None):
    store = MemoryStore()
    make_repository(store, wrapper)

    def work(number: int) -> tuple[PointName, dict[int, bytes]]:
        repository = Repository.open(store, wrapper)
        ids = SeededIds(f"writer {number}")
        content = {index: block((number, index), compressible=True) for index in range(0, 200, 50)}
        ref = write_segment(repository, content, ids=ids)
        content[50] = block((number, "new"), compressible=True)
        ref = write_segment(repository, {50: content[50]}, previous=ref, ids=ids)
        return commit(repository, make_manifest({0: ref}, point_id=f"p{number}")), content

    with ThreadPoolExecutor(8) as pool:
        written = list(pool.map(work, range(16)))
    repository = Repository.open(store, wrapper)
    assert all(read_volume(repository, name) == content for name, content in written)
    assert repository.check(read_data=True).sound


def test_of_two_that_commit_the_same_point_at_once_one_is_seen_by_both(wrapper: KeyWrapper | None):
    """A session that was started twice: both attempts end well, with one restore point."""
    store = MemoryStore()
    repository = make_repository(store, wrapper)
    ref = write_segment(repository, ONE, ids=SeededIds())

    def attempt(number: int) -> PointManifest:
        manifest = make_manifest({0: ref}).model_copy(update={"stored_bytes": number})
        return repository.commit_point(manifest, ids=SeededIds(f"try {number}"), installation=INSTALLATION)

    with ThreadPoolExecutor(8) as pool:
        seen = {manifest.stored_bytes for manifest in pool.map(attempt, range(8))}
    assert len(seen) == 1
    assert len(list(repository.list_points())) == 1


def test_a_document_that_would_fill_memory_is_refused():
    """A frame in a plain repository, with a right digest, that promises a terabyte or no size at all."""
    keys = make_repository(MemoryStore()).keys
    cipher = keys.cipher(ObjectKind.POINT, b"s" * 32)
    header = object_header(ObjectKind.POINT, 0, b"s" * 32)
    bomb = b"\x28\xb5\x2f\xfd\xe0" + (1 << 40).to_bytes(8, "little") + b"\x01\x00\x00"
    unknown = b"\x28\xb5\x2f\xfd\x00\x58\x01\x00\x00"
    for frame in (bomb, unknown, b"garbage"):
        content = header + frame + cipher.digest(0, frame, b"points/a/b")
        with pytest.raises(DamagedError) as caught:
            open_envelope(keys, ObjectKind.POINT, "points/a/b", content)
        assert caught.value.resource == "points/a/b"


def test_foreign_candidates_are_left_alone():
    store = MemoryStore()
    repository = make_repository(store)
    store.put_new("candidates/points/readme", b"x")
    store.put_new("candidates/packs/ab", b"x")
    repository.expire_points([], NOW, ids=SeededIds(), installation=INSTALLATION)
    assert {"candidates/points/readme", "candidates/packs/ab"} <= set(store.objects)
