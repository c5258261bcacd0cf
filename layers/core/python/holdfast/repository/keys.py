"""Key derivation and the binding of every sealed part to its place.

One key encrypts one object: it is derived from the repository key and the object's random 256-bit id, and
the nonce is the number of the part inside that object. A part number is used once per id, so a (key, nonce)
pair can repeat only if a 256-bit random id does.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from holdfast.repository.layout import PLAIN_EPOCH, ObjectKind, object_header

KEY_SIZE: Final = 32
TAG_SIZE: Final = 16
DIGEST_SIZE: Final = 32
LAST_PART: Final = 0xFFFFFFFF
"""Part number of the directory of a pack and of the table of a map."""

_CONTEXT = b"holdfast/1/"
_NONCE = bytes(8)


def derive(secret: bytes, repository_id: bytes, purpose: bytes) -> bytes:
    """32 bytes: HKDF-SHA256(repository key, salt = repository id, info = ``holdfast/1/`` + purpose)."""
    return HKDF(SHA256(), KEY_SIZE, repository_id, _CONTEXT + purpose).derive(secret)


class ObjectCipher:
    """Seals and opens the parts of one object; a plain one only binds them (for digests).

    Safe for many threads: it holds no state that changes.
    """

    __slots__ = ("_aead", "header", "overhead", "prefix")

    def __init__(self, header: bytes, repository_id: bytes, aead: AESGCM | None) -> None:
        self.header = header
        self.prefix = _CONTEXT + repository_id + header
        self.overhead = TAG_SIZE if aead else 0
        self._aead = aead

    @property
    def encrypts(self) -> bool:
        return self._aead is not None

    def seal_into(self, part: int, data: bytes | bytearray | memoryview, buffer: memoryview) -> None:
        """Write ``data``, sealed as part ``part``, to ``buffer`` of exactly len(data) + overhead bytes."""
        if self._aead is None:
            buffer[:] = data
        else:
            part_bytes = part.to_bytes(4, "big")
            self._aead.encrypt_into(_NONCE + part_bytes, data, self.prefix + part_bytes, buffer)

    def seal(self, part: int, data: bytes, extra: bytes = b"") -> bytes:
        """``data`` sealed as part ``part``; ``extra`` is bound too."""
        if self._aead is None:
            return data
        part_bytes = part.to_bytes(4, "big")
        return self._aead.encrypt(_NONCE + part_bytes, data, self.prefix + part_bytes + extra)

    def open(self, part: int, sealed: bytes | memoryview, extra: bytes = b"") -> bytes:
        """What :meth:`seal` was given. Raises ValueError; a plain cipher trusts the caller's digest."""
        if self._aead is None:
            return bytes(sealed)
        part_bytes = part.to_bytes(4, "big")
        try:
            return self._aead.decrypt(_NONCE + part_bytes, sealed, self.prefix + part_bytes + extra)
        except InvalidTag:
            raise ValueError("authentication failed") from None

    def open_into(self, part: int, sealed: bytes | memoryview, buffer: bytearray | memoryview) -> memoryview:
        """Like :meth:`open`, but into ``buffer``: the part of it that holds the data. Raises ValueError."""
        if self._aead is None:
            return memoryview(sealed)
        length = len(sealed) - TAG_SIZE
        if not 0 <= length <= len(buffer):
            raise ValueError("sealed part has an impossible length")
        part_bytes = part.to_bytes(4, "big")
        target = memoryview(buffer)[:length]
        try:
            self._aead.decrypt_into(_NONCE + part_bytes, sealed, self.prefix + part_bytes, target)
        except InvalidTag:
            raise ValueError("authentication failed") from None
        return target

    def digest(self, part: int, data: bytes | memoryview, extra: bytes = b"") -> bytes:
        """SHA-256 that binds ``data`` to repository, object and part; what plain objects carry for a tag."""
        digest = hashlib.sha256(self.prefix + part.to_bytes(4, "big") + extra)
        digest.update(data)
        return digest.digest()


@dataclass(frozen=True, slots=True)
class Keys:
    """Who this repository is and how its objects of ``epoch`` are sealed. ``secret`` is None at epoch 0."""

    repository_id: bytes
    epoch: int = PLAIN_EPOCH
    secret: bytes | None = field(default=None, repr=False)

    def cipher(self, kind: ObjectKind, object_id: bytes) -> ObjectCipher:
        """The cipher of one object."""
        header = object_header(kind, self.epoch, object_id)
        if self.secret is None:
            return ObjectCipher(header, self.repository_id, None)
        return ObjectCipher(
            header, self.repository_id, AESGCM(derive(self.secret, self.repository_id, header))
        )

    def plain(self) -> Keys:
        """For objects written before the repository was encrypted."""
        return Keys(self.repository_id)
