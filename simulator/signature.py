"""Checks Signature Version 4 of a request, as AWS does before it looks at anything else.

The comparison takes constant time, and nothing of the secret ever reaches an error message.
"""

from __future__ import annotations

import functools
import hashlib
import hmac
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from urllib.parse import quote, unquote

from simulator.calls import Credential
from simulator.identities import Identity

_SKEW = timedelta(minutes=15)
_UNHASHED = ("UNSIGNED-PAYLOAD", "STREAMING-")


class SignatureRefused(Exception):
    """The request is not from whom it claims to be; ``code`` is AWS's error code."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def check(
    identity: Identity | None,
    credential: Credential,
    method: str,
    path: str,
    query: str,
    headers: Mapping[str, str],
    body: bytes,
    now: datetime,
) -> None:
    """Check one request; ``headers`` have lower-case names, ``now`` is virtual time. Raises SignatureRefused.

    The date may be 15 minutes off the virtual clock or the real one: other programs know only the real one.
    """
    if identity is None:
        raise SignatureRefused("InvalidClientTokenId", "The access key does not exist")
    if headers.get("x-amz-security-token", "") != identity.token:
        raise SignatureRefused("InvalidClientTokenId", "The security token does not belong to the access key")
    parts = _authorization(headers["authorization"])
    stamp = headers.get("x-amz-date", "")
    _check_date(stamp, credential, now)
    signed_headers = parts["SignedHeaders"].split(";")
    payload = headers.get("x-amz-content-sha256") or hashlib.sha256(body).hexdigest()
    if not payload.startswith(_UNHASHED) and payload != hashlib.sha256(body).hexdigest():
        raise SignatureRefused(
            "XAmzContentSHA256Mismatch", "The body does not have the SHA-256 that was signed"
        )
    canonical = "\n".join(
        (
            method,
            _canonical_path(path, credential.service),
            _canonical_query(query),
            *(f"{name}:{' '.join(headers.get(name, '').split())}" for name in signed_headers),
            "",
            parts["SignedHeaders"],
            payload,
        )
    )
    scope = f"{credential.date}/{credential.region}/{credential.service}/aws4_request"
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    text = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{digest}"
    key = _signing_key(identity.secret, credential.date, credential.region, credential.service)
    expected = hmac.digest(key, text.encode(), "sha256").hex()
    if not hmac.compare_digest(expected, parts["Signature"]):
        message = "The request signature we calculated does not match the signature you provided."
        raise SignatureRefused("SignatureDoesNotMatch", message)


def _authorization(header: str) -> dict[str, str]:
    algorithm, _, fields = header.partition(" ")
    parts = dict(field.strip().partition("=")[::2] for field in fields.split(","))
    if algorithm != "AWS4-HMAC-SHA256" or not parts.keys() >= {"Credential", "SignedHeaders", "Signature"}:
        raise SignatureRefused(
            "IncompleteSignature", "The Authorization header is not of Signature Version 4"
        )
    if "host" not in parts["SignedHeaders"].split(";"):
        raise SignatureRefused("SignatureDoesNotMatch", "The header host must be signed")
    return parts


def _check_date(stamp: str, credential: Credential, now: datetime) -> None:
    try:
        signed_at = datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError as error:
        raise SignatureRefused(
            "IncompleteSignature", "The header x-amz-date is missing or malformed"
        ) from error
    if not stamp.startswith(credential.date):
        raise SignatureRefused(
            "SignatureDoesNotMatch", "The credential scope is of another day than x-amz-date"
        )
    if min(abs(signed_at - now), abs(signed_at - datetime.now(UTC))) > _SKEW:
        raise SignatureRefused("RequestTimeTooSkewed", "The date of the request is more than 15 minutes off")


def _canonical_path(path: str, service: str) -> str:
    # S3 signs the path as it is sent; every other service signs it encoded once more.
    return path or "/" if service == "s3" else quote(path or "/", safe="/-_.~")


def _canonical_query(query: str) -> str:
    if not query:
        return ""
    pairs = (pair.partition("=") for pair in query.split("&") if pair)
    encoded = ((_encoded(name), _encoded(value)) for name, _, value in pairs)
    return "&".join(f"{name}={value}" for name, value in sorted(encoded))


def _encoded(text: str) -> str:
    return quote(unquote(text), safe="-_.~")


@functools.lru_cache(maxsize=1024)
def _signing_key(secret: str, date: str, region: str, service: str) -> bytes:
    key = hmac.digest(f"AWS4{secret}".encode(), date.encode(), "sha256")
    for part in (region, service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key
