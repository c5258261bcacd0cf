"""Envelopes: one JSON document, compressed, sealed and bound to its object key.

A document is parsed only after its bytes were authenticated (or, in a plain repository, matched their
digest), and it opens at the key it was written to and nowhere else.
"""

from __future__ import annotations

import json
from typing import Any, Final

import zstandard

from holdfast.errors import DamagedError
from holdfast.ports import IdSource
from holdfast.repository.keys import DIGEST_SIZE, Keys
from holdfast.repository.layout import HEADER_SIZE, ID_SIZE, ObjectKind, check_header, object_header

MAX_DOCUMENT_BYTES: Final = 256 << 20
"""A longer document is refused before memory is spent on it (64 TiB of volumes need less than 2 MB)."""

_LEVEL = 3
_PART = 0


def canonical(document: Any) -> bytes:
    """The only JSON bytes of a document: sorted keys, no spaces, ASCII."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


def seal_envelope(keys: Keys, kind: ObjectKind, key: str, document: Any, ids: IdSource) -> bytes:
    """The object that holds ``document`` at ``key``: header with a random salt, sealed zstd of JSON."""
    cipher = keys.cipher(kind, ids.random_bytes(ID_SIZE))
    body = zstandard.ZstdCompressor(level=_LEVEL).compress(canonical(document))
    if cipher.encrypts:
        return cipher.header + cipher.seal(_PART, body, key.encode())
    return cipher.header + body + cipher.digest(_PART, body, key.encode())


def envelope_epoch(content: bytes) -> int:
    """The epoch that an envelope claims, to choose the keys to open it with; 0 when it is too short."""
    return content[6] if len(content) > HEADER_SIZE else 0


def open_envelope(keys: Keys, kind: ObjectKind, key: str, content: bytes) -> Any:
    """The document in an object that was read from ``key``. Raises DamagedError."""
    salt = content[HEADER_SIZE - ID_SIZE : HEADER_SIZE]
    check_header(content, object_header(kind, keys.epoch, salt.ljust(ID_SIZE, b"\0")), key)
    cipher = keys.cipher(kind, salt)
    try:
        if cipher.encrypts:
            body = cipher.open(_PART, content[HEADER_SIZE:], key.encode())
        else:
            body, digest = content[HEADER_SIZE:-DIGEST_SIZE], content[-DIGEST_SIZE:]
            if cipher.digest(_PART, body, key.encode()) != digest:
                raise ValueError("it does not match its digest")
        if not 0 <= zstandard.frame_content_size(body) <= MAX_DOCUMENT_BYTES or body[4] & 0x1F:
            raise ValueError("it is no zstd frame of this format")
        plain = zstandard.ZstdDecompressor().decompress(
            body, max_output_size=MAX_DOCUMENT_BYTES, allow_extra_data=False
        )
        return json.loads(plain)
    except (ValueError, RecursionError, zstandard.ZstdError) as error:
        raise DamagedError(f"{key} is damaged: {error}.", resource=key) from None
