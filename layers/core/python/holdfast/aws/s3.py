"""A prefix of an S3 bucket as an object store, on the fast client.

Bodies are not hashed for the signature (TLS and a CRC32 protect them on the way, S3 checks and stores the
CRC); objects are only created with ``If-None-Match: *`` or replaced with ``If-Match``, so no race can
overwrite one.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from html import unescape
from typing import Final
from urllib.parse import quote, unquote_plus
from zlib import crc32

from holdfast.aws.http import Answer, HttpClient, Request, Told
from holdfast.aws.signing import SAFE, UNSIGNED, encode_query
from holdfast.aws.wire import Response
from holdfast.errors import ConflictError, DamagedError, NotFoundError, UnavailableError
from holdfast.ports import ObjectStat

_OBJECT_LIMIT: Final = 1 << 30
_PAGE_LIMIT: Final = 8 << 20
_CONTENTS: Final = re.compile(r"<Contents>(.*?)</Contents>", re.DOTALL)
_CRC: Final = "x-amz-checksum-crc32"


def tell(response: Response) -> Told:
    """Code and message of an S3 error document; empty for answers to HEAD."""
    text = response.body.decode("utf-8", "replace")
    return Told(_element(text, "Code"), _element(text, "Message"))


def s3_url(bucket: str, region: str) -> tuple[str, str]:
    """Address of a bucket and the path that objects hang from.

    A name with dots does not match the wildcard certificate, so it goes into the path.
    """
    suffix = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
    if "." in bucket:
        return f"https://s3.{region}.{suffix}", f"/{bucket}/"
    return f"https://{bucket}.s3.{region}.{suffix}", "/"


class S3ObjectStore:
    """`ports.ObjectStore` under ``prefix`` of a bucket.

    ``root`` is ``/`` when the client's address names the bucket, else ``/<bucket>/``. ``owner``, when
    given, is the account id that the bucket must belong to: S3 refuses every call to a bucket of somebody
    else.
    """

    def __init__(
        self, client: HttpClient, bucket: str, prefix: str, *, root: str = "/", owner: str = ""
    ) -> None:
        self._client = client
        self._bucket = bucket
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self._root = root
        self._headers = {"x-amz-expected-bucket-owner": owner} if owner else {}

    @property
    def requests(self) -> Mapping[str, int]:
        """Requests sent so far, by action."""
        return self._client.requests

    def put_new(
        self, key: str, content: bytes | bytearray | memoryview, *, storage_class: str = "STANDARD"
    ) -> None:
        self._put(key, content, {"if-none-match": "*"}, storage_class)

    def replace(self, key: str, content: bytes, *, etag: str) -> None:
        self._put(key, content, {"if-match": etag}, "STANDARD")

    def get(self, key: str) -> bytes:
        return self._get(key, {}, _OBJECT_LIMIT).body

    def get_range(self, key: str, offset: int, length: int) -> bytes:
        if length == 0:
            self.stat(key)
            return b""
        answer = self._get(key, {"range": f"bytes={offset}-{offset + length - 1}"}, length)
        promised = f"bytes {offset}-{offset + length - 1}/"
        if (
            answer.status != 206
            or len(answer.body) != length
            or not answer.headers.get("content-range", promised).startswith(promised)
        ):
            raise DamagedError(
                f"{key} is too short: {length} bytes at {offset} were asked for, {len(answer.body)} came.",
                resource=self._name(key),
            )
        return answer.body

    def stat(self, key: str) -> ObjectStat:
        return _stat_of(key, self._head(key).headers)

    def list(self, prefix: str) -> Iterator[ObjectStat]:
        token = ""
        while True:
            query: dict[str, str | int] = {
                "list-type": 2,
                "encoding-type": "url",
                "prefix": self._prefix + prefix,
                "max-keys": 1000,
            }
            if token:
                query["continuation-token"] = token
            answer = self._client.send(
                Request(
                    "GET",
                    self._root,
                    "s3:ListBucket",
                    self._name(prefix),
                    query=encode_query(query),
                    headers=self._headers,
                    limit=_PAGE_LIMIT,
                )
            )
            text = answer.body.decode("utf-8", "replace")
            if "<ListBucketResult" not in text:
                raise UnavailableError("S3 answered a listing with something else.", resource=self._bucket)
            for contents in _CONTENTS.findall(text):
                stat = self._listed(contents)
                if stat is not None:
                    yield stat
            token = _element(text, "NextContinuationToken")
            if not token or _element(text, "IsTruncated") != "true":
                return

    def delete(self, key: str) -> None:
        self._client.send(
            Request(
                "DELETE",
                self._path(key),
                "s3:DeleteObject",
                self._name(key),
                headers=self._headers,
                expected=(404,),
            )
        )

    def delete_version(self, key: str, version_id: str) -> None:
        """Remove one version for good. Raises AccessDeniedError when Object Lock still protects it."""
        self._client.send(
            Request(
                "DELETE",
                self._path(key),
                "s3:DeleteObjectVersion",
                self._name(key),
                query=encode_query({"versionId": version_id}),
                headers=self._headers,
                expected=(404,),
            )
        )

    def _put(
        self,
        key: str,
        content: bytes | bytearray | memoryview,
        condition: Mapping[str, str],
        storage_class: str,
    ) -> None:
        checksum = b64encode(crc32(content).to_bytes(4, "big")).decode()
        headers = {
            **self._headers,
            **condition,
            "content-type": "application/octet-stream",
            "x-amz-sdk-checksum-algorithm": "CRC32",
            _CRC: checksum,
        }
        if storage_class != "STANDARD":
            headers["x-amz-storage-class"] = storage_class
        answer = self._client.send(
            Request(
                "PUT",
                self._path(key),
                "s3:PutObject",
                self._name(key),
                headers=headers,
                body=content,
                payload_hash=UNSIGNED,
                expected=(412, 404) if "if-match" in condition else (412,),
            )
        )
        if answer.status < 300:
            return
        if answer.repeated and self._holds(key, len(content), checksum):
            return  # an attempt whose answer was lost had stored exactly this
        raise ConflictError(
            f"{key} {'changed meanwhile' if 'if-match' in condition else 'exists already'}.",
            resource=self._name(key),
            remedy="It was left as it is; the operation is repeated from what is there now.",
        )

    def _holds(self, key: str, size: int, checksum: str) -> bool:
        """Whether the object now has exactly these bytes."""
        try:
            headers = self._head(key).headers
        except NotFoundError:
            return False
        return headers.get("content-length") == str(size) and headers.get(_CRC) == checksum

    def _head(self, key: str) -> Answer:
        return self._client.send(
            Request(
                "HEAD",
                self._path(key),
                "s3:GetObject",
                self._name(key),
                headers={**self._headers, "x-amz-checksum-mode": "ENABLED"},
            )
        )

    def _get(self, key: str, headers: Mapping[str, str], limit: int) -> Answer:
        answer = self._client.send(
            Request(
                "GET",
                self._path(key),
                "s3:GetObject",
                self._name(key),
                headers={**self._headers, **headers},
                limit=limit,
                expected=(416,),
            )
        )
        if answer.status == 416:
            raise DamagedError(f"{key} is shorter than it was written.", resource=self._name(key))
        return answer

    def _listed(self, contents: str) -> ObjectStat | None:
        """One entry of a listing; None for a key outside the prefix or one that could not be ours."""
        name = unquote_plus(_element(contents, "Key"))
        size = _element(contents, "Size")
        if not name.startswith(self._prefix) or not size.isdigit():
            return None
        return ObjectStat(
            name.removeprefix(self._prefix),
            int(size),
            _element(contents, "ETag"),
            _instant(_element(contents, "LastModified")),
            _element(contents, "StorageClass") or "STANDARD",
        )

    def _path(self, key: str) -> str:
        return quote(f"{self._root}{self._prefix}{key}", safe="/" + SAFE)

    def _name(self, key: str) -> str:
        return f"s3://{self._bucket}/{self._prefix}{key}"


def _element(text: str, name: str) -> str:
    found = re.search(f"<{name}>([^<]*)</{name}>", text)
    return unescape(found[1]) if found else ""


def _instant(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except ValueError:
        raise UnavailableError(f"S3 sent {text[:40]!r} for an instant.") from None


def _stat_of(key: str, headers: Mapping[str, str]) -> ObjectStat:
    size = headers.get("content-length", "")
    try:
        modified_at = parsedate_to_datetime(headers.get("last-modified", "")).astimezone(UTC)
    except (TypeError, ValueError):
        raise UnavailableError("S3 did not say when an object was made.", resource=key) from None
    if not size.isdigit():
        raise UnavailableError("S3 did not say how long an object is.", resource=key)
    return ObjectStat(
        key, int(size), headers.get("etag", ""), modified_at, headers.get("x-amz-storage-class", "STANDARD")
    )
