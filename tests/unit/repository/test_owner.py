"""owner.json: one writer, told by name, changed only on purpose."""

from __future__ import annotations

from datetime import timedelta

import pytest

from holdfast.errors import ConflictError, DamagedError
from holdfast.repository.header import seal_document
from holdfast.repository.owner import require_owner
from holdfast.repository.repository import Repository
from tests.memory_store import MemoryStore
from tests.repository_builders import (
    INSTALLATION,
    NOW,
    FixedClock,
    SeededIds,
    commit,
    make_manifest,
    make_repository,
)


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def repository(store: MemoryStore) -> Repository:
    return Repository.create(store, SeededIds(), FixedClock())


def test_the_first_to_claim_owns_it(repository: Repository):
    assert repository.owner() is None
    repository.claim("one", NOW)
    assert (repository.owner().installation, repository.owner().epoch) == ("one", 1)


def test_claiming_again_changes_nothing(repository: Repository, store: MemoryStore):
    first = repository.claim("one", NOW)
    before = store.objects["owner.json"]
    assert repository.claim("one", NOW + timedelta(days=1)) == first
    assert store.objects["owner.json"] == before


def test_a_second_owner_is_refused_by_the_name_of_the_first(repository: Repository):
    repository.claim("one", NOW)
    with pytest.raises(ConflictError, match="'one'") as caught:
        repository.claim("two", NOW)
    assert caught.value.resource == "owner.json"
    assert "explicitly" in caught.value.remedy


def test_a_take_over_is_explicit_and_ends_the_other_ownership(repository: Repository, store: MemoryStore):
    repository.claim("one", NOW)
    assert repository.claim("two", NOW, take_over=True).epoch == 2
    with pytest.raises(ConflictError, match="'two'"):
        require_owner(store, repository.id, "one")
    assert require_owner(store, repository.id, "two").installation == "two"


def test_two_take_overs_at_once_leave_one_owner(repository: Repository, store: MemoryStore):
    repository.claim("one", NOW)
    original = store.stat

    def stat_then_lose(key: str) -> object:
        found = original(key)
        store.stat = original
        repository.claim("three", NOW, take_over=True)
        return found

    store.stat = stat_then_lose
    with pytest.raises(ConflictError):
        repository.claim("two", NOW, take_over=True)
    assert repository.owner().installation == "three"


def test_without_an_owner_nothing_is_committed(repository: Repository):
    with pytest.raises(ConflictError, match="Nobody has claimed"):
        commit(repository, make_manifest({}))


def test_a_former_owner_neither_commits_nor_expires(store: MemoryStore):
    repository = make_repository(store)
    repository.claim("two", NOW, take_over=True)
    with pytest.raises(ConflictError, match="'two'"):
        commit(repository, make_manifest({}))
    with pytest.raises(ConflictError, match="'two'"):
        repository.expire_points([], NOW, ids=SeededIds(), installation=INSTALLATION)
    assert list(repository.list_points()) == []


@pytest.mark.parametrize("content", [b"", b"{}", b'{"a":1}\n'])
def test_a_damaged_owner_stops_writers_until_it_is_taken_over(
    repository: Repository, store: MemoryStore, content: bytes
):
    repository.claim("one", NOW)
    store.objects["owner.json"] = content
    with pytest.raises(DamagedError) as caught:
        repository.claim("one", NOW)
    assert caught.value.resource == "owner.json"
    assert repository.claim("one", NOW, take_over=True).epoch == 1
    assert repository.owner().installation == "one"


def test_the_owner_of_another_repository_is_none_of_ours(repository: Repository, store: MemoryStore):
    other = make_repository(MemoryStore(), seed="other")
    store.objects["owner.json"] = other.store.get("owner.json")
    with pytest.raises(DamagedError, match="another repository"):
        repository.owner()


def test_an_owner_with_other_fields_is_damage(repository: Repository, store: MemoryStore):
    store.objects["owner.json"] = seal_document({"repository_id": repository.id, "who": "me"})
    with pytest.raises(DamagedError, match="other fields"):
        repository.owner()
