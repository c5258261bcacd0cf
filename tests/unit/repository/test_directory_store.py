"""The directory store where it differs from a bucket: hostile keys, links, crashes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from holdfast.errors import ConfigurationError, ConflictError, NotFoundError
from holdfast.stores.directory import DirectoryStore

HOSTILE = [
    "../outside",
    "a/../../outside",
    "/etc/passwd",
    "a//b",
    "./a",
    "a/",
    "",
    "a\\b",
    "a\0b",
    "ä",
    "x" * 1025,
    ".unfinished-1",
]


@pytest.mark.parametrize("key", HOSTILE)
def test_a_hostile_key_is_refused(tmp_path: Path, key: str):
    store = DirectoryStore(tmp_path)
    for call in (store.get, store.stat, store.delete, lambda key: store.put_new(key, b"")):
        with pytest.raises(ConfigurationError):
            call(key)


def test_a_symbolic_link_does_not_lead_outside(tmp_path: Path):
    (tmp_path / "secret").write_text("secret")
    root = tmp_path / "root"
    root.mkdir()
    (root / "link").symlink_to(tmp_path / "secret")
    (root / "folder").symlink_to(tmp_path)
    store = DirectoryStore(root)
    with pytest.raises(ConfigurationError):
        store.get("link")
    with pytest.raises(ConfigurationError):
        store.get("folder/secret")
    assert list(store.list("")) == []


def test_what_a_crash_left_unfinished_is_not_listed(tmp_path: Path):
    store = DirectoryStore(tmp_path)
    store.put_new("a/b", b"x")
    (tmp_path / "a" / ".unfinished-123").write_bytes(b"half")
    assert [stat.key for stat in store.list("")] == ["a/b"]


def test_writing_leaves_no_unfinished_file(tmp_path: Path):
    store = DirectoryStore(tmp_path)
    store.put_new("a/b", b"x")
    with pytest.raises(ConflictError):
        store.put_new("a/b", b"y")
    store.replace("a/b", b"z", etag=store.stat("a/b").etag)
    assert sorted(os.listdir(tmp_path / "a")) == ["b"]


def test_an_object_that_disappears_while_listing_is_left_out(tmp_path: Path):
    store = DirectoryStore(tmp_path)
    store.put_new("a", b"x")
    store.put_new("b", b"x")
    listing = store.list("")
    assert next(listing).key == "a"
    store.delete("b")
    assert list(listing) == []


def test_a_missing_directory_is_not_found(tmp_path: Path):
    with pytest.raises(NotFoundError, match="no such directory"):
        DirectoryStore(tmp_path / "nowhere")


def test_a_file_url_names_a_directory(tmp_path: Path):
    folder = tmp_path / "my copy"
    folder.mkdir()
    store = DirectoryStore.from_url(folder.as_uri())
    store.put_new("key", b"x")
    assert (folder / "key").read_bytes() == b"x"


@pytest.mark.parametrize("url", ["s3://bucket/prefix", "file://host/path", "file:relative", "folder"])
def test_another_url_is_refused(url: str):
    with pytest.raises(ConfigurationError, match="file:///"):
        DirectoryStore.from_url(url)
