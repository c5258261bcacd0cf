"""repository.json: what a repository is, and its key, wrapped.

The file carries a digest over itself and, once encrypted, a MAC under the repository key; nobody without that
key can change what it says without being noticed. It is checked by hand: every worker opens a repository, and
none should load a library of models for it.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from holdfast.errors import ConfigurationError, DamagedError
from holdfast.model.blocks import BLOCK_SIZE, SEGMENT_BLOCKS
from holdfast.repository.envelope import canonical
from holdfast.repository.keys import derive
from holdfast.repository.layout import ADOPTED, FORMAT, PAGE_BLOCKS, REPOSITORY_KEY, VERSION, parse_id

MAX_HEADER_BYTES: Final = 64 << 10
PACK_CLASSES: Final = ("STANDARD", "GLACIER", "DEEP_ARCHIVE")
_SEALS = ("digest", "mac")
_FIXED: Final[Mapping[str, str | int]] = {
    "format": FORMAT,
    "version": VERSION,
    "block_bytes": BLOCK_SIZE,
    "segment_blocks": SEGMENT_BLOCKS,
    "page_blocks": PAGE_BLOCKS,
}


@dataclass(frozen=True, slots=True)
class AdoptedPoints:
    """The sealed list of points written before encryption; no other plain point is trusted."""

    key: str
    digest: str


@dataclass(frozen=True, slots=True)
class KeyHeader:
    """``key`` is for the KeyWrapper; ``plain_points`` is "pending" while encryption is being enabled."""

    epoch: int
    key: Mapping[str, str | int]
    plain_points: AdoptedPoints | Literal["pending"] | None = None


@dataclass(frozen=True, slots=True)
class Header:
    """The content of repository.json without its seals and without what is the same in all repositories."""

    repository_id: str
    created_at: str
    pack_class: str = "STANDARD"
    encryption: KeyHeader | None = None

    @property
    def id(self) -> bytes:
        return bytes.fromhex(self.repository_id)


def encode_header(header: Header, secret: bytes | None) -> bytes:
    """The bytes of repository.json; ``secret`` is the repository key, None for a plain repository."""
    document = _document(header)
    return seal_document(document, mac=_mac(secret, header.id, canonical(document)) if secret else "")


def decode_header(content: bytes) -> tuple[Header, str]:
    """The header and its MAC, which the caller verifies with :func:`verify_mac` once the key is unwrapped.

    Raises DamagedError, ConfigurationError when the format version is a later one.
    """
    document = open_document(content, REPOSITORY_KEY)
    mac = document.pop("mac", None)
    if document.get("format") == FORMAT and document.get("version") != VERSION:
        raise ConfigurationError(
            f"The repository has format version {document.get('version')!r}, this program reads {VERSION}.",
            resource=REPOSITORY_KEY,
            remedy="Use a newer Holdfast.",
        )
    try:
        header = _header(document)
        if not isinstance(mac, str) or bool(mac) != bool(header.encryption):
            raise ValueError("it has no valid seal")
    except ValueError as error:
        raise DamagedError(f"{REPOSITORY_KEY} is damaged: {error}.", resource=REPOSITORY_KEY) from None
    return header, mac


def verify_mac(header: Header, mac: str, secret: bytes) -> None:
    """Raises DamagedError when the header was not written by somebody who has the repository key."""
    expected = _mac(secret, header.id, canonical(_document(header)))
    if not hmac.compare_digest(expected.encode(), mac.encode()):
        raise DamagedError(f"{REPOSITORY_KEY} fails authentication.", resource=REPOSITORY_KEY)


def seal_document(document: Mapping[str, Any], **seals: str) -> bytes:
    """Canonical JSON of a document with its own SHA-256 and ``seals``, and a line feed."""
    digest = hashlib.sha256(canonical(document)).hexdigest()
    return canonical({**document, **seals, "digest": digest}) + b"\n"


def open_document(content: bytes, key: str) -> dict[str, Any]:
    """The inverse of :func:`seal_document`, without the digest. Raises DamagedError."""
    try:
        if len(content) > MAX_HEADER_BYTES:
            raise ValueError("it is too long")
        document = json.loads(content)
        if not isinstance(document, dict) or canonical(document) + b"\n" != content:
            raise ValueError("it is not canonical JSON")
        digest = document.pop("digest", None)
        body = {name: value for name, value in document.items() if name not in _SEALS}
        if hashlib.sha256(canonical(body)).hexdigest() != digest:
            raise ValueError("it does not match its digest")
    except (ValueError, RecursionError) as error:
        raise DamagedError(f"{key} is damaged: {error}.", resource=key) from None
    return document


def _document(header: Header) -> dict[str, Any]:
    encryption = None
    if header.encryption is not None:
        adopted = header.encryption.plain_points
        if isinstance(adopted, AdoptedPoints):
            points: object = {"key": adopted.key, "digest": adopted.digest}
        else:
            points = adopted
        key = dict(header.encryption.key)
        encryption = {"epoch": header.encryption.epoch, "key": key, "plain_points": points}
    return {
        **_FIXED,
        "repository_id": header.repository_id,
        "created_at": header.created_at,
        "pack_class": header.pack_class,
        "encryption": encryption,
    }


def _header(document: dict[str, Any]) -> Header:
    """Raises ValueError for members that are missing, unknown, or not what the format allows."""
    names = (*_FIXED, "repository_id", "created_at", "pack_class", "encryption")
    _members(document, names, "the document")
    for name, value in _FIXED.items():
        if document[name] != value:
            raise ValueError(f"{name} is {document[name]!r}, not {value!r}")
    if document["pack_class"] not in PACK_CLASSES or not isinstance(document["created_at"], str):
        raise ValueError("pack_class or created_at is not what the format allows")
    repository_id, encryption = _id(document["repository_id"]), document["encryption"]
    key = None if encryption is None else _key_header(encryption)
    return Header(repository_id, document["created_at"], document["pack_class"], key)


def _key_header(value: object) -> KeyHeader:
    found = _members(value, ("epoch", "key", "plain_points"), "encryption")
    epoch, key, points = found["epoch"], found["key"], found["plain_points"]
    if type(epoch) is not int or not 1 <= epoch <= 255:
        raise ValueError("encryption.epoch is no epoch")
    if not isinstance(key, dict) or not all(type(part) in (str, int) for part in key.values()):
        raise ValueError("encryption.key holds something else than texts and numbers")
    if points is not None and points != "pending":
        adopted = _members(points, ("digest", "key"), "encryption.plain_points")
        name = str(adopted["key"])
        _id(name.removeprefix(ADOPTED))
        if not name.startswith(ADOPTED):
            raise ValueError("encryption.plain_points.key is no name of such a list")
        points = AdoptedPoints(name, _id(adopted["digest"]))
    return KeyHeader(epoch, key, points)


def _members(value: object, names: tuple[str, ...], what: str) -> dict[str, Any]:
    if not isinstance(value, dict) or value.keys() != set(names):
        raise ValueError(f"{what} has other members than the format")
    return value


def _id(value: object) -> str:
    return parse_id(value if isinstance(value, str) else "").hex()


def _mac(secret: bytes, repository_id: bytes, body: bytes) -> str:
    return hmac.new(derive(secret, repository_id, REPOSITORY_KEY.encode()), body, "sha256").hexdigest()
