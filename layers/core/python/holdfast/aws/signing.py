"""AWS Signature Version 4, fast enough to sign every block.

A signature must equal botocore's for the same request (``tests/properties/test_signing.py``). What changes
once a second or once a day is kept in one tuple that is replaced whole, so that threads never mix two of
them.
"""

from __future__ import annotations

import hmac
import time
from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import Final, NamedTuple
from urllib.parse import quote

EMPTY_HASH: Final = sha256(b"").hexdigest()
UNSIGNED: Final = "UNSIGNED-PAYLOAD"
SAFE: Final = "-_.~"


class Credentials(NamedTuple):
    """An access key of a role or user; ``expires_at`` in seconds since 1970, None: never or unknown."""

    access_key: str
    secret_key: str
    token: str = ""
    expires_at: float | None = None

    def __repr__(self) -> str:
        return f"Credentials({self.access_key})"


class _Day(NamedTuple):
    """What stays the same for one key pair on one day."""

    credentials: Credentials
    date: str
    scope: str
    key: bytes


def encode_query(parameters: Mapping[str, str | int]) -> str:
    """A query string as it is sent and signed: percent-encoded, then sorted."""
    encoded = sorted(
        (quote(name, safe=SAFE), quote(str(value), safe=SAFE)) for name, value in parameters.items()
    )
    return "&".join([f"{name}={value}" for name, value in encoded])


class Signer:
    """Signs requests to one service in one Region. Safe to use from many threads.

    ``clock`` gives seconds since 1970. Paths come percent-encoded as they are sent; S3 signs them as they
    are, every other service encodes them once more.
    """

    def __init__(self, service: str, region: str, clock: Callable[[], float] = time.time) -> None:
        self._service = service
        self._region = region
        self._clock = clock
        self._escape_path = service != "s3"
        self._day = _Day(Credentials("", ""), "", "", b"")
        self._moment = (0, "")

    def sign(
        self,
        credentials: Credentials,
        method: str,
        path: str,
        query: str,
        headers: Mapping[str, str],
        payload_hash: str = EMPTY_HASH,
    ) -> dict[str, str]:
        """Headers to add to a request: date, token and authorization.

        ``headers`` (lower-case names, ``host`` among them, values without surrounding blanks) are all signed.
        ``query`` is as :func:`encode_query` returns it; ``payload_hash`` is the hex SHA-256 of the body, or
        UNSIGNED.
        """
        stamp = self._stamp()
        day = self._day
        if day.date != stamp[:8] or day.credentials is not credentials:
            day = self._begin_day(credentials, stamp[:8])
        added = {"x-amz-date": stamp}
        if payload_hash == UNSIGNED or not self._escape_path:
            added["x-amz-content-sha256"] = payload_hash
        if credentials.token:
            added["x-amz-security-token"] = credentials.token
        signed = sorted({**headers, **added}.items())
        names = ";".join([name for name, _ in signed])
        lines = "\n".join([f"{name}:{value}" for name, value in signed])
        canonical_path = quote(path, safe="/~") if self._escape_path and "%" in path else path
        canonical = f"{method}\n{canonical_path}\n{query}\n{lines}\n\n{names}\n{payload_hash}"
        digest = sha256(canonical.encode()).hexdigest()
        to_sign = f"AWS4-HMAC-SHA256\n{stamp}\n{day.scope}\n{digest}"
        signature = hmac.digest(day.key, to_sign.encode(), "sha256").hex()
        added["authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={credentials.access_key}/{day.scope}, "
            f"SignedHeaders={names}, Signature={signature}"
        )
        return added

    def _stamp(self) -> str:
        second = int(self._clock())
        moment = self._moment
        if moment[0] != second:
            moment = (second, time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(second)))
            self._moment = moment
        return moment[1]

    def _begin_day(self, credentials: Credentials, date: str) -> _Day:
        key = f"AWS4{credentials.secret_key}".encode()
        for part in (date, self._region, self._service, "aws4_request"):
            key = hmac.digest(key, part.encode(), "sha256")
        self._day = _Day(credentials, date, f"{date}/{self._region}/{self._service}/aws4_request", key)
        return self._day
