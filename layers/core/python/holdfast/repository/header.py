"""repository.json: what a repository is, and its key, wrapped.

The file carries a digest over itself and, once encrypted, a MAC under the repository key; nobody without
that key can change what it says without being noticed.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from holdfast.errors import ConfigurationError, DamagedError
from holdfast.model.blocks import BLOCK_SIZE, SEGMENT_BLOCKS
from holdfast.repository.envelope import canonical
from holdfast.repository.keys import derive
from holdfast.repository.layout import FORMAT, PAGE_BLOCKS, REPOSITORY_KEY, VERSION

MAX_HEADER_BYTES: Final = 64 << 10
HEX_ID: Final = r"^[0-9a-f]{64}$"
_SEALS = ("digest", "mac")


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class AdoptedPoints(_Document):
    """The sealed list of points written before encryption; no other plain point is trusted."""

    key: str = Field(pattern=r"^adopted/[0-9a-f]{64}$")
    digest: str = Field(pattern=HEX_ID)


class KeyHeader(_Document):
    """``key`` is for the KeyWrapper; ``plain_points`` is "pending" while encryption is being enabled."""

    epoch: int = Field(ge=1, le=255)
    key: dict[str, str | int]
    plain_points: AdoptedPoints | Literal["pending"] | None = None


class Header(_Document):
    """The content of repository.json without its seals."""

    format: Literal["holdfast-repository"] = FORMAT
    version: Literal[1] = VERSION
    repository_id: str = Field(pattern=HEX_ID)
    created_at: str
    block_bytes: Literal[524288] = BLOCK_SIZE
    segment_blocks: Literal[32768] = SEGMENT_BLOCKS
    page_blocks: Literal[64] = PAGE_BLOCKS
    pack_class: Literal["STANDARD", "GLACIER", "DEEP_ARCHIVE"] = "STANDARD"
    encryption: KeyHeader | None = None

    @property
    def id(self) -> bytes:
        return bytes.fromhex(self.repository_id)


def encode_header(header: Header, secret: bytes | None) -> bytes:
    """The bytes of repository.json; ``secret`` is the repository key, None for a plain repository."""
    document = header.model_dump(mode="json")
    body = canonical(document)
    mac = _mac(secret, header.id, body) if secret else ""
    return seal_document(document, mac=mac)


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
        header = Header.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise DamagedError(
            f"{REPOSITORY_KEY} is damaged: {where}: {first['msg']}.", resource=REPOSITORY_KEY
        ) from None
    if not isinstance(mac, str) or bool(mac) != bool(header.encryption):
        raise DamagedError(f"{REPOSITORY_KEY} is damaged: it has no valid seal.", resource=REPOSITORY_KEY)
    return header, mac


def verify_mac(header: Header, mac: str, secret: bytes) -> None:
    """Raises DamagedError when the header was not written by somebody who has the repository key."""
    expected = _mac(secret, header.id, canonical(header.model_dump(mode="json")))
    if not hmac.compare_digest(expected, mac):
        raise DamagedError(f"{REPOSITORY_KEY} fails authentication.", resource=REPOSITORY_KEY)


def seal_document(document: dict[str, Any], **seals: str) -> bytes:
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


def _mac(secret: bytes, repository_id: bytes, body: bytes) -> str:
    return hmac.new(derive(secret, repository_id, REPOSITORY_KEY.encode()), body, "sha256").hexdigest()
