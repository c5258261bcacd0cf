"""EBS direct APIs on the fast client: list, read and write the blocks of snapshots.

Contents are hostile: block numbers must rise, pages must end, digests must be 32 bytes. A digest returned
here is what EBS claims; whoever uses the block compares it.
"""

from __future__ import annotations

import json
import re
from base64 import b64encode
from binascii import a2b_base64
from collections.abc import Iterator, Mapping
from functools import lru_cache
from hashlib import sha256
from threading import Lock
from typing import Any, Final
from urllib.parse import quote

from holdfast.aws.budget import RateBudget
from holdfast.aws.http import HttpClient, Request, Told
from holdfast.aws.signing import SAFE, UNSIGNED, encode_query
from holdfast.aws.wire import Response
from holdfast.errors import ChecksumError, ConflictError, IntegrityError, UnavailableError
from holdfast.model.blocks import BLOCK_SIZE, DIGEST_SIZE, GIB
from holdfast.ports import BlockRef

BLOCK_REQUESTS_PER_SECOND: Final = 1_000.0
"""GetSnapshotBlock and PutSnapshotBlock, each: per account (adjustable) and per snapshot (not adjustable)."""
LIST_REQUESTS_PER_SECOND: Final = 50.0
SNAPSHOT_TIMEOUT_MINUTES: Final = 4_320
"""The longest that EBS keeps an unfinished snapshot waiting between two calls; its default is an hour."""

_PAGE_BLOCKS: Final = 10_000
_PAGE_LIMIT: Final = 16 << 20
_EMPTY_PAGES: Final = 10_000
_SMALL: Final = 1 << 20
_SNAPSHOT: Final = re.compile(r"snap-[0-9a-f]{1,59}")
_TOKEN: Final = re.compile(r"[A-Za-z0-9+/=]{1,256}")
_NEW_SNAPSHOT: Final = frozenset({"ResourceNotFoundException", "SNAPSHOT_NOT_FOUND"})


def tell(response: Response) -> Told:
    """Code, message and reason of an error of a JSON service."""
    try:
        body = json.loads(response.body or b"{}")
    except ValueError:
        body = {}
    if not isinstance(body, dict):
        body = {}
    code = response.headers.get("x-amzn-errortype") or body.get("__type") or body.get("code") or ""
    message = body.get("Message") or body.get("message") or ""
    bare = str(code).rpartition("#")[2].partition(":")[0]
    return Told(bare, str(message), str(body.get("Reason") or body.get("reason") or ""))


class _Budgets:
    """The allowance of the account, and one of every snapshot in use."""

    def __init__(self, workers: int) -> None:
        self._start = BLOCK_REQUESTS_PER_SECOND / max(1, workers)
        self._account = self._new()
        self._snapshots: dict[str, tuple[RateBudget, ...]] = {}
        self._lock = Lock()

    def _new(self) -> RateBudget:
        return RateBudget(BLOCK_REQUESTS_PER_SECOND, start=self._start)

    def of(self, snapshot_id: str) -> tuple[RateBudget, ...]:
        """The allowances that a request for a block of this snapshot spends from."""
        found = self._snapshots.get(snapshot_id)
        if found is None:
            with self._lock:
                found = self._snapshots.setdefault(snapshot_id, (self._account, self._new()))
        return found


