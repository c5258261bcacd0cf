"""What the simulator knows of a request before anybody answers it, and how an error looks on the wire.

In-process calls and calls over loopback become the same ``Call``: counting, faults and permissions must see
no difference between them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit
from xml.sax.saxutils import escape

_CREDENTIAL = re.compile(r"Credential=([^/,]+)/(\d{8})/([^/]*)/([^/]*)/aws4_request")

# Signing names that differ from the prefix of the IAM actions, which is how calls are named here.
_PREFIXES = {"monitoring": "cloudwatch", "email": "ses"}
_XML = {"ec2", "s3", "sts", "iam", "sns", "cloudformation", "autoscaling", "route53"}
_THROTTLES = {
    "ec2": ("RequestLimitExceeded", 503),
    "s3": ("SlowDown", 503),
    "ebs": ("RequestThrottledException", 400),
    "dynamodb": ("ProvisionedThroughputExceededException", 400),
    "lambda": ("TooManyRequestsException", 429),
    "sns": ("Throttled", 429),
    "iam": ("Throttling", 400),
    "sts": ("Throttling", 400),
    "cloudformation": ("Throttling", 400),
}
_EXPIRED = {"ec2": "RequestExpired", "s3": "ExpiredToken", "sts": "ExpiredToken", "iam": "ExpiredToken"}

Answer = tuple[int, dict[str, str], bytes]


@dataclass(frozen=True, slots=True)
class Credential:
    """What the Authorization header claims: access key, Region and service of the signature."""

    access_key: str
    date: str
    region: str
    service: str


@dataclass(frozen=True, slots=True)
class Call:
    """One request. ``service`` is the prefix of the IAM actions, ``operation`` the name of the API."""

    service: str
    operation: str
    account: str
    region: str
    access_key: str
    method: str
    url: str
    body: bytes = b""

    @property
    def name(self) -> str:
        """``service:Operation``."""
        return f"{self.service}:{self.operation}"

    def mentions(self, text: str) -> bool:
        """Whether ``text`` (an id, a key) occurs in the request."""
        return text in unquote(self.url) or text.encode() in self.body


def credential_of(headers: Mapping[str, str | bytes]) -> Credential | None:
    """The credential of a SigV4 Authorization header, None without one."""
    value = headers.get("Authorization") or headers.get("authorization") or ""
    found = _CREDENTIAL.search(value.decode() if isinstance(value, bytes) else value)
    return Credential(*found.groups()) if found else None


def service_of(credential: Credential) -> str:
    """The IAM prefix of the service that a request was signed for."""
    return _PREFIXES.get(credential.service, credential.service)


_EBS_OPERATIONS = (
    ("GET", re.compile(r"/snapshots/[^/]+/blocks/\d+$"), "GetSnapshotBlock"),
    ("PUT", re.compile(r"/snapshots/[^/]+/blocks/\d+$"), "PutSnapshotBlock"),
    ("GET", re.compile(r"/snapshots/[^/]+/blocks$"), "ListSnapshotBlocks"),
    ("GET", re.compile(r"/snapshots/[^/]+/changedblocks$"), "ListChangedBlocks"),
    ("POST", re.compile(r"/snapshots/completion/[^/]+$"), "CompleteSnapshot"),
    ("POST", re.compile(r"/snapshots$"), "StartSnapshot"),
)


def operation_of(service: str, method: str, url: str, headers: Mapping[str, str | bytes], body: bytes) -> str:
    """The API operation of a request that came over HTTP; the method where the path does not tell."""
    target = headers.get("X-Amz-Target") or headers.get("x-amz-target")
    if target:
        return (target.decode() if isinstance(target, bytes) else target).rsplit(".", 1)[-1]
    split = urlsplit(url)
    if service == "ebs":
        for verb, path, name in _EBS_OPERATIONS:
            if method == verb and path.search(split.path):
                return name
    if service == "s3":
        return _s3_operation(method, split.path, split.query)
    if found := re.search(r"(?:^|&)Action=(\w+)", split.query or body[:4096].decode("utf-8", "replace")):
        return found.group(1)
    return method


def _s3_operation(method: str, path: str, query: str) -> str:
    names = {
        "GET": "GetObject",
        "PUT": "PutObject",
        "HEAD": "HeadObject",
        "DELETE": "DeleteObject",
        "POST": "PostObject",
    }
    has_key = path.strip("/").count("/") >= 1
    if not has_key:
        return {"GET": "ListObjectsV2", "PUT": "CreateBucket", "HEAD": "HeadBucket"}.get(method, method)
    if "uploadId=" in query:
        return {"PUT": "UploadPart", "POST": "CompleteMultipartUpload", "DELETE": "AbortMultipartUpload"}.get(
            method, "ListParts"
        )
    if method == "POST" and re.search(r"(?:^|&)uploads", query):
        return "CreateMultipartUpload"
    return names.get(method, method)


def error_answer(
    service: str, code: str, message: str, status: int, content_type: str = "", **more: str
) -> Answer:
    """An error in the protocol of ``service``, chosen by the request's ``content_type`` if it has several."""
    if service in _XML:
        return status, {"Content-Type": "text/xml"}, _xml_error(service, code, message).encode()
    if "cbor" in content_type:
        headers = {"Content-Type": "application/cbor", "smithy-protocol": "rpc-v2-cbor"}
        return status, headers, _cbor({"__type": code, "message": message})
    body = {"__type": code, "message": message, **more}
    return (
        status,
        {"Content-Type": "application/x-amz-json-1.1", "x-amzn-errortype": code},
        json.dumps(body).encode(),
    )


def throttle_answer(service: str, content_type: str = "") -> Answer:
    """The answer of ``service`` when a request quota is exceeded."""
    code, status = _THROTTLES.get(service, ("ThrottlingException", 400))
    more = {"Reason": "ACCOUNT_THROTTLED"} if service == "ebs" else {}
    return error_answer(service, code, "Rate exceeded", status, content_type, **more)


def expired_answer(service: str, content_type: str = "") -> Answer:
    """The answer of ``service`` to credentials that have expired."""
    code, status = _EXPIRED.get(service, "ExpiredTokenException"), 403 if service == "sts" else 400
    message = "The security token included in the request is expired"
    return error_answer(service, code, message, status, content_type)


def _xml_error(service: str, code: str, message: str) -> str:
    error = f"<Code>{escape(code)}</Code><Message>{escape(message)}</Message>"
    if service == "s3":
        return f'<?xml version="1.0" encoding="UTF-8"?><Error>{error}<RequestId>simulated</RequestId></Error>'
    if service == "ec2":
        return f"<Response><Errors><Error>{error}</Error></Errors><RequestID>simulated</RequestID></Response>"
    typed = f"<Error><Type>Sender</Type>{error}</Error>"
    return f"<ErrorResponse>{typed}<RequestId>simulated</RequestId></ErrorResponse>"


def _cbor(fields: Mapping[str, str]) -> bytes:
    def text(value: str) -> bytes:
        encoded = value.encode()[:65_535]
        return b"\x79" + len(encoded).to_bytes(2, "big") + encoded

    return bytes([0xA0 + len(fields)]) + b"".join(text(key) + text(value) for key, value in fields.items())
