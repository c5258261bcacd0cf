"""What every object store promises to the repository; each implementation passes the same tests.

A new store joins by adding one line to ``STORES``: a function from an empty directory to a context with an
empty store.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pytest

from holdfast.errors import ConflictError, DamagedError, NotFoundError
from holdfast.ports import ObjectStore
from holdfast.stores.directory import DirectoryStore
from tests.aws_builders import s3_store
from tests.memory_store import MemoryStore

STORES: dict[str, Callable[[Path], AbstractContextManager[ObjectStore]]] = {
    "memory": lambda _: nullcontext(MemoryStore()),
    "directory": lambda root: nullcontext(DirectoryStore(root)),
    "s3": lambda _: s3_store(),
}


@pytest.fixture(params=sorted(STORES))
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ObjectStore]:
    with STORES[request.param](tmp_path) as made:
        yield made


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_an_object_comes_back_as_it_was_put(store: ObjectStore, kind: Callable[[bytes], bytes]):
    store.put_new("packs/ab/cd", kind(b"content"))
    assert store.get("packs/ab/cd") == b"content"


def test_an_empty_object_is_an_object(store: ObjectStore):
    store.put_new("empty", b"")
    assert (store.get("empty"), store.stat("empty").size) == (b"", 0)


def test_put_new_never_overwrites(store: ObjectStore):
    store.put_new("key", b"first")
    with pytest.raises(ConflictError):
        store.put_new("key", b"second")
    assert store.get("key") == b"first"


def test_of_many_who_put_the_same_key_one_wins_whole(store: ObjectStore):
    def put(writer: int) -> bool:
        try:
            store.put_new("key", bytes([writer]) * 100_000)
        except ConflictError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        won = [writer for writer, ok in enumerate(pool.map(put, range(8))) if ok]
    assert len(won) == 1
    assert store.get("key") == bytes(won) * 100_000


def test_an_object_may_be_put_in_an_archive_class(store: ObjectStore):
    store.put_new("packs/aa/x", b"cold", storage_class="DEEP_ARCHIVE")
    assert store.stat("packs/aa/x").size == 4


def test_a_range_has_exactly_the_bytes_asked_for(store: ObjectStore):
    store.put_new("key", bytes(range(100)))
    assert store.get_range("key", 10, 5) == bytes(range(10, 15))
    assert store.get_range("key", 95, 5) == bytes(range(95, 100))


@pytest.mark.parametrize("offset, length", [(96, 5), (100, 1), (1000, 10)])
def test_a_range_beyond_the_end_is_damage(store: ObjectStore, offset: int, length: int):
    store.put_new("key", bytes(100))
    with pytest.raises(DamagedError) as caught:
        store.get_range("key", offset, length)
    assert "key" in str(caught.value)


def test_what_is_not_there_is_not_found(store: ObjectStore):
    with pytest.raises(NotFoundError):
        store.get("a/b")
    with pytest.raises(NotFoundError):
        store.get_range("a/b", 0, 1)
    with pytest.raises(NotFoundError):
        store.stat("a/b")


def test_a_folder_is_no_object(store: ObjectStore):
    store.put_new("a/b", b"x")
    with pytest.raises(NotFoundError):
        store.get("a")
    with pytest.raises(NotFoundError):
        store.stat("a")
    with pytest.raises(NotFoundError):
        store.get_range("a", 0, 1)
    with pytest.raises(NotFoundError):
        store.get("a/b/c")


def test_replace_needs_the_present_etag(store: ObjectStore):
    store.put_new("key", b"one")
    etag = store.stat("key").etag
    store.replace("key", b"two", etag=etag)
    with pytest.raises(ConflictError):
        store.replace("key", b"three", etag=etag)
    assert store.get("key") == b"two"


def test_replace_does_not_create(store: ObjectStore):
    with pytest.raises(ConflictError):
        store.replace("key", b"content", etag="anything")
    with pytest.raises(NotFoundError):
        store.get("key")


def test_the_etag_changes_with_the_content(store: ObjectStore):
    store.put_new("key", b"one")
    before = store.stat("key").etag
    store.replace("key", b"two", etag=before)
    assert store.stat("key").etag != before


def test_of_many_who_replace_with_one_etag_one_wins(store: ObjectStore):
    store.put_new("key", b"start")
    etag = store.stat("key").etag

    def replace(writer: int) -> bool:
        try:
            store.replace("key", bytes([writer]), etag=etag)
        except ConflictError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        won = [writer for writer, ok in enumerate(pool.map(replace, range(8))) if ok]
    assert len(won) == 1
    assert store.get("key") == bytes(won)


def test_a_listing_has_the_prefix_in_key_order_with_sizes(store: ObjectStore):
    for key in ("points/i-2/a", "points/i-1/b", "points/i-1/a", "points/i-10/a", "packs/x", "points.txt"):
        store.put_new(key, key.encode())
    assert [(stat.key, stat.size) for stat in store.list("points/")] == [
        ("points/i-1/a", 12),
        ("points/i-1/b", 12),
        ("points/i-10/a", 13),
        ("points/i-2/a", 12),
    ]
    assert [stat.key for stat in store.list("points/i-1/")] == ["points/i-1/a", "points/i-1/b"]
    assert [stat.key for stat in store.list("points/i-1")] == [
        "points/i-1/a",
        "points/i-1/b",
        "points/i-10/a",
    ]
    assert list(store.list("nothing/")) == []
    assert len(list(store.list(""))) == 6


def test_times_are_aware(store: ObjectStore):
    store.put_new("key", b"x")
    assert store.stat("key").modified_at.utcoffset() is not None


def test_a_deleted_object_is_gone_and_may_be_made_anew(store: ObjectStore):
    store.put_new("a/b", b"old")
    store.delete("a/b")
    store.delete("a/b")
    store.delete("never/was")
    assert list(store.list("")) == []
    store.put_new("a/b", b"new")
    assert store.get("a/b") == b"new"
