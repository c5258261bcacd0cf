"""Permissions of S3, DynamoDB and KMS.

The names of S3's actions differ from those of its operations; the table below is the whole difference.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping
from typing import Any

from moto.kms.utils import _deserialize_ciphertext_blob

from simulator import kms
from simulator.needs import Need, Place

# Operations on a bucket and the action they need; everything else on a bucket has the operation's own name.
_BUCKET_ACTIONS = {
    "ListObjects": "ListBucket",
    "ListObjectsV2": "ListBucket",
    "HeadBucket": "ListBucket",
    "ListObjectVersions": "ListBucketVersions",
    "ListMultipartUploads": "ListBucketMultipartUploads",
    "GetBucketEncryption": "GetEncryptionConfiguration",
    "GetBucketLifecycleConfiguration": "GetLifecycleConfiguration",
    "GetObjectLockConfiguration": "GetBucketObjectLockConfiguration",
    "GetPublicAccessBlock": "GetBucketPublicAccessBlock",
    "PutObjectLockConfiguration": "PutBucketObjectLockConfiguration",
}
_OBJECT_ACTIONS = {
    "HeadObject": "GetObject",
    "CreateMultipartUpload": "PutObject",
    "UploadPart": "PutObject",
    "CompleteMultipartUpload": "PutObject",
    "CopyObject": "PutObject",
    "UploadPartCopy": "PutObject",
    "ListParts": "ListMultipartUploadParts",
    "GetObjectAttributes": "GetObject",
}
_VERSIONED = {"GetObject", "DeleteObject", "GetObjectTagging", "PutObjectTagging"}


def derive_s3(place: Place, operation: str, given: Mapping[str, Any]) -> Iterator[Need]:
    """The permissions of an S3 call."""
    bucket, key = given["Bucket"], given.get("Key", "")
    if operation == "ListBuckets" or not bucket:
        yield Need("s3:ListAllMyBuckets", "*")
    elif operation == "DeleteObjects":
        yield Need("s3:DeleteObject", f"arn:aws:s3:::{bucket}/*")
    elif not key:
        context = {
            f"s3:{name}": [given[name]] for name in ("prefix", "delimiter", "max-keys") if name in given
        }
        yield Need(f"s3:{_BUCKET_ACTIONS.get(operation, operation)}", f"arn:aws:s3:::{bucket}", context)
    else:
        action = _OBJECT_ACTIONS.get(operation, operation)
        if "versionId" in given and action in _VERSIONED:
            action = re.sub(r"Object", "ObjectVersion", action)
        yield Need(f"s3:{action}", f"arn:aws:s3:::{bucket}/{key}")


_TRANSACTED = {"Put": "PutItem", "Update": "UpdateItem", "Delete": "DeleteItem", "Get": "GetItem"}


def derive_dynamodb(place: Place, operation: str, given: Mapping[str, Any]) -> Iterator[Need]:
    """The permissions of a DynamoDB call: each item of a transaction asks on its own."""
    if "TransactItems" in given:
        for item in given["TransactItems"]:
            [(verb, body)] = item.items()
            yield Need(
                f"dynamodb:{_TRANSACTED.get(verb, 'ConditionCheckItem')}", _table(place, body["TableName"])
            )
    elif "RequestItems" in given:
        for name in given["RequestItems"]:
            yield Need(f"dynamodb:{operation}", _table(place, name))
    elif "TableName" in given:
        table = _table(place, given["TableName"])
        index = given.get("IndexName")
        yield Need(f"dynamodb:{operation}", f"{table}/index/{index}" if index else table)
    else:
        yield Need(f"dynamodb:{operation}", "*")


def _table(place: Place, name: str) -> str:
    return name if name.startswith("arn:") else place.arn("dynamodb", f"table/{name}")


def derive_kms(place: Place, operation: str, given: Mapping[str, Any]) -> Iterator[Need]:
    """The permissions of a KMS call, with the encryption context and the key's aliases."""
    names = [
        given[name] for name in ("KeyId", "SourceKeyId", "DestinationKeyId", "TargetKeyId") if name in given
    ]
    if not names and "CiphertextBlob" in given:
        blob = given["CiphertextBlob"]
        raw = base64.b64decode(blob) if isinstance(blob, str) else blob
        names = [_deserialize_ciphertext_blob(raw).key_id]
    context = {
        f"kms:encryptioncontext:{key.lower()}": [value]
        for key, value in (given.get("EncryptionContext") or {}).items()
    }
    if context:
        context["kms:encryptioncontextkeys"] = list(given["EncryptionContext"])
    if not names:
        yield Need(f"kms:{operation}", "*", context)
    for name in names:
        alias = {"kms:requestalias": [name]} if name.startswith("alias/") else {}
        yield key_need(place, f"kms:{operation}", name, context | alias)


def key_need(place: Place, action: str, name: str, context: Mapping[str, Any] | None = None) -> Need:
    """An action on a key, named in any way."""
    key = kms.find_key(name, place.account, place.region)
    if key is None:
        return Need(
            action, name if name.startswith("arn:") else place.arn("kms", f"key/{name}"), context or {}
        )
    return Need(action, key.arn, {**(context or {}), "kms:resourcealiases": sorted(key.aliases)})
