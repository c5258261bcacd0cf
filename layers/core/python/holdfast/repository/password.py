"""Wraps the repository key with a password (Argon2id, RFC 9106).

The parameters come from repository.json, which may be hostile before its MAC is verified: they are bounded
here, so that opening a repository costs at most 1 GiB and some seconds.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from holdfast.errors import ConfigurationError, DamagedError, KeyUnavailableError
from holdfast.ports import IdSource
from holdfast.repository.keys import KEY_SIZE
from holdfast.repository.layout import REPOSITORY_KEY

KIND = "password"
_ALGORITHM = "argon2id"
_SALT_SIZE = 16
_NONCE = bytes(12)
_LIMITS = {"memory_kib": (8, 1 << 20), "iterations": (1, 64), "lanes": (1, 16)}


class PasswordWrapper:
    """A KeyWrapper over a password; the defaults are the second recommended option of RFC 9106."""

    def __init__(
        self, password: str, ids: IdSource, *, memory_kib: int = 1 << 16, iterations: int = 3, lanes: int = 4
    ) -> None:
        if not password:
            raise ConfigurationError("The password of the repository is empty.", remedy="Give one.")
        self._password = unicodedata.normalize("NFC", password).encode()
        self._ids = ids
        self._parameters = {"memory_kib": memory_kib, "iterations": iterations, "lanes": lanes}

    def wrap(self, key: bytes, repository_id: str) -> Mapping[str, str | int]:
        """Header fields from which the same password recovers ``key``."""
        salt = self._ids.random_bytes(_SALT_SIZE)
        kek = self._derive(salt, self._parameters)
        wrapped = AESGCM(kek).encrypt(_NONCE, key, _binding(repository_id))
        return {
            "kind": KIND,
            "algorithm": _ALGORITHM,
            **self._parameters,
            "salt": salt.hex(),
            "wrapped": wrapped.hex(),
        }

    def unwrap(self, header: Mapping[str, str | int], repository_id: str) -> bytes:
        """The repository key. Raises KeyUnavailableError (wrong password), DamagedError (bad header)."""
        if header.get("kind") != KIND:
            raise KeyUnavailableError(
                f"The repository is encrypted with {header.get('kind')!r}, not with a password.",
                resource=REPOSITORY_KEY,
                remedy="Set the encryption of this repository in the configuration as it was made.",
            )
        try:
            if header["algorithm"] != _ALGORITHM:
                raise ValueError("unknown algorithm")
            parameters = {name: _bounded(header[name], *bounds) for name, bounds in _LIMITS.items()}
            if parameters["memory_kib"] < 8 * parameters["lanes"]:
                raise ValueError("memory below 8 KiB per lane")
            salt, wrapped = bytes.fromhex(str(header["salt"])), bytes.fromhex(str(header["wrapped"]))
            if not 8 <= len(salt) <= 64:
                raise ValueError("salt of impossible length")
        except (KeyError, ValueError) as error:
            raise DamagedError(
                f"The key header of {REPOSITORY_KEY} is damaged: {error}.", resource=REPOSITORY_KEY
            ) from None
        try:
            key = AESGCM(self._derive(salt, parameters)).decrypt(_NONCE, wrapped, _binding(repository_id))
        except InvalidTag:
            raise KeyUnavailableError(
                "The password does not open this repository.",
                resource=REPOSITORY_KEY,
                remedy="Give the current password of the repository.",
            ) from None
        return key

    def _derive(self, salt: bytes, parameters: Mapping[str, int]) -> bytes:
        return Argon2id(
            salt=salt,
            length=KEY_SIZE,
            iterations=parameters["iterations"],
            lanes=parameters["lanes"],
            memory_cost=parameters["memory_kib"],
        ).derive(self._password)


def _binding(repository_id: str) -> bytes:
    return b"holdfast/1/wrap" + bytes.fromhex(repository_id)


def _bounded(value: str | int, low: int, high: int) -> int:
    if type(value) is not int or not low <= value <= high:
        raise ValueError(f"{value!r} is not a number from {low} to {high}")
    return value