class EbsSnapshotReader:
    """`ports.SnapshotReader` for one account and Region.

    ``workers`` is how many workers probably read under the same quota: each starts with its share of the
    rate.
    """

    def __init__(self, client: HttpClient, *, workers: int = 1) -> None:
        self._client = client
        self._budgets = _Budgets(workers)
        self._listing = (
            RateBudget(LIST_REQUESTS_PER_SECOND, start=LIST_REQUESTS_PER_SECOND / max(1, workers)),
        )

    @property
    def requests(self) -> Mapping[str, int]:
        """Requests sent so far, by action."""
        return self._client.requests

    def allocated(self, snapshot_id: str, start: int, end: int) -> Iterator[BlockRef]:
        path = f"/snapshots/{_segment(snapshot_id)}/blocks"
        return self._list("ebs:ListSnapshotBlocks", path, {}, snapshot_id, start, end)

    def changed(self, base_id: str, snapshot_id: str, start: int, end: int) -> Iterator[BlockRef]:
        path = f"/snapshots/{_segment(snapshot_id)}/changedblocks"
        query = {"firstSnapshotId": base_id}
        return self._list("ebs:ListChangedBlocks", path, query, f"{base_id} and {snapshot_id}", start, end)

    def read_into(self, snapshot_id: str, ref: BlockRef, buffer: memoryview) -> bytes:
        answer = self._client.send(
            Request(
                "GET",
                f"/snapshots/{_segment(snapshot_id)}/blocks/{ref.index}",
                "ebs:GetSnapshotBlock",
                snapshot_id,
                query=f"blockToken={_encoded(ref.token)}",
                into=buffer,
                budgets=self._budgets.of(snapshot_id),
            )
        )
        return _digest(answer.headers, f"block {ref.index} of {snapshot_id}")

    def _list(
        self, action: str, path: str, query: dict[str, str], resource: str, start: int, end: int
    ) -> Iterator[BlockRef]:
        following, token, empty = start, "", 0
        while following < end:
            wanted = max(100, min(_PAGE_BLOCKS, end - following))
            parameters: dict[str, str | int] = {**query, "maxResults": wanted, "startingBlockIndex": start}
            if token:
                parameters["pageToken"] = token
            answer = self._client.send(
                Request(
                    "GET",
                    path,
                    action,
                    resource,
                    query=encode_query(parameters),
                    limit=_PAGE_LIMIT,
                    budgets=self._listing,
                )
            )
            refs, token = _parse_page(answer.body, resource)
            for ref in refs:
                if type(ref.index) is not int or type(ref.token) is not str or ref.index < following:
                    raise IntegrityError(f"EBS listed block {ref.index!r} out of order.", resource=resource)
                if ref.index >= end:
                    return
                following = ref.index + 1
                yield ref
            if not token:
                return
            empty = 0 if refs else empty + 1
            if empty > _EMPTY_PAGES:
                raise UnavailableError("EBS lists empty pages without end.", resource=resource)


