"""Reads of objects and their ranges straight from the file: restores read millions of ranges of large packs.

Only the plain case is answered here; whatever needs a decision (conditions, archives, refusals) is left to
the full S3, so that there is one place for each rule.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from urllib.parse import parse_qs, unquote

from moto.iam.access_control import PermissionResult
from moto.s3.models import FakeBucket
from moto.s3.utils import ARCHIVE_STORAGE_CLASSES

from simulator.calls import Answer
from simulator.s3 import StoredKey
from simulator.s3_rules import find_bucket

_RANGE = re.compile(r"^bytes=(\d+)-(\d*)$")
_DECIDED_ELSEWHERE = ("if-match", "if-none-match", "if-modified-since", "if-unmodified-since")


def answer(path: str, query: str, headers: Mapping[str, str]) -> Answer | None:
    """The answer to a path-style GET of an object, None when the full S3 has to decide."""
    wanted = parse_qs(query, keep_blank_values=True)
    if wanted.keys() - {"versionId", "x-id"} or any(name in headers for name in _DECIDED_ELSEWHERE):
        return None
    bucket_name, _, key_name = path.lstrip("/").partition("/")
    bucket = find_bucket(bucket_name)
    if bucket is None or not key_name or _is_denied(bucket, path.lstrip("/")):
        return None
    if headers.get("x-amz-expected-bucket-owner", bucket.account_id) != bucket.account_id:
        return None
    key = _version(bucket, unquote(key_name), wanted.get("versionId", [""])[0])
    if key is None or key.encryption == "aws:kms" or key.storage_class in ARCHIVE_STORAGE_CLASSES:
        return None
    return _content(key, headers)


def _content(key: StoredKey, headers: Mapping[str, str]) -> Answer | None:
    asked = headers.get("range", "")
    span = _RANGE.match(asked)
    if asked and span is None:
        return None
    try:
        descriptor = os.open(key.path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        size = os.fstat(descriptor).st_size
        first = int(span.group(1)) if span else 0
        last = min(int(span.group(2)), size - 1) if span and span.group(2) else size - 1
        if span and not first <= last:
            return None
        content = os.pread(descriptor, last - first + 1, first)
    finally:
        os.close(descriptor)
    told = {name: str(value) for name, value in {**key.response_dict, **key.metadata}.items()}
    told["content-length"] = str(len(content))
    told["Accept-Ranges"] = "bytes"
    if span:
        return 206, told | {"Content-Range": f"bytes {first}-{last}/{size}"}, content
    if headers.get("x-amz-checksum-mode", "").upper() == "ENABLED" and key.checksum_algorithm:
        told[f"x-amz-checksum-{key.checksum_algorithm.lower()}"] = str(key.checksum_value)
    return 200, told, content


def _is_denied(bucket: FakeBucket, resource: str) -> bool:
    verdict = bucket.get_permission("s3:GetObject", f"arn:{bucket.partition}:s3:::{resource}")
    return verdict is PermissionResult.DENIED


def _version(bucket: FakeBucket, key: str, version_id: str) -> StoredKey | None:
    versions = bucket.keys.getlist(key, [])
    if version_id:
        versions = [version for version in versions if version.version_id == version_id]
    found = versions[-1] if versions else None
    return found if isinstance(found, StoredKey) else None
