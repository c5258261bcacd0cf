"""repository.json: strict to the byte, authenticated, and bounded before it is believed."""

from __future__ import annotations

import json

import pytest

from holdfast.errors import (
    ConfigurationError,
    ConflictError,
    DamagedError,
    KeyUnavailableError,
    NotFoundError,
)
from holdfast.repository.header import open_document, seal_document
from holdfast.repository.password import PasswordWrapper
from holdfast.repository.repository import Repository
from tests.memory_store import MemoryStore
from tests.repository_builders import FakeKms, FixedClock, SeededIds, make_repository, password

KEY = "repository.json"


def rewrite(store: MemoryStore, **changes: object) -> None:
    """A forged header with a digest that is right."""
    document = json.loads(store.objects[KEY])
    mac = document.pop("mac")
    del document["digest"]
    store.objects[KEY] = seal_document({**document, **changes}, mac=mac)


@pytest.mark.parametrize("wrapper", [None, FakeKms(), password()], ids=["none", "kms", "password"])
def test_a_repository_opens_with_its_key(wrapper: object):
    store = MemoryStore()
    made = make_repository(store, wrapper)
    opened = Repository.open(store, wrapper)
    assert (opened.id, opened.keys, opened.encrypted) == (made.id, made.keys, wrapper is not None)


def test_the_repository_key_is_not_stored_in_clear_nor_shown():
    store = MemoryStore()
    repository = make_repository(store, FakeKms())
    assert repository.keys.secret.hex().encode() not in store.objects[KEY]
    assert repository.keys.secret.hex() not in repr(repository.keys)
    assert repr(repository.keys.secret) not in repr(repository.keys)


def test_a_repository_is_created_once():
    store = MemoryStore()
    make_repository(store)
    before = dict(store.objects)
    with pytest.raises(ConflictError, match="already"):
        Repository.create(store, SeededIds("other"), FixedClock())
    assert store.objects == before


def test_an_empty_folder_has_no_repository():
    with pytest.raises(NotFoundError, match="no repository"):
        Repository.open(MemoryStore())


def test_an_unknown_storage_class_is_refused():
    with pytest.raises(ConfigurationError, match="storage class"):
        Repository.create(MemoryStore(), SeededIds(), FixedClock(), pack_class="GLACIER_IR")


def test_packs_go_to_the_storage_class_of_the_repository_and_the_rest_to_standard():
    store = MemoryStore()
    repository = Repository.create(store, SeededIds(), FixedClock(), pack_class="DEEP_ARCHIVE")
    repository.put_pack(b"p" * 32, memoryview(b"content"))
    assert sorted(store.classes.values()) == ["DEEP_ARCHIVE", "STANDARD"]
    assert store.classes[KEY] == "STANDARD"


def test_putting_a_pack_again_after_a_lost_answer_is_fine_and_other_bytes_are_not():
    repository = make_repository(MemoryStore())
    repository.put_pack(b"p" * 32, memoryview(b"content"))
    repository.put_pack(b"p" * 32, memoryview(b"content"))
    with pytest.raises(ConflictError):
        repository.put_pack(b"p" * 32, memoryview(b"other"))


def test_an_encrypted_repository_asks_for_a_key():
    store = MemoryStore()
    make_repository(store, password())
    with pytest.raises(KeyUnavailableError, match="encrypted"):
        Repository.open(store)


def test_a_wrong_password_does_not_open():
    store = MemoryStore()
    make_repository(store, password())
    with pytest.raises(KeyUnavailableError, match="password does not open"):
        Repository.open(store, password("wrong"))


def test_a_password_does_not_open_what_kms_wrapped():
    store = MemoryStore()
    make_repository(store, FakeKms())
    with pytest.raises(KeyUnavailableError, match="kms"):
        Repository.open(store, password())


def test_a_disabled_kms_key_does_not_open():
    store, kms = MemoryStore(), FakeKms()
    make_repository(store, kms)
    kms.enabled = False
    with pytest.raises(KeyUnavailableError):
        Repository.open(store, kms)


def test_a_password_is_the_same_in_every_unicode_form():
    store = MemoryStore()
    make_repository(store, password("gr\u00fc\u00dfe"))
    assert Repository.open(store, password("gru\u0308\u00dfe")).encrypted


def test_downgrade_to_plain_is_refused_when_a_key_is_given():
    """Whoever replaces the header by a plain one must not get the next backup in clear."""
    store, other = MemoryStore(), MemoryStore()
    make_repository(store, password())
    make_repository(other)
    store.objects[KEY] = other.objects[KEY]
    with pytest.raises(DamagedError, match="not encrypted") as caught:
        Repository.open(store, password())
    assert caught.value.resource == KEY


def test_a_header_of_another_repository_with_the_same_password_is_refused():
    """The wrapped key is bound to the repository id."""
    store, other = MemoryStore(), MemoryStore()
    make_repository(store, password())
    make_repository(other, password(), seed="other")
    mine, foreign = json.loads(store.objects[KEY]), json.loads(other.objects[KEY])
    rewrite(store, encryption={**mine["encryption"], "key": foreign["encryption"]["key"]})
    with pytest.raises(KeyUnavailableError):
        Repository.open(store, password())


@pytest.mark.parametrize(
    "changes",
    [{"pack_class": "GLACIER"}, {"created_at": "19700101T000000Z"}],
    ids=lambda change: next(iter(change)),
)
def test_a_forged_header_fails_authentication(changes: dict[str, object]):
    store = MemoryStore()
    make_repository(store, FakeKms())
    rewrite(store, **changes)
    with pytest.raises(DamagedError, match="fails authentication") as caught:
        Repository.open(store, FakeKms())
    assert caught.value.resource == KEY


