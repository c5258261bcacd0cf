"""Enabling encryption, changing keys, and what an attacker could make of the moments between."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from holdfast.errors import ConflictError, DamagedError, KeyUnavailableError
from holdfast.repository.encryption import enable_encryption, rewrap
from holdfast.repository.layout import PointName
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
    password,
    read_volume,
    write_segment,
)

CONTENT = {0: block(0, compressible=True), 100: block(1, compressible=True)}


def populated() -> tuple[MemoryStore, Repository, PointName]:
    store = MemoryStore()
    repository = make_repository(store)
    ref = write_segment(repository, CONTENT, ids=SeededIds("plain"))
    return store, repository, commit(repository, make_manifest({0: ref}, point_id="plain"))


def test_old_points_stay_readable_and_new_ones_are_sealed():
    store, _, old = populated()
    enable_encryption(store, password(), ids=SeededIds("enable"))
    repository = Repository.open(store, password())
    before = set(store.objects)
    ref = write_segment(repository, CONTENT, ids=SeededIds("new"))
    new = commit(repository, make_manifest({0: ref}, point_id="new"))
    assert read_volume(repository, old) == CONTENT
    assert read_volume(repository, new) == CONTENT
    assert [store.objects[key][6] for key in set(store.objects) - before] == [1, 1, 1]
    assert repository.check(read_data=True).sound


def test_the_next_run_of_each_chain_is_a_full():
    store, plain, old = populated()
    repository = enable_encryption(store, FakeKms(), ids=SeededIds("enable"))
    manifest = repository.read_point(old)
    assert plain.is_reusable(manifest)
    assert not repository.is_reusable(manifest)
    ref = manifest.volumes[0].segments[0]
    with pytest.raises(ConflictError, match="before the repository was encrypted"):
        write_segment(repository, {5: block(5)}, previous=ref, ids=SeededIds("new"))
    with pytest.raises(ConflictError, match="reuses a map"):
        commit(repository, make_manifest({0: ref}, point_id="new"))


def test_a_repository_is_encrypted_once():
    store, _, _ = populated()
    enable_encryption(store, password(), ids=SeededIds("enable"))
    with pytest.raises(ConflictError, match="already"):
        enable_encryption(store, password(), ids=SeededIds("again"))
    created = MemoryStore()
    make_repository(created, password())
    with pytest.raises(ConflictError, match="already"):
        enable_encryption(created, password(), ids=SeededIds("again"))


def test_without_the_key_the_encrypted_repository_stays_shut_also_for_its_plain_points():
    store, _, _ = populated()
    enable_encryption(store, password(), ids=SeededIds("enable"))
    with pytest.raises(KeyUnavailableError):
        Repository.open(store)


def test_a_plain_point_that_is_added_later_is_refused():
    """Forging a plain point takes no key, so an encrypted repository must not take one."""
    store, plain, old = populated()
    repository = enable_encryption(store, password(), ids=SeededIds("enable"))
    other = MemoryStore()
    other.objects = dict(store.objects)
    forged = PointName(old.instance_id, "forged")
    plain._withdraw_if_encrypted = lambda name: None
    commit(plain, make_manifest({0: plain.read_point(old).volumes[0].segments[0]}, point_id="forged"))
    with pytest.raises(DamagedError, match="not encrypted") as caught:
        repository.read_point(forged)
    assert caught.value.resource == forged.key
    assert [damage.key for damage in repository.check().damages] == [forged.key]


def test_an_adopted_point_that_is_replaced_by_another_plain_one_is_refused():
    store, plain, old = populated()
    repository = enable_encryption(store, password(), ids=SeededIds("enable"))
    fake = MemoryStore()
    fake.objects = {key: value for key, value in store.objects.items() if key != old.key}
    forger = Repository(fake, plain.header, None)
    forger._withdraw_if_encrypted = lambda name: None
    commit(forger, make_manifest({}, point_id="plain"))
    store.objects[old.key] = fake.objects[old.key]
    with pytest.raises(DamagedError, match="none of the points") as caught:
        repository.read_point(old)
    assert caught.value.resource == old.key


@pytest.mark.parametrize("damage", ["changed", "missing", "swapped"])
def test_a_damaged_list_of_adopted_points_is_named(damage: str):
    store, _, old = populated()
    enable_encryption(store, password(), ids=SeededIds("enable"))
    (key,) = [key for key in store.objects if key.startswith("adopted/")]
    if damage == "missing":
        del store.objects[key]
    else:
        store.objects[key] = (
            store.objects[old.key] if damage == "swapped" else store.objects[key][:-1] + b"\0"
        )
    with pytest.raises(DamagedError) as caught:
        Repository.open(store, password()).read_point(old)
    assert caught.value.resource == key


class Crash(Exception):
    pass


@pytest.mark.parametrize("step", ["adopted/", "repository.json"])
def test_enabling_that_was_interrupted_is_finished_by_calling_it_again(step: str):
    store, _, old = populated()
    put_new, replace = store.put_new, store.replace
    calls = []

    def failing(write):
        def call(key: str, *args: object, **options: object) -> None:
            calls.append(key)
            if key.startswith(step) and (step == "adopted/" or calls.count(key) == 2):
                raise Crash
            write(key, *args, **options)

        return call

    store.put_new, store.replace = failing(put_new), failing(replace)
    with pytest.raises(Crash):
        enable_encryption(store, password(), ids=SeededIds("enable"))
    store.put_new, store.replace = put_new, replace
    pending = Repository.open(store, password())
    with pytest.raises(DamagedError):
        pending.read_point(old)
    repository = enable_encryption(store, password(), ids=SeededIds("again"))
    assert read_volume(repository, old) == CONTENT


def test_points_that_are_encrypted_before_enabling_was_finished_are_not_adopted_twice():
    store, _, old = populated()
    put_new = store.put_new

    def crash(key: str, *args: object, **options: object) -> None:
        raise Crash

    store.put_new = crash
    with pytest.raises(Crash):
        enable_encryption(store, password(), ids=SeededIds("enable"))
    store.put_new = put_new
    pending = Repository.open(store, password())
    ref = write_segment(pending, CONTENT, ids=SeededIds("new"))
    new = commit(pending, make_manifest({0: ref}, point_id="new"))
    repository = enable_encryption(store, password(), ids=SeededIds("again"))
    assert read_volume(repository, old) == read_volume(repository, new) == CONTENT


def test_enabling_finds_damaged_points_before_it_vouches_for_them():
    store, _, old = populated()
    store.objects[old.key] = store.objects[old.key][:-1] + b"\0"
    with pytest.raises(DamagedError) as caught:
        enable_encryption(store, password(), ids=SeededIds("enable"))
    assert caught.value.resource == old.key


def test_a_backup_that_began_in_clear_fails_when_encryption_came_between():
    store, plain, old = populated()
    ref = plain.read_point(old).volumes[0].segments[0]
    enable_encryption(store, password(), ids=SeededIds("enable"))
    with pytest.raises(ConflictError, match="while this backup ran") as caught:
        commit(plain, make_manifest({0: ref}, point_id="late"))
    assert "full" in caught.value.remedy
    assert [name.point_id for name in plain.list_points()] == ["plain"]


def test_two_that_enable_at_once_leave_one_key():
    store, _, old = populated()
    original = store.replace

    def replace(key: str, content: bytes, *, etag: str) -> None:
        store.replace = original
        enable_encryption(store, password("first"), ids=SeededIds("first"))
        original(key, content, etag=etag)

    store.replace = replace
    with pytest.raises(ConflictError):
        enable_encryption(store, password("second"), ids=SeededIds("second"))
    assert read_volume(Repository.open(store, password("first")), old) == CONTENT


@pytest.mark.parametrize("before, after", [(password(), password("new")), (password(), FakeKms())])
def test_another_password_or_key_rewrites_the_header_alone(before, after):
    store = MemoryStore()
    repository = make_repository(store, before)
    ref = write_segment(repository, CONTENT, ids=SeededIds())
    name = commit(repository, make_manifest({0: ref}))
    objects = dict(store.objects)
    rewrap(repository, after)
    assert {key for key in objects if store.objects[key] != objects[key]} == {"repository.json"}
    assert read_volume(Repository.open(store, after), name) == CONTENT
    with pytest.raises(KeyUnavailableError):
        Repository.open(store, before)


def test_rewrapping_keeps_the_adopted_points():
    store, _, old = populated()
    repository = enable_encryption(store, password(), ids=SeededIds("enable"))
    rewrap(repository, FakeKms())
    assert read_volume(Repository.open(store, FakeKms()), old) == CONTENT


def test_a_plain_repository_has_no_key_to_wrap():
    _, repository, _ = populated()
    with pytest.raises(ConflictError, match="not encrypted"):
        rewrap(repository, password())


def test_rewrapping_refuses_a_header_that_was_replaced_meanwhile():
    store, other = MemoryStore(), MemoryStore()
    repository = make_repository(store, password())
    make_repository(other)
    genuine = store.objects["repository.json"]
    store.objects["repository.json"] = other.objects["repository.json"]
    with pytest.raises(DamagedError, match="not encrypted any more"):
        rewrap(repository, password("new"))
    document = json.loads(genuine)
    store.objects["repository.json"] = genuine.replace(document["mac"].encode(), b"0" * 64)
    with pytest.raises(DamagedError, match="fails authentication"):
        rewrap(repository, password("new"))


def test_two_that_rewrap_at_once_leave_one_password():
    store = MemoryStore()
    repository = make_repository(store, password())
    original = store.replace

    def replace(key: str, content: bytes, *, etag: str) -> None:
        store.replace = original
        rewrap(repository, password("first"))
        original(key, content, etag=etag)

    store.replace = replace
    with pytest.raises(ConflictError):
        rewrap(repository, password("second"))
    assert Repository.open(store, password("first")).encrypted


def test_an_epoch_that_never_was_has_no_keys():
    repository = make_repository(MemoryStore(), password())
    with pytest.raises(DamagedError, match="epoch 2") as caught:
        repository.keys_of(2)
    assert caught.value.resource == "repository.json"
    assert repository.keys_of(0).secret is None
    assert repository.keys_of(1) == repository.keys


def test_expiry_deletes_adopted_points_too():

    store, _, old = populated()
    repository = enable_encryption(store, password(), ids=SeededIds("enable"))
    for days in (0, 1):
        outcome = repository.expire_points(
            [old], NOW + timedelta(days=days), ids=SeededIds(str(days)), installation=INSTALLATION
        )
    assert outcome.deleted == (old,)
    assert repository.check().sound
