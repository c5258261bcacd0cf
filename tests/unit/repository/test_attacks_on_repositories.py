"""Each test is an attack, or an accident that looks like one: it is refused, and the object is named.

Objects are moved, swapped, rolled back, taken from another repository, cut, extended and removed.
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from holdfast.errors import DamagedError, HoldfastError, NotFoundError
from holdfast.ports import KeyWrapper
from holdfast.repository.layout import PointName
from holdfast.repository.repository import Repository
from tests.memory_store import MemoryStore
from tests.repository_builders import (
    FakeKms,
    FixedClock,
    SeededIds,
    block,
    commit,
    make_manifest,
    make_repository,
    password,
    read_volume,
    write_segment,
)

WRAPPERS: dict[str, KeyWrapper | None] = {"plain": None, "password": password(), "kms": FakeKms()}


@dataclass
class Target:
    """A repository with a full and an incremental, and what they hold."""

    store: MemoryStore
    wrapper: KeyWrapper | None
    names: list[PointName]
    contents: list[dict[int, bytes]]

    def keys(self, prefix: str) -> list[str]:
        return sorted(key for key in self.store.objects if key.startswith(prefix))

    def assault(self) -> list[HoldfastError | None]:
        """Restore every point; each gives its exact bytes (None) or an error."""
        outcomes: list[HoldfastError | None] = []
        for name, content in zip(self.names, self.contents, strict=True):
            try:
                found = read_volume(Repository.open(self.store, self.wrapper), name)
            except (DamagedError, NotFoundError) as error:
                outcomes.append(error)
            else:
                assert found == content
                outcomes.append(None)
        return outcomes


def make_target(wrapper: KeyWrapper | None, seed: str = "") -> Target:
    store = MemoryStore()
    repository = make_repository(store, wrapper, seed=f"repository{seed}")
    ids = SeededIds(f"ids{seed}")
    one = {index: block((seed, index), compressible=True) for index in (0, 1, 64, 500)}
    two = {**one, 1: block((seed, "new"), compressible=True), 200: block((seed, "more"), compressible=True)}
    full = write_segment(repository, one, ids=ids)
    names = [commit(repository, make_manifest({0: full}, point_id="p1"), seed=seed)]
    changes = {index: two[index] for index in (1, 200)}
    incremental = write_segment(repository, changes, previous=full, ids=ids)
    names.append(commit(repository, make_manifest({0: incremental}, point_id="p2"), seed=seed))
    return Target(store, wrapper, names, [one, two])


@pytest.fixture(params=sorted(WRAPPERS))
def wrapper(request: pytest.FixtureRequest) -> KeyWrapper | None:
    return WRAPPERS[request.param]


@pytest.fixture
def target(wrapper: KeyWrapper | None) -> Target:
    return make_target(wrapper)


def damaged_at(outcomes: list[HoldfastError | None], key: str) -> bool:
    """Somebody noticed, and everybody who did named the object."""
    errors = [outcome for outcome in outcomes if outcome is not None]
    return bool(errors) and all(isinstance(e, DamagedError) and e.resource == key for e in errors)


def test_the_target_is_sound(target: Target):
    assert target.assault() == [None, None]


@pytest.mark.parametrize("kind", ["packs/", "maps/", "points/"])
def test_objects_swapped_with_each_other_are_refused(target: Target, kind: str):
    one, two = target.keys(kind)
    objects = target.store.objects
    objects[one], objects[two] = objects[two], objects[one]
    outcomes = target.assault()
    assert all(isinstance(outcome, DamagedError) for outcome in outcomes)
    assert {outcome.resource for outcome in outcomes} <= {one, two}


@pytest.mark.parametrize("kind", ["packs/", "maps/", "points/"])
def test_an_object_replaced_by_its_sibling_is_refused(target: Target, kind: str):
    one, two = target.keys(kind)
    target.store.objects[one] = target.store.objects[two]
    assert damaged_at(target.assault(), one)


@pytest.mark.parametrize("kind", ["packs/", "maps/", "points/"])
def test_an_object_taken_from_another_repository_is_refused(
    target: Target, wrapper: KeyWrapper | None, kind: str
):
    """Also with the same password or KMS key, the same instance and the same point."""
    other = make_target(wrapper, seed="other")
    key = target.keys(kind)[0]
    target.store.objects[key] = other.store.objects[other.keys(kind)[0]]
    assert damaged_at(target.assault(), key)


def test_a_folder_copied_over_another_repository_is_refused(wrapper: KeyWrapper | None):
    """Same names and ids everywhere, another repository key and id."""
    target = make_target(wrapper)
    store = MemoryStore()
    Repository.create(store, SeededIds("another"), FixedClock(), key_wrapper=wrapper)
    for key, content in target.store.objects.items():
        store.objects.setdefault(key, content)
    outcomes = Target(store, wrapper, target.names, target.contents).assault()
    assert all(isinstance(outcome, DamagedError) for outcome in outcomes)
    assert [outcome.resource for outcome in outcomes] == [name.key for name in target.names]


def test_the_manifest_of_another_instance_is_refused_under_this_name(target: Target):
    name = target.names[0]
    moved = PointName("i-another", name.point_id)
    target.store.objects[moved.key] = target.store.objects[name.key]
    repository = Repository.open(target.store, target.wrapper)
    with pytest.raises(DamagedError) as caught:
        repository.read_point(moved)
    assert caught.value.resource == moved.key


def test_an_older_map_in_the_place_of_a_newer_one_is_refused(target: Target):
    """Rolling back a segment: the manifest knows the digest of its page table."""
    repository = Repository.open(target.store, target.wrapper)
    old, new = (repository.read_point(name).references()[0] for name in target.names)
    target.store.objects[new.key] = target.store.objects[old.key]
    errors = target.assault()
    assert errors[0] is None
    assert isinstance(errors[1], DamagedError)
    assert errors[1].resource == new.key


def test_an_older_manifest_in_the_place_of_a_newer_one_is_refused(target: Target):
    old, new = target.names
    target.store.objects[new.key] = target.store.objects[old.key]
    outcomes = target.assault()
    assert outcomes[0] is None
    assert damaged_at(outcomes[1:], new.key)


def test_blocks_swapped_inside_a_pack_are_refused(target: Target):
    repository = Repository.open(target.store, target.wrapper)
    ref = repository.read_point(target.names[0]).references()[0]
    segment = repository.load_map(ref)
    rows = [row for _, row in segment.blocks(0, 32768)]
    pairs = [(a, b) for a in rows for b in rows if a.offset < b.offset and a.length == b.length]
    assert pairs, "two blocks of one length"
    a, b = pairs[0]
    (key,) = {key for key in target.keys("packs/") if key.endswith(a.pack_id.hex())}
    content = bytearray(target.store.objects[key])
    first, second = slice(a.offset, a.offset + a.length), slice(b.offset, b.offset + b.length)
    content[first], content[second] = content[second], content[first]
    target.store.objects[key] = bytes(content)
    assert damaged_at(target.assault(), key)


def test_pages_swapped_inside_a_map_are_refused(target: Target):
    repository = Repository.open(target.store, target.wrapper)
    ref = repository.read_point(target.names[0]).references()[0]
    rows = list(repository.load_map(ref).table.rows.values())
    pairs = [(a, b) for a in rows for b in rows if a.offset < b.offset and a.length == b.length]
    assert pairs, "two pages of one length"
    a, b = pairs[0]
    content = bytearray(target.store.objects[ref.key])
    first, second = slice(a.offset, a.offset + a.length), slice(b.offset, b.offset + b.length)
    content[first], content[second] = content[second], content[first]
    target.store.objects[ref.key] = bytes(content)
    assert damaged_at(target.assault(), ref.key)


@pytest.mark.parametrize("epoch", [0, 1, 2])
def test_an_object_presented_as_one_of_another_epoch_is_refused(target: Target, epoch: int):
    own = 0 if target.wrapper is None else 1
    if epoch == own:
        epoch = 255
    key = target.names[0].key
    content = target.store.objects[key]
    target.store.objects[key] = content[:6] + bytes([epoch]) + content[7:]
    outcomes = target.assault()
    assert damaged_at(outcomes[:1], key)
    assert outcomes[1] is None


def test_a_later_version_of_an_object_is_named_as_such(target: Target):
    key = target.names[0].key
    content = target.store.objects[key]
    target.store.objects[key] = content[:4] + b"\x02" + content[5:]
    error = target.assault()[0]
    assert isinstance(error, DamagedError)
    assert "version 2" in error.message
    assert "newer Holdfast" in error.remedy


@pytest.mark.parametrize("kind", ["packs/", "maps/", "points/", "repository.json"])
@pytest.mark.parametrize("bytes_left", [0, 1, 39, 40, 41, "half", "all but one"])
def test_a_truncated_object_is_refused_or_its_lost_bytes_are_not_needed(
    target: Target, kind: str, bytes_left: int | str
):
    for key in target.keys(kind):
        whole = target.store.objects[key]
        length = {"half": len(whole) // 2, "all but one": len(whole) - 1}.get(bytes_left, bytes_left)
        target.store.objects[key] = whole[:length]
        outcomes = target.assault()
        unneeded = kind == "packs/" and bytes_left == "all but one"
        assert outcomes == [None, None] if unneeded else damaged_at(outcomes, key)
        target.store.objects[key] = whole


@pytest.mark.parametrize("kind", ["packs/", "maps/", "points/", "repository.json"])
@pytest.mark.parametrize("extra", [b"\0", b"\n", b"x" * 100])
def test_an_extended_object_is_refused_or_the_extra_bytes_are_not_read(
    target: Target, kind: str, extra: bytes
):
    for key in target.keys(kind):
        whole = target.store.objects[key]
        target.store.objects[key] = whole + extra
        outcomes = target.assault()
        assert outcomes == [None, None] if kind in ("packs/", "maps/") else damaged_at(outcomes, key)
        target.store.objects[key] = whole


@pytest.mark.parametrize("kind", ["packs/", "maps/", "points/", "repository.json"])
def test_a_removed_object_is_missed_by_name(target: Target, kind: str):
    for key in target.keys(kind):
        whole = target.store.objects.pop(key)
        errors = [outcome for outcome in target.assault() if outcome is not None]
        assert errors
        assert {error.resource for error in errors} == {key}
        target.store.objects[key] = whole


def test_damage_in_one_point_leaves_the_other_restorable(target: Target):
    target.store.objects[target.names[0].key] = b"garbage"
    outcomes = target.assault()
    assert isinstance(outcomes[0], DamagedError)
    assert outcomes[1] is None


def test_no_digest_of_plaintext_lies_in_clear_in_an_encrypted_repository():
    target = make_target(password())
    everything = b"".join(key.encode() + content for key, content in target.store.objects.items())
    repository = Repository.open(target.store, target.wrapper)
    secrets = {b"ami-1", b"t4g.micro"}
    for name in target.names:
        manifest = repository.read_point(name)
        secrets |= {manifest.root.encode(), manifest.root.encode()[:16]}
        for _, row in repository.load_map(manifest.references()[0]).blocks(0, 32768):
            secrets |= {row.digest, row.digest.hex().encode(), row.pack_id + row.digest}
    assert [secret for secret in secrets if secret in everything] == []
