"""Repository keys wrapped by a KMS key of the customer.

The encryption context binds a wrapped key to its repository; only the key that the configuration names is
ever used, because the header that holds the wrapped key is readable, and writable, by whoever can write the
bucket.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from holdfast.aws.faults import translating
from holdfast.errors import AccessDeniedError, HoldfastError, KeyUnavailableError

if TYPE_CHECKING:
    import boto3

CONTEXT_KEY: Final = "holdfast:repository"
KEY_SIZE: Final = 32


class KmsKeyWrapper:
    """`ports.KeyWrapper` on KMS.

    ``key_arn`` is the key to wrap with, and the only one to unwrap with; empty (the offline reader) accepts
    the key that the header names.
    """

    def __init__(self, session: Callable[[], boto3.Session], key_arn: str) -> None:
        self._session = session
        self._key_arn = key_arn

    def wrap(self, key: bytes, repository_id: str) -> Mapping[str, str | int]:
        """Raises KeyUnavailableError, AccessDeniedError naming the key."""
        answer = self._call(
            "kms:Encrypt",
            self._key_arn,
            lambda client: client.encrypt(
                KeyId=self._key_arn, Plaintext=key, EncryptionContext={CONTEXT_KEY: repository_id}
            ),
        )
        wrapped = b64encode(answer["CiphertextBlob"]).decode()
        return {"kind": "kms", "key_arn": self._key_arn, "wrapped": wrapped}

    def unwrap(self, header: Mapping[str, str | int], repository_id: str) -> bytes:
        """Raises KeyUnavailableError naming the key."""
        key_arn = str(header.get("key_arn", ""))
        if header.get("kind") != "kms" or (self._key_arn and key_arn != self._key_arn):
            found = key_arn or header.get("kind")
            raise KeyUnavailableError(
                f"The repository is not encrypted with the configured key but with {found}.",
                resource=self._key_arn,
                remedy="Name that key under `encryption` of the repository.",
            )
        try:
            wrapped = b64decode(str(header.get("wrapped", "")), validate=True)
        except Base64Error:
            wrapped = b""
        if not wrapped:
            raise KeyUnavailableError("The repository's header holds no wrapped key.", resource=key_arn)
        answer = self._call(
            "kms:Decrypt",
            key_arn,
            lambda client: client.decrypt(
                KeyId=key_arn, CiphertextBlob=wrapped, EncryptionContext={CONTEXT_KEY: repository_id}
            ),
        )
        key = bytes(answer["Plaintext"])
        if len(key) != KEY_SIZE:
            raise KeyUnavailableError("The wrapped key is not a repository key.", resource=key_arn)
        return key

    def _call(self, action: str, key_arn: str, call: Callable[[Any], Any]) -> Any:
        region = key_arn.split(":")[3] if key_arn.count(":") >= 5 else None
        try:
            with translating(action, resource=key_arn):
                return call(self._session().client("kms", region_name=region))
        except AccessDeniedError as error:
            # KMS also says "access denied" for a key of another account that does not exist.
            raise _unavailable(error, key_arn) from error


def _unavailable(error: HoldfastError, key_arn: str) -> KeyUnavailableError:
    return KeyUnavailableError(error.message, resource=key_arn, remedy=error.remedy)
