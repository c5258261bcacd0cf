"""The EBS direct APIs, as HTTP: the same code answers boto3 in this process and clients on loopback.

It is strict where EBS is strict (tokens, checksums, relations between snapshots, keys): what passes here by
leniency would fail in AWS.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import itertools
import json
import re
import threading
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import parse_qs

from moto.ec2.models import ec2_backends
from moto.ec2.models.elastic_block_store import Snapshot
from moto.ec2.utils import random_snapshot_id

from simulator import kms
from simulator.blocks import BLOCK, BlockMap
from simulator.calls import Answer
from simulator.ebs import GIB_BLOCKS, ElasticBlockStore, Frozen, find_readable, frozen, new_volume

_BLOCK_PATH = re.compile(r"^/snapshots/([^/]+)/blocks/(\d+)$")
_TOKEN_KEY = b"holdfast simulated EBS tokens"
_STATUS = {"ResourceNotFoundException": 404, "AccessDeniedException": 403, "ConflictException": 409}
_MAX_PENDING = 100

Headers = Mapping[str, str]


class EbsRefusal(Exception):
    """An error of the service, with its code and reason."""

    def __init__(self, code: str, reason: str, message: str) -> None:
        super().__init__(message)
        self.code, self.reason, self.message = code, reason, message


class EbsDirect:
    """Answers requests to EBS direct APIs from the disks of ``store``."""

    def __init__(self, store: ElasticBlockStore) -> None:
        self._store = store
        self._lists = itertools.count(1)
        self._starting = threading.Lock()

    def answer(
        self, account: str, region: str, method: str, path: str, query: str, headers: Headers, body: bytes
    ) -> Answer:
        """The answer to one request; ``headers`` have lower-case names. Errors are answers too."""
        try:
            if found := _BLOCK_PATH.match(path):
                snapshot_id, index = found.group(1), int(found.group(2))
                if method == "GET":
                    token = parse_qs(query).get("blockToken", [""])[0]
                    return self._get_block(account, region, snapshot_id, index, token)
                return self._put_block(account, region, snapshot_id, index, headers, body)
            return self._answer_rest(account, region, method, path, parse_qs(query), headers, body)
        except kms.KeyRefused as refused:
            reason = "DEPENDENCY_ACCESS_DENIED"
            return _refusal(EbsRefusal("AccessDeniedException", reason, str(refused.message)))
        except EbsRefusal as refused:
            return _refusal(refused)

    def _answer_rest(
        self,
        account: str,
        region: str,
        method: str,
        path: str,
        query: dict[str, list[str]],
        headers: Headers,
        body: bytes,
    ) -> Answer:
        parts = path.strip("/").split("/")
        match (method, parts):
            case ("POST", ["snapshots"]):
                return self._start(account, region, json.loads(body))
            case ("POST", ["snapshots", "completion", snapshot_id]):
                return self._complete(account, region, snapshot_id, headers)
            case ("GET", ["snapshots", snapshot_id, "blocks"]):
                return self._list_blocks(account, region, snapshot_id, query)
            case ("GET", ["snapshots", snapshot_id, "changedblocks"]):
                return self._list_changed(account, region, snapshot_id, query)
        raise EbsRefusal("ResourceNotFoundException", "SNAPSHOT_NOT_FOUND", f"there is no {method} {path}")

    def _get_block(self, account: str, region: str, snapshot_id: str, index: int, token: str) -> Answer:
        content = self._readable(account, region, snapshot_id)
        if not self._is_block_token(token, snapshot_id, index):
            raise _invalid("INVALID_BLOCK_TOKEN", f"The block token of block {index} is invalid or expired")
        ref = content.blocks[index]
        if not ref:
            raise _invalid("INVALID_BLOCK", f"Block {index} is not allocated")
        block, digest = self._store.files.read_with_digest(ref)
        headers = {
            "x-amz-Data-Length": str(BLOCK),
            "x-amz-Checksum": base64.b64encode(digest).decode(),
            "x-amz-Checksum-Algorithm": "SHA256",
            "Content-Type": "application/octet-stream",
        }
        return 200, headers, block

    def _list_blocks(
        self, account: str, region: str, snapshot_id: str, query: dict[str, list[str]]
    ) -> Answer:
        content = self._readable(account, region, snapshot_id)
        page = self._page(f"blocks/{snapshot_id}", query)
        indexes, following = page.cut(content.blocks.allocated(page.start))
        expires = self._token_expiry()
        blocks = [{"BlockIndex": i, "BlockToken": _block_token(snapshot_id, i, expires)} for i in indexes]
        return _json(200, {"Blocks": blocks} | self._listing(content, expires, page, following))

    def _list_changed(self, account: str, region: str, second_id: str, query: dict[str, list[str]]) -> Answer:
        first_id = query.get("firstSnapshotId", [""])[0]
        second = self._readable(account, region, second_id)
        page = self._page(f"changed/{first_id}/{second_id}", query)
        expires = self._token_expiry()
        if not first_id:
            indexes, following = page.cut(second.blocks.allocated(page.start))
            changed = [
                {"BlockIndex": i, "SecondBlockToken": _block_token(second_id, i, expires)} for i in indexes
            ]
            return _json(200, {"ChangedBlocks": changed} | self._listing(second, expires, page, following))
        first = self._readable(account, region, first_id)
        if first.lineage != second.lineage:
            raise _invalid("UNRELATED_SNAPSHOTS", f"{first_id} and {second_id} are not of the same volume")
        indexes, following = page.cut(second.blocks.changed(first.blocks, page.start))
        changed = []
        for index in indexes:
            entry: dict[str, Any] = {"BlockIndex": index}
            if first.blocks[index]:
                entry["FirstBlockToken"] = _block_token(first_id, index, expires)
            if second.blocks[index]:
                entry["SecondBlockToken"] = _block_token(second_id, index, expires)
            changed.append(entry)
        return _json(200, {"ChangedBlocks": changed} | self._listing(second, expires, page, following))

    def _listing(
        self, content: Frozen, expires: datetime, page: _Page, following: int | None
    ) -> dict[str, Any]:
        listing: dict[str, Any] = {
            "ExpiryTime": expires.timestamp(),
            "VolumeSize": content.size_gib,
            "BlockSize": BLOCK,
        }
        if following is not None:
            expires = self._store.clock.now() + timedelta(seconds=self._store.settings.page_seconds)
            listing["NextToken"] = _seal(f"{page.name}|{following}", expires)
        return listing

    def _page(self, name: str, query: dict[str, list[str]]) -> _Page:
        limit = int(query.get("maxResults", ["10000"])[0])
        if not 100 <= limit <= 10_000:
            raise _invalid("INVALID_PARAMETER_VALUE", f"MaxResults {limit} is not between 100 and 10000")
        start = int(query.get("startingBlockIndex", ["0"])[0])
        if token := query.get("pageToken", [""])[0]:
            opened = _unseal(token, self._store.clock.now())
            if opened is None or opened.rpartition("|")[0] != name:
                raise _invalid("INVALID_PAGE_TOKEN", "The page token is invalid or expired")
            start = int(opened.rpartition("|")[2])
        every = self._store.settings.empty_page_every
        return _Page(name, start, 0 if every and next(self._lists) % every == 0 else limit)

    def _start(self, account: str, region: str, request: dict[str, Any]) -> Answer:
        backend = ec2_backends[account][region]
        tokens: dict[str, tuple[str, str]] = backend.__dict__.setdefault("start_snapshot_tokens", {})
        token = request.pop("ClientToken", "")
        asked = json.dumps(request, sort_keys=True)
        with self._starting:
            if token in tokens:
                before, snapshot_id = tokens[token]
                if before != asked or snapshot_id not in backend.snapshots:
                    message = "The client token was used with other parameters"
                    raise EbsRefusal("ConflictException", "", message)
                return _json(201, self._description(backend.snapshots[snapshot_id]))
            snapshot = self._new_snapshot(account, region, request)
            if token:
                tokens[token] = (asked, snapshot.id)
        return _json(201, self._description(snapshot))

    def _new_snapshot(self, account: str, region: str, request: dict[str, Any]) -> Snapshot:
        backend, now = ec2_backends[account][region], self._store.clock.now()
        size, parent_id = int(request.get("VolumeSize", 0)), request.get("ParentSnapshotId", "")
        timeout = int(request.get("Timeout", 60))
        if not 1 <= size <= 65_536:
            raise _invalid("INVALID_VOLUME_SIZE", "VolumeSize must be between 1 and 65536 GiB")
        if not 10 <= timeout <= 4_320:
            raise _invalid("INVALID_PARAMETER_VALUE", "Timeout must be between 10 and 4320 minutes")
        if any(tag.get("Key", "").lower().startswith("aws:") for tag in request.get("Tags", [])):
            raise _invalid("INVALID_TAG", "Tag keys may not start with aws:")
        parent = self._parent(account, region, parent_id, request, size) if parent_id else None
        key_arn = self._key(account, region, request, parent)
        if sum(not held.sealed for held in self._unsealed(backend)) >= _MAX_PENDING:
            raise EbsRefusal("ConcurrentLimitExceededException", "", f"{_MAX_PENDING} snapshots are pending")
        volume = new_volume(backend, size)
        snapshot = Snapshot(
            backend,
            random_snapshot_id(),
            volume,
            request.get("Description", ""),
            encrypted=bool(key_arn),
            kms_key_id=key_arn,
        )
        base = frozen(parent) if parent else None
        snapshot.__dict__["frozen"] = Frozen(
            blocks=base.blocks.share() if base else BlockMap(),
            lineage=base.lineage if base else snapshot.id,
            size_gib=size,
            starts_at=now,
            completes_at=now,
            sealed=False,
            parent_id=parent_id,
            expires_at=now + timedelta(minutes=timeout),
        )
        backend.snapshots[snapshot.id] = snapshot
        snapshot.add_tags({tag["Key"]: tag["Value"] for tag in request.get("Tags", [])})
        return snapshot

    def _parent(
        self, account: str, region: str, parent_id: str, request: dict[str, Any], size: int
    ) -> Snapshot:
        if "Encrypted" in request:
            raise _invalid("INVALID_PARAMETER_VALUE", "Encrypted cannot be given with ParentSnapshotId")
        parent = find_readable(account, region, parent_id)
        if parent is None:
            raise _not_found(parent_id)
        if parent.status != "completed":
            raise _invalid("INVALID_SNAPSHOT_ID", f"The parent {parent_id} is {parent.status}")
        if size < parent.volume_size:
            raise _invalid(
                "INVALID_VOLUME_SIZE", f"{size} GiB is less than the parent's {parent.volume_size} GiB"
            )
        return parent

    def _key(self, account: str, region: str, request: dict[str, Any], parent: Snapshot | None) -> str | None:
        backend, named = ec2_backends[account][region], request.get("KmsKeyArn")
        if parent is not None:
            named = named or parent.kms_key_id
        elif named and not request.get("Encrypted"):
            raise _invalid("INVALID_PARAMETER_VALUE", "KmsKeyArn needs Encrypted")
        elif not (request.get("Encrypted") or backend.ebs_encryption_by_default):
            return None
        elif not named:
            named = backend.default_kms_key_id or backend._create_default_encryption_key()
        if not named:
            return None
        try:
            return str(kms.require_usable(named, account, region).arn)
        except kms.KeyRefused as refused:
            raise _invalid("INVALID_CUSTOMER_KEY", str(refused.message)) from refused

    def _put_block(
        self, account: str, region: str, snapshot_id: str, index: int, headers: Headers, body: bytes
    ) -> Answer:
        content = self._writable(account, region, snapshot_id)
        if index >= content.size_gib * GIB_BLOCKS:
            raise _invalid("INVALID_BLOCK", f"Block {index} is outside of {content.size_gib} GiB")
        if headers.get("x-amz-data-length") != str(BLOCK) or len(body) != BLOCK:
            raise _invalid("INVALID_PARAMETER_VALUE", f"DataLength must be {BLOCK}")
        if headers.get("x-amz-checksum-algorithm") != "SHA256":
            raise _invalid("INVALID_PARAMETER_VALUE", "ChecksumAlgorithm must be SHA256")
        digest = hashlib.sha256(body).digest()
        checksum = base64.b64encode(digest).decode()
        if headers.get("x-amz-checksum") != checksum:
            raise _invalid(
                "INVALID_PARAMETER_VALUE", f"The checksum of block {index} does not match its data"
            )
        self._store.put_block(content, index, body, digest)
        return 201, {"x-amz-Checksum": checksum, "x-amz-Checksum-Algorithm": "SHA256"}, b""

    def _complete(self, account: str, region: str, snapshot_id: str, headers: Headers) -> Answer:
        snapshot = ec2_backends[account][region].snapshots.get(snapshot_id)
        if snapshot is None:
            raise _not_found(snapshot_id)
        content, now = frozen(snapshot), self._store.clock.now()
        if not content.sealed:
            self._writable(account, region, snapshot_id)
            count = int(headers.get("x-amz-changedblockscount", "-1"))
            if count != len(content.written):
                message = f"ChangedBlocksCount is {count}, {len(content.written)} blocks were put"
                raise _invalid("INVALID_PARAMETER_VALUE", message)
            _check_aggregate(content, headers)
            content.sealed = True
            content.completes_at = now + timedelta(seconds=self._store.settings.snapshot_seconds)
            content.written = {}
        return _json(202, {"Status": content.state(now)})

    def _readable(self, account: str, region: str, snapshot_id: str) -> Frozen:
        snapshot = find_readable(account, region, snapshot_id)
        if snapshot is None:
            raise _not_found(snapshot_id)
        if snapshot.status != "completed":
            raise _invalid("INVALID_SNAPSHOT_ID", f"The snapshot {snapshot_id} is {snapshot.status}")
        if snapshot.storage_tier == "archive":
            raise _invalid("INVALID_SNAPSHOT_ID", f"The snapshot {snapshot_id} is archived")
        if snapshot.kms_key_id:
            kms.require_usable(snapshot.kms_key_id, account, region)
        return frozen(snapshot)

    def _writable(self, account: str, region: str, snapshot_id: str) -> Frozen:
        snapshot = ec2_backends[account][region].snapshots.get(snapshot_id)
        if snapshot is None:
            raise _not_found(snapshot_id)
        content = frozen(snapshot)
        if content.sealed or snapshot.status != "pending":
            raise _invalid("INVALID_SNAPSHOT_ID", f"The snapshot {snapshot_id} is not being written")
        if snapshot.kms_key_id:
            kms.require_usable(snapshot.kms_key_id, account, region)
        return content

    def _unsealed(self, backend: Any) -> Iterator[Frozen]:
        for snapshot in list(backend.snapshots.values()):
            content = frozen(snapshot)
            if not content.sealed and snapshot.status == "pending":
                yield content

    def _description(self, snapshot: Snapshot) -> dict[str, Any]:
        content = frozen(snapshot)
        description = {
            "SnapshotId": snapshot.id,
            "OwnerId": snapshot.owner_id,
            "Status": snapshot.status,
            "StartTime": content.starts_at.timestamp(),
            "VolumeSize": content.size_gib,
            "BlockSize": BLOCK,
            "Description": snapshot.description,
            "Tags": [{"Key": tag["key"], "Value": tag["value"]} for tag in snapshot.get_tags()],
        }
        if content.parent_id:
            description["ParentSnapshotId"] = content.parent_id
        if snapshot.kms_key_id:
            description |= {"KmsKeyArn": snapshot.kms_key_id, "SseType": "sse-kms"}
        return description

    def _token_expiry(self) -> datetime:
        return self._store.clock.now() + timedelta(seconds=self._store.settings.token_seconds)

    def _is_block_token(self, token: str, snapshot_id: str, index: int) -> bool:
        try:
            raw = base64.urlsafe_b64decode(token)
        except ValueError:
            return False
        expires = int.from_bytes(raw[:6], "big")
        expected = _block_mac(snapshot_id, index, expires)
        return hmac.compare_digest(raw[6:], expected) and expires > self._store.clock.now().timestamp()


class _Page:
    """One page of a listing; an empty one (limit 0) only carries a token."""

    def __init__(self, name: str, start: int, limit: int) -> None:
        self.name, self.start, self._limit = name, start, limit

    def cut(self, indexes: Iterator[int]) -> tuple[list[int], int | None]:
        """The indexes of this page and where the next one starts."""
        taken = list(itertools.islice(indexes, self._limit))
        return taken, next(indexes, None)


def _check_aggregate(content: Frozen, headers: Headers) -> None:
    given = headers.get("x-amz-checksum")
    if not given:
        return
    if headers.get("x-amz-checksum-aggregation-method") != "LINEAR":
        raise _invalid("INVALID_PARAMETER_VALUE", "ChecksumAggregationMethod must be LINEAR")
    linear = hashlib.sha256(b"".join(content.written[index] for index in sorted(content.written))).digest()
    if given != base64.b64encode(linear).decode():
        raise _invalid("INVALID_PARAMETER_VALUE", "The aggregate checksum does not match the blocks")


def _block_mac(snapshot_id: str, index: int, expires: int) -> bytes:
    return hmac.digest(_TOKEN_KEY, f"{snapshot_id}/{index}/{expires}".encode(), "sha256")[:18]


def _block_token(snapshot_id: str, index: int, expires: datetime) -> str:
    seconds = int(expires.timestamp())
    return base64.urlsafe_b64encode(
        seconds.to_bytes(6, "big") + _block_mac(snapshot_id, index, seconds)
    ).decode()


def _seal(text: str, expires: datetime) -> str:
    sealed = f"{text}|{int(expires.timestamp())}".encode()
    return base64.urlsafe_b64encode(hmac.digest(_TOKEN_KEY, sealed, "sha256")[:18] + sealed).decode()


def _unseal(token: str, now: datetime) -> str | None:
    try:
        raw = base64.urlsafe_b64decode(token)
        text, _, expires = raw[18:].decode().rpartition("|")
    except ValueError:
        return None
    genuine = hmac.compare_digest(hmac.digest(_TOKEN_KEY, raw[18:], "sha256")[:18], raw[:18])
    return text if genuine and int(expires) > now.timestamp() else None


def _invalid(reason: str, message: str) -> EbsRefusal:
    return EbsRefusal("ValidationException", reason, message)


def _not_found(snapshot_id: str) -> EbsRefusal:
    message = f"The snapshot '{snapshot_id}' does not exist."
    return EbsRefusal("ResourceNotFoundException", "SNAPSHOT_NOT_FOUND", message)


def _json(status: int, content: Mapping[str, Any]) -> Answer:
    return status, {"Content-Type": "application/json"}, json.dumps(content).encode()


def _refusal(refusal: EbsRefusal) -> Answer:
    body = {"Message": refusal.message} | ({"Reason": refusal.reason} if refusal.reason else {})
    headers = {"Content-Type": "application/json", "x-amzn-ErrorType": refusal.code}
    return _STATUS.get(refusal.code, 400), headers, json.dumps(body).encode()
