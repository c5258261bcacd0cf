"""What S3 refuses and moto does not: wrong checksums, loosened retention, objects under an unusable key.

These refusals protect backups; a simulation that forgives them would prove nothing about integrity or locks.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable
from datetime import datetime
from typing import Any

from moto.core.utils import utcnow
from moto.iam.access_control import IAMPolicy
from moto.s3.exceptions import S3ClientError
from moto.s3.models import FakeBucket, s3_backends
from moto.s3.responses import S3Response

from simulator import checksums, kms
from simulator.calls import Answer, error_answer
from simulator.patches import Patches

_patches = Patches()
_CHECKSUM_HEADER = re.compile(r"^x-amz-checksum-(crc32c?|crc64nvme|sha1|sha256)$", re.IGNORECASE)
_TRAILER = re.compile(rb"x-amz-checksum-(\w+):([A-Za-z0-9+/]+={0,2})\s*$")


def install() -> None:
    """Add the refusals to moto's S3."""
    _patches.set(S3Response, "_get_checksum", _verified_checksum)
    for name in ("put_object", "upload_part", "get_object"):
        _patches.set(S3Response, name, _with_usable_key(vars(S3Response)[name]))
    _patches.set(S3Response, "put_object", _one_after_another(vars(S3Response)["put_object"]))
    _patches.set(S3Response, "put_object_retention", _never_looser(vars(S3Response)["put_object_retention"]))
    _patches.set(FakeBucket, "get_permission", _permission)
    for name in ("_key_response", "_bucket_response"):
        _patches.set(S3Response, name, _of_expected_owner(vars(S3Response)[name]))


def uninstall() -> None:
    """Give moto its leniency back."""
    _patches.undo()


def verify_body(headers: Any, body: bytes) -> tuple[str, str]:
    """Check an uploaded body against Content-MD5 and checksum headers; returns (algorithm, value) or empties.

    Raises S3ClientError (BadDigest, InvalidDigest).
    """
    expected = headers.get("Content-MD5")
    if expected and expected != checksums.md5(body):
        if not re.fullmatch(r"[A-Za-z0-9+/]{22}==", expected):
            raise S3ClientError("InvalidDigest", "The Content-MD5 you specified was invalid.")
        raise S3ClientError("BadDigest", "The Content-MD5 you specified did not match what we received.")
    for header in list(headers.keys()):
        if (found := _CHECKSUM_HEADER.match(header)) and headers.get(header):
            algorithm, value = found.group(1).upper(), headers.get(header)
            if checksums.checksum(body, algorithm) != value:
                message = f"The {algorithm} you specified did not match the calculated checksum."
                raise S3ClientError("BadDigest", message)
            return algorithm, value
    return "", ""


def require_usable_key(encryption: str | None, key_id: str | None, account: str, region: str) -> None:
    """Refuse an object under a key that cannot be used. Raises S3ClientError."""
    if encryption in ("aws:kms", "aws:kms:dsse") and key_id:
        try:
            kms.require_usable(key_id, account, region)
        except kms.KeyRefused as refused:
            code = str(refused.error_type)
            code = "AccessDenied" if code.startswith("AccessDenied") else f"KMS.{code}"
            raise S3ClientError(code, str(refused.message)) from refused


def _verified_checksum(response: S3Response, response_headers: dict[str, Any]) -> tuple[str, str | None]:
    body = response.body or b""
    body = body if isinstance(body, bytes) else str(body).encode()
    algorithm, value = verify_body(response.headers, body)
    trailer = response.headers.get("x-amz-trailer")
    if not algorithm and trailer and (found := _TRAILER.search(response.raw_body or b"")):
        algorithm, value = found.group(1).decode().upper(), found.group(2).decode()
        if checksums.is_known(algorithm) and checksums.checksum(body, algorithm) != value:
            raise S3ClientError(
                "BadDigest", f"The {algorithm} you specified did not match the calculated checksum."
            )
    asked = (response.headers.get("x-amz-sdk-checksum-algorithm") or "").upper()
    if not algorithm and checksums.is_known(asked):
        algorithm, value = asked, checksums.checksum(body, asked)
    if not algorithm:
        return "", None
    response_headers[f"x-amz-checksum-{algorithm.lower()}"] = value
    response_headers.setdefault("x-amz-checksum-type", "FULL_OBJECT")
    return algorithm, value


