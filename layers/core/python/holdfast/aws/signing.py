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
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import quote

if TYPE_CHECKING:
    from hashlib import _Hash as HASH

EMPTY_HASH: Final = sha256(b"").hexdigest()
UNSIGNED: Final = "UNSIGNED-PAYLOAD"
SAFE: Final = "-_.~"

_EMPTY: Final = sha256()
"""Copied where every block is signed: making one anew looks up SHA-256 in OpenSSL."""
_INNER: Final = bytes(byte ^ 0x36 for byte in range(256))
_OUTER: Final = bytes(byte ^ 0x5C for byte in range(256))


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


class _Second(NamedTuple):
    """What is the same for all plain requests to one host within one second."""

    stamp: str
    host: str
    credentials: Credentials
    canonical: str
    to_sign: str
    mac: _Mac
    lines: str


class _Mac(NamedTuple):
    """HMAC-SHA256 under one key (RFC 2104), as the two digests that have taken the key in.

    Copying them costs half of what `hmac.digest` does, which looks up SHA-256 in OpenSSL each time.
    """

    inner: HASH
    outer: HASH

    @classmethod
    def of(cls, key: bytes) -> _Mac:
        """``key`` has at most 64 bytes."""
        padded = key.ljust(64, b"\0")
        return cls(sha256(padded.translate(_INNER)), sha256(padded.translate(_OUTER)))

    def hexdigest(self, message: bytes) -> str:
        inner, outer = self.inner.copy(), self.outer.copy()
        inner.update(message)
        outer.update(inner.digest())
        return outer.hexdigest()


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
        self._second = _Second("", "", self._day.credentials, "", "", _Mac.of(b""), "")

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
        day = self._day_of(credentials, stamp)
        added = self._added(credentials, stamp, payload_hash)
        signed = sorted({**headers, **added}.items())
        names = ";".join([name for name, _ in signed])
        lines = "\n".join([f"{name}:{value}" for name, value in signed])
        canonical = f"{method}\n{self._canonical(path)}\n{query}\n{lines}\n\n{names}\n{payload_hash}"
        digest = sha256(canonical.encode()).hexdigest()
        to_sign = f"AWS4-HMAC-SHA256\n{stamp}\n{day.scope}\n{digest}"
        signature = hmac.digest(day.key, to_sign.encode(), "sha256").hex()
        return {**added, "authorization": _authorization(credentials, day, names) + signature}

    def sign_plain(self, credentials: Credentials, method: str, path: str, query: str, host: str) -> str:
        """All header lines of a request that has no body and no headers of its own.

        It gives what :meth:`sign` gives for ``{"host": host}``, in a third of the time.
        """
        stamp = self._stamp()
        second = self._second
        if second.stamp != stamp or second.credentials is not credentials or second.host != host:
            second = self._begin_second(credentials, stamp, host)
        canonical = f"{method}\n{self._canonical(path)}\n{query}\n{second.canonical}"
        digest = _EMPTY.copy()
        digest.update(canonical.encode())
        to_sign = second.to_sign + digest.hexdigest()
        return f"{second.lines}{second.mac.hexdigest(to_sign.encode())}\r\n"

    def _begin_second(self, credentials: Credentials, stamp: str, host: str) -> _Second:
        day = self._day_of(credentials, stamp)
        signed = sorted({"host": host, **self._added(credentials, stamp, EMPTY_HASH)}.items())
        names = ";".join([name for name, _ in signed])
        self._second = _Second(
            stamp,
            host,
            credentials,
            "".join([f"{name}:{value}\n" for name, value in signed]) + f"\n{names}\n{EMPTY_HASH}",
            f"AWS4-HMAC-SHA256\n{stamp}\n{day.scope}\n",
            _Mac.of(day.key),
            "".join([f"{name}: {value}\r\n" for name, value in signed])
            + f"authorization: {_authorization(credentials, day, names)}",
        )
        return self._second

    def _added(self, credentials: Credentials, stamp: str, payload_hash: str) -> dict[str, str]:
        """The headers that signing adds before it signs."""
        added = {"x-amz-date": stamp}
        if payload_hash == UNSIGNED or not self._escape_path:
            added["x-amz-content-sha256"] = payload_hash
        if credentials.token:
            added["x-amz-security-token"] = credentials.token
        return added

    def _stamp(self) -> str:
        second = int(self._clock())
        moment = self._moment
        if moment[0] != second:
            moment = (second, time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(second)))
            self._moment = moment
        return moment[1]

    def _canonical(self, path: str) -> str:
        return quote(path, safe="/~") if self._escape_path and "%" in path else path

    def _day_of(self, credentials: Credentials, stamp: str) -> _Day:
        day = self._day
        if day.date == stamp[:8] and day.credentials is credentials:
            return day
        key = f"AWS4{credentials.secret_key}".encode()
        for part in (stamp[:8], self._region, self._service, "aws4_request"):
            key = hmac.digest(key, part.encode(), "sha256")
        scope = f"{stamp[:8]}/{self._region}/{self._service}/aws4_request"
        self._day = day = _Day(credentials, stamp[:8], scope, key)
        return day


def _authorization(credentials: Credentials, day: _Day, names: str) -> str:
    """The value of the header up to the signature."""
    return (
        f"AWS4-HMAC-SHA256 Credential={credentials.access_key}/{day.scope}, SignedHeaders={names}, Signature="
    )
