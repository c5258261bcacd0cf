"""Any single byte of any object is changed: a restore gives the exact bytes or fails naming the object.

Blocks compress to some hundred bytes here, so that every byte of every object can have its turn.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator

import pytest

from holdfast.errors import DamagedError
from holdfast.model.blocks import BLOCK_SIZE
from holdfast.ports import KeyWrapper
from holdfast.repository.encryption import enable_encryption
from holdfast.repository.layout import HEADER_SIZE, PointName
from holdfast.repository.pack import RAW
from holdfast.repository.repository import Repository
from tests.memory_store import MemoryStore
from tests.repository_builders import (
    FakeKms,
    SeededIds,
    block,
    commit,
    make_manifest,
    make_repository,
    read_volume,
    write_segment,
)


def tiny(seed: object) -> bytes:
    """A block that compresses to about a hundred bytes."""
    return hashlib.sha256(str(seed).encode()).digest() * (BLOCK_SIZE // 32)


Expected = dict[PointName, dict[int, bytes]]


def small_repository(kind: str) -> tuple[MemoryStore, KeyWrapper | None, Expected]:
    """A full and an incremental; ``adopted`` was encrypted between the two."""
    store = MemoryStore()
    wrapper = None if kind == "plain" else FakeKms()
    repository = make_repository(store, None if kind == "adopted" else wrapper)
    ids = SeededIds()
    one, two = {0: tiny(0)}, {0: tiny(0), 70: tiny(70)}
    full = write_segment(repository, one, ids=ids)
    names = [commit(repository, make_manifest({0: full}, point_id="p1"))]
    if kind == "adopted" and wrapper:
        repository = enable_encryption(store, wrapper, ids=ids)
        incremental = write_segment(repository, two, ids=ids)
    else:
        incremental = write_segment(repository, {70: two[70]}, previous=full, ids=ids)
    names.append(commit(repository, make_manifest({0: incremental}, point_id="p2")))
    return store, wrapper, dict(zip(names, (one, two), strict=True))


def flips(content: bytes, positions: range | list[int]) -> Iterator[tuple[int, bytes]]:
    for position in positions:
        changed = bytearray(content)
        changed[position] ^= 1 << position % 8
        yield position, bytes(changed)


def restore_all(store: MemoryStore, wrapper: KeyWrapper | None, expected: Expected) -> set[str]:
    """Names of the objects that errors blamed; whatever was restored is what was backed up."""
    blamed = set()
    try:
        repository = Repository.open(store, wrapper)
    except DamagedError as error:
        return {error.resource}
    for name, content in expected.items():
        try:
            found = read_volume(repository, name)
        except DamagedError as error:
            blamed.add(error.resource)
        else:
            assert found == content, name
    return blamed


@pytest.mark.parametrize("kind", ["plain", "encrypted", "adopted"])
def test_every_byte_of_every_object_of_a_small_repository(kind: str):
    store, wrapper, expected = small_repository(kind)
    assert restore_all(store, wrapper, expected) == set()
    unnoticed: dict[str, list[int]] = {}
    first, second = expected
    for key, content in list(store.objects.items()):
        if kind == "adopted" and key.startswith(("packs/", "maps/")):
            continue  # as in the other two
        concerned = {second: expected[second]}
        if key == first.key or key.startswith(("maps/", "adopted/")):
            concerned[first] = expected[first]
        for position, changed in flips(content, range(len(content))):
            store.objects[key] = changed
            blamed = restore_all(store, wrapper, concerned)
            assert blamed <= {key}, f"byte {position}"
            if not blamed:
                unnoticed.setdefault(key, []).append(position)
        store.objects[key] = content
    for key, positions in unnoticed.items():
        length = len(store.objects[key])
        structure = {*range(HEADER_SIZE), *range(length - 37 * 2 - 36, length)}
        if key.startswith("packs/"):
            assert set(positions) <= structure, (
                "only header and directory of a pack are not needed to restore"
            )
        elif key.startswith("maps/"):
            assert positions == list(range(HEADER_SIZE)), "only the header of a map is not needed to restore"
        else:
            assert key == "owner.json"


@pytest.mark.parametrize("kind", ["plain", "encrypted"])
def test_a_check_with_data_finds_every_byte_of_packs_and_points(kind: str):
    store, wrapper, _ = small_repository(kind)
    repository = Repository.open(store, wrapper)
    assert repository.check(read_data=True).sound
    for key, content in list(store.objects.items()):
        if not key.startswith(("packs/", "points/")):
            continue
        for position, changed in flips(content, range(0, len(content), 3)):
            store.objects[key] = changed
            report = repository.check(read_data=True)
            assert [damage.key for damage in report.damages] == [key], f"byte {position}"
        store.objects[key] = content


@pytest.mark.parametrize("kind", ["plain", "encrypted"])
def test_bytes_of_a_pack_with_incompressible_blocks(kind: str):
    """Every structural byte, the edges of every block, and samples of the payload."""
    store = MemoryStore()
    wrapper = None if kind == "plain" else FakeKms()
    repository = make_repository(store, wrapper)
    content = {0: block("raw"), 1: block("zstd", compressible=True)}
    ref = write_segment(repository, content, ids=SeededIds())
    name = commit(repository, make_manifest({0: ref}))
    rows = dict(repository.load_map(ref).blocks(0, 2))
    assert rows[0].encoding == RAW
    (key,) = [key for key in store.objects if key.startswith("packs/")]
    whole = store.objects[key]
    edges = [
        position
        for row in rows.values()
        for start in (row.offset, row.offset + row.length - 16)
        for position in range(start, start + 16)
    ]
    end = max(row.offset + row.length for row in rows.values())
    samples = random.Random(1).sample(range(HEADER_SIZE, end), 150)
    positions = [*range(HEADER_SIZE), *edges, *samples, *range(end, len(whole))]
    for position, changed in flips(whole, positions):
        store.objects[key] = changed
        blamed = restore_all(store, wrapper, {name: content})
        assert blamed == ({key} if HEADER_SIZE <= position < end else set()), f"byte {position}"