def _with_usable_key(original: Callable[[S3Response], Any]) -> Callable[[S3Response], Any]:
    def call(response: S3Response) -> Any:
        account, region = response.current_account, response.region
        bucket = response.backend.get_bucket(response.bucket_name)
        if response.method == "GET":
            key = response.backend.get_object(
                response.bucket_name,
                response.parse_key_name(),
                version_id=response.querystring.get("versionId", [None])[0],
            )
            if key is not None:
                require_usable_key(key.encryption, key.kms_key_id, account, bucket.region_name)
        else:
            default = (bucket.encryption or {}).get("Rule", {}).get("ApplyServerSideEncryptionByDefault", {})
            asked = response.headers.get("x-amz-server-side-encryption") or default.get("SSEAlgorithm")
            key_id = response.headers.get("x-amz-server-side-encryption-aws-kms-key-id") or default.get(
                "KMSMasterKeyID"
            )
            require_usable_key(asked, key_id, account, bucket.region_name or region)
        return original(response)

    return call


def _of_expected_owner(original: Callable[..., Any]) -> Callable[..., Any]:
    def call(response: S3Response, *arguments: Any) -> Any:
        expected = response.headers.get("x-amz-expected-bucket-owner")
        bucket = find_bucket(response.bucket_name) if expected else None
        if bucket is not None and bucket.account_id != expected:
            raise S3ClientError("AccessDenied", "The bucket does not belong to the expected account.")
        return original(response, *arguments)

    return call


def find_bucket(name: str) -> FakeBucket | None:
    """A bucket of any account."""
    for account in list(s3_backends):
        for backend in list(s3_backends[account].values()):
            if name in backend.buckets:
                return backend.buckets[name]
    return None


def wrong_region(path: str, region: str) -> Answer | None:
    """The refusal of a path-style request that was signed for another Region than its bucket's, else None."""
    bucket = find_bucket(path.lstrip("/").partition("/")[0])
    if bucket is None or bucket.region_name == region:
        return None
    expected = bucket.region_name
    message = f"The authorization header is malformed; the region '{region}' is wrong; expecting '{expected}'"
    status, headers, body = error_answer("s3", "AuthorizationHeaderMalformed", message, 400)
    named = body.replace(b"</Error>", f"<Region>{expected}</Region></Error>".encode())
    return status, headers | {"x-amz-bucket-region": expected}, named


def _one_after_another(original: Callable[[S3Response], Any]) -> Callable[[S3Response], Any]:
    """Let the condition of a write hold until it is written, also against writers in other threads."""
    turns = [threading.RLock() for _ in range(64)]

    def call(response: S3Response) -> Any:
        with turns[hash((response.bucket_name, response.parse_key_name())) % len(turns)]:
            return original(response)

    return call


def _never_looser(original: Callable[[S3Response], Any]) -> Callable[[S3Response], Any]:
    def put_object_retention(response: S3Response) -> Any:
        key = response.backend.get_object(
            response.bucket_name, response.parse_key_name(), version_id=response._get_param("versionId")
        )
        if key is None:
            raise S3ClientError("NoSuchKey", "The specified key does not exist.")
        mode, until = response._mode_until_from_body()
        held_until = _instant(key.lock_until)
        if key.lock_mode and held_until and held_until > utcnow():
            looser = (
                mode is None or (new := _instant(until)) is None or new < held_until or mode != key.lock_mode
            )
            bypass = str(response.headers.get("x-amz-bypass-governance-retention", "")).lower() == "true"
            upgrade = key.lock_mode == "GOVERNANCE" and bypass
            if looser and not upgrade:
                raise S3ClientError("AccessDenied", "Access Denied because object protected by object lock.")
        return original(response)

    return put_object_retention


def _instant(text: str | None) -> datetime | None:
    if not text:
        return None
    return datetime.fromisoformat(text).replace(tzinfo=None)


def _permission(bucket: FakeBucket, action: str, resource: str) -> Any:
    """The bucket policy's verdict from statements without conditions.

    moto reads past conditions: a policy that denies plain HTTP would deny everything.
    """
    from moto.iam.access_control import PermissionResult

    if bucket.policy is None:
        return PermissionResult.NEUTRAL
    policy = json.loads(bucket.policy)
    statements = policy.get("Statement", [])
    statements = statements if isinstance(statements, list) else [statements]
    applicable = [statement for statement in statements if not statement.get("Condition")]
    if not applicable:
        return PermissionResult.NEUTRAL
    return IAMPolicy(json.dumps(policy | {"Statement": applicable})).is_action_permitted(action, resource)