class EbsSnapshotWriter:
    """`ports.SnapshotWriter` for one account and Region."""

    def __init__(self, client: HttpClient, *, workers: int = 1) -> None:
        self._client = client
        self._budgets = _Budgets(workers)
        self._seen: set[str] = set()

    @property
    def requests(self) -> Mapping[str, int]:
        """Requests sent so far, by action."""
        return self._client.requests

    def start(
        self,
        size_bytes: int,
        *,
        token: str,
        description: str,
        tags: Mapping[str, str],
        encrypted: bool,
        kms_key_arn: str,
    ) -> str:
        wanted: dict[str, Any] = {
            "VolumeSize": -(-size_bytes // GIB),
            "ClientToken": token,
            "Description": description[:255] or "Holdfast",
            "Tags": [{"Key": key, "Value": value} for key, value in sorted(tags.items())],
            "Timeout": SNAPSHOT_TIMEOUT_MINUTES,
        }
        if encrypted or kms_key_arn:
            wanted["Encrypted"] = True
        if kms_key_arn:
            wanted["KmsKeyArn"] = kms_key_arn
        body = json.dumps(wanted).encode()
        answer = self._client.send(
            Request(
                "POST",
                "/snapshots",
                "ebs:StartSnapshot",
                kms_key_arn,
                headers={"content-type": "application/json"},
                body=body,
                payload_hash=sha256(body).hexdigest(),
                limit=_SMALL,
                expected=(409,),
            )
        )
        told = _document(answer.body, "ebs:StartSnapshot")
        if answer.status == 409:
            said = told.get("Message") or "its token was used for another one"
            raise ConflictError(
                f"EBS refused to start the snapshot: {said}",
                remedy="Restore again: a new attempt uses a new token.",
            )
        if not _SNAPSHOT.fullmatch(str(told.get("SnapshotId"))):
            raise UnavailableError("EBS started a snapshot without naming it.")
        if told.get("BlockSize", BLOCK_SIZE) != BLOCK_SIZE:
            raise IntegrityError(
                f"EBS asks for blocks of {told['BlockSize']} bytes.", resource=told["SnapshotId"]
            )
        return str(told["SnapshotId"])

    def put(self, snapshot_id: str, index: int, content: bytes | memoryview, digest: bytes) -> None:
        # EBS may not know a snapshot for up to two minutes after starting it; once it did, "not found" is
        # final.
        answer = self._client.send(
            Request(
                "PUT",
                f"/snapshots/{_segment(snapshot_id)}/blocks/{index}",
                "ebs:PutSnapshotBlock",
                snapshot_id,
                headers={
                    "content-type": "application/octet-stream",
                    "x-amz-checksum": b64encode(digest).decode(),
                    "x-amz-checksum-algorithm": "SHA256",
                    "x-amz-data-length": str(BLOCK_SIZE),
                },
                body=content,
                payload_hash=UNSIGNED,
                later=() if snapshot_id in self._seen else _NEW_SNAPSHOT,
                budgets=self._budgets.of(snapshot_id),
            )
        )
        self._seen.add(snapshot_id)
        if "x-amz-checksum" in answer.headers and _digest(answer.headers, f"block {index}") != digest:
            raise ChecksumError(f"EBS confirmed another digest for block {index}.", resource=snapshot_id)

    def complete(self, snapshot_id: str, block_count: int, aggregate: bytes) -> None:
        headers = {"x-amz-changedblockscount": str(block_count)}
        if block_count:
            headers |= {
                "x-amz-checksum": b64encode(aggregate).decode(),
                "x-amz-checksum-algorithm": "SHA256",
                "x-amz-checksum-aggregation-method": "LINEAR",
            }
        self._client.send(
            Request(
                "POST",
                f"/snapshots/completion/{_segment(snapshot_id)}",
                "ebs:CompleteSnapshot",
                snapshot_id,
                headers=headers,
                later=() if snapshot_id in self._seen else _NEW_SNAPSHOT,
            )
        )


@lru_cache
def _segment(snapshot_id: str) -> str:
    return snapshot_id if _SNAPSHOT.fullmatch(snapshot_id) else quote(snapshot_id, safe=SAFE)


def _encoded(token: str) -> str:
    """A block token in a query; tokens are base64, and this is done for every block."""
    if not _TOKEN.fullmatch(token):
        return quote(token, safe=SAFE)
    return token.replace("+", "%2B").replace("/", "%2F").replace("=", "%3D")


def _digest(headers: Mapping[str, str], what: str) -> bytes:
    """The SHA-256 in an answer's headers. Raises ChecksumError when there is none."""
    try:
        digest = a2b_base64(headers.get("x-amz-checksum", ""), strict_mode=True)
    except ValueError:
        digest = b""
    if len(digest) != DIGEST_SIZE or headers.get("x-amz-checksum-algorithm", "SHA256") != "SHA256":
        raise ChecksumError(f"EBS sent {what} without a SHA-256 checksum.")
    return digest


def _document(body: bytes, action: str) -> dict[str, Any]:
    try:
        document = json.loads(body)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise UnavailableError(f"{action} was answered with something that is not a JSON document.")
    return document


def _parse_page(body: bytes, resource: str) -> tuple[list[BlockRef], str]:
    """Blocks and page token of one page of either listing."""
    page = _document(body, "Listing blocks")
    new = tuple.__new__
    try:
        if "ChangedBlocks" in page:
            refs = [
                new(BlockRef, (b["BlockIndex"], b.get("SecondBlockToken", ""))) for b in page["ChangedBlocks"]
            ]
        else:
            refs = [new(BlockRef, (b["BlockIndex"], b["BlockToken"])) for b in page.get("Blocks", ())]
    except (TypeError, KeyError, AttributeError):
        raise UnavailableError("EBS sent a listing that cannot be read.", resource=resource) from None
    if page.get("BlockSize", BLOCK_SIZE) != BLOCK_SIZE:
        raise IntegrityError(f"EBS lists blocks of {page['BlockSize']} bytes.", resource=resource)
    token = page.get("NextToken")
    return refs, token if isinstance(token, str) else ""