@pytest.mark.parametrize(
    "changes",
    [
        {"format": "other"},
        {"block_bytes": 4096},
        {"segment_blocks": 65536},
        {"page_blocks": 32},
        {"repository_id": "ABC"},
        {"pack_class": "STANDARD_IA"},
        {"later": 1},
        {"encryption": {"epoch": 1}},
        {"encryption": {"epoch": 1, "key": {}, "plain_points": None}},
        {"encryption": {"epoch": 0, "key": {}, "plain_points": None}},
        {"encryption": {"epoch": 1, "key": [], "plain_points": None}},
        {"encryption": {"epoch": 1, "key": {"a": None}, "plain_points": None}},
        {"encryption": {"epoch": 1, "key": {}, "plain_points": "never"}},
        {"encryption": {"epoch": 1, "key": {}, "plain_points": {"key": "adopted/" + "0" * 64}}},
        {"encryption": {"epoch": 1, "key": {}, "plain_points": {"key": "0" * 64, "digest": "0" * 64}}},
        {"encryption": {"epoch": 1, "key": {}, "plain_points": {"key": "adopted/x", "digest": "0" * 64}}},
        {"encryption": "kms"},
        {"created_at": 5},
    ],
    ids=str,
)
def test_a_header_that_says_something_else_is_damage(changes: dict[str, object]):
    store = MemoryStore()
    make_repository(store)
    rewrite(store, **changes)
    with pytest.raises(DamagedError) as caught:
        Repository.open(store)
    assert caught.value.resource == KEY


def test_a_plain_header_with_a_mac_is_damage():
    store = MemoryStore()
    make_repository(store)
    document = json.loads(store.objects[KEY])
    store.objects[KEY] = store.objects[KEY].replace(b'"mac":""', b'"mac":"aa"')
    assert document["mac"] == ""
    with pytest.raises(DamagedError, match="no valid seal"):
        Repository.open(store)


def test_a_later_format_version_is_named_as_such():
    store = MemoryStore()
    make_repository(store)
    rewrite(store, version=2)
    with pytest.raises(ConfigurationError, match="version 2") as caught:
        Repository.open(store)
    assert "newer Holdfast" in caught.value.remedy


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"null\n",
        b"\xff\xfe",
        b"[" * 60_000,
        b" " * 70_000,
        b'{"a":1,"a":1}\n',
        b'{"digest":"00"}\n',
        b'{"a":NaN}\n',
    ],
    ids=repr,
)
def test_bytes_that_are_no_header_are_damage(content: bytes):
    store = MemoryStore()
    store.objects[KEY] = content
    with pytest.raises(DamagedError) as caught:
        Repository.open(store)
    assert caught.value.resource == KEY


@pytest.mark.parametrize("change", [b"pretty", b"reordered", b"without line feed"])
def test_another_spelling_of_the_same_header_is_damage(change: bytes):
    document = {"a": 1, "b": 2}
    whole = seal_document(document)
    parsed = json.loads(whole)
    spelled = {
        b"pretty": json.dumps(parsed, indent=1).encode() + b"\n",
        b"reordered": json.dumps(dict(reversed(parsed.items())), separators=(",", ":")).encode() + b"\n",
        b"without line feed": whole[:-1],
    }[change]
    assert open_document(whole, KEY) == document
    with pytest.raises(DamagedError, match="canonical"):
        open_document(spelled, KEY)


HOSTILE_PARAMETERS = [
    {"memory_kib": 1 << 21},
    {"memory_kib": 7},
    {"memory_kib": "32"},
    {"iterations": 65},
    {"iterations": 0},
    {"lanes": 17},
    {"lanes": 8},
    {"salt": "00"},
    {"salt": "00" * 65},
    {"salt": "zz"},
    {"wrapped": "zz"},
    {"algorithm": "scrypt"},
]


@pytest.mark.parametrize("changes", HOSTILE_PARAMETERS, ids=str)
def test_a_hostile_key_header_costs_nothing(changes: dict[str, str | int]):
    """Memory and time are bounded before the first byte is spent."""
    repository_id = "00" * 32
    header = dict(password().wrap(b"k" * 32, repository_id))
    with pytest.raises(DamagedError) as caught:
        password().unwrap({**header, **changes}, repository_id)
    assert caught.value.resource == KEY


@pytest.mark.parametrize("missing", ["algorithm", "memory_kib", "iterations", "lanes", "salt", "wrapped"])
def test_a_key_header_without_a_field_is_damage(missing: str):
    header = dict(password().wrap(b"k" * 32, "00" * 32))
    del header[missing]
    with pytest.raises(DamagedError):
        password().unwrap(header, "00" * 32)


def test_a_key_of_another_length_is_refused():
    class Short(FakeKms):
        def unwrap(self, header: object, repository_id: str) -> bytes:
            return b"short"

    store = MemoryStore()
    make_repository(store, FakeKms())
    with pytest.raises(DamagedError):
        Repository.open(store, Short())


def test_an_empty_password_is_refused():
    with pytest.raises(ConfigurationError, match="empty"):
        PasswordWrapper("", SeededIds())


def test_every_wrapping_has_a_salt_of_its_own():
    wrapper = PasswordWrapper("p", SeededIds(), memory_kib=32, iterations=1, lanes=1)
    one, two = wrapper.wrap(b"k" * 32, "00" * 32), wrapper.wrap(b"k" * 32, "00" * 32)
    assert one["salt"] != two["salt"]
    assert one["wrapped"] != two["wrapped"]


def test_the_default_parameters_are_those_of_rfc_9106():
    header = PasswordWrapper("p", SeededIds()).wrap(b"k" * 32, "00" * 32)
    assert (header["memory_kib"], header["iterations"], header["lanes"]) == (65536, 3, 4)
