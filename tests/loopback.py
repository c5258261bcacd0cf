"""EBS direct APIs and S3 on a real socket of 127.0.0.1, with faults on demand.

Every request is signed again by botocore and compared, so a client that signs wrong gets nowhere.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, quote, unquote, urlsplit
from xml.sax.saxutils import escape

from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as BotoCredentials

from holdfast.aws.signing import Credentials
from holdfast.model.blocks import BLOCK_SIZE
from tests.snapshots import Blocks

MOMENT = datetime(2026, 11, 22, 7, tzinfo=UTC)
STAMP = "Sun, 22 Nov 2026 07:00:00 GMT"
Fault = Callable[["Handler"], bool]


@dataclass
class State:
    """What the services hold and how they misbehave; a fault that returns True has answered."""

    snapshots: dict[str, Blocks] = field(default_factory=dict)
    objects: dict[str, tuple[bytes, str]] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=lambda: {"AKIDEXAMPLE": "wJalrXUtnFEMI/K7MDENG"})
    expired: set[str] = field(default_factory=set)
    faults: list[tuple[str, Fault]] = field(default_factory=list)
    page_size: int = 10_000
    empty_pages: int = 0
    unrelated: bool = False
    log: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    tags: dict[str, dict[str, object]] = field(default_factory=dict)
    completed: dict[str, int] = field(default_factory=dict)

    def fail(self, times: int, fault: Fault, on: str = ".") -> None:
        """Let the next ``times`` requests whose ``METHOD path`` matches ``on`` meet ``fault``."""
        self.faults += [(on, fault)] * times


class Handler(BaseHTTPRequestHandler):
    """One connection of a client."""

    protocol_version = "HTTP/1.1"
    state: State

    def log_message(self, format: str, *args: object) -> None:
        """Tests read State.log instead."""

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        """Send a whole, well-formed answer."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if "Content_Length" not in headers:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def refuse(self, status: int, code: str, message: str = "", reason: str = "") -> None:
        """An error in the words of the service."""
        if self.service == "s3":
            text = (
                f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{escape(message)}</Message></Error>"
            )
            self.answer(status, text.encode(), Content_Type="application/xml")
        else:
            told = {"Message": message} | ({"Reason": reason} if reason else {})
            self.answer(status, json.dumps(told).encode(), x_amzn_ErrorType=code)

    def do_request(self) -> None:
        """Check the signature, meet a fault, or serve."""
        length = int(self.headers.get("Content-Length", 0))
        self.body = self.rfile.read(length)
        parts = urlsplit(self.path)
        self.url_path, self.query = unquote(parts.path), parse_qs(parts.query, keep_blank_values=True)
        with self.state.lock:
            self.state.log.append(f"{self.command} {self.url_path}")
            fault = next(
                (pair for pair in self.state.faults if re.search(pair[0], f"{self.command} {self.url_path}")),
                None,
            )
            if fault:
                self.state.faults.remove(fault)
        if fault and fault[1](self):
            return
        access_key, self.service = self._authenticated()
        if access_key in self.state.expired:
            self.refuse(403 if self.service == "ebs" else 400, "ExpiredToken", "The token has expired")
        elif not access_key:
            self.refuse(403, "SignatureDoesNotMatch", "The signature does not match")
        elif self.service == "s3":
            self._serve_s3()
        else:
            self._serve_ebs()

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = do_request  # noqa: N815 - named by http.server

    service = "ebs"

    def _authenticated(self) -> tuple[str, str]:
        """Access key and service, when botocore signs this request the same way."""
        found = re.fullmatch(
            r"AWS4-HMAC-SHA256 Credential=(\w+)/(\d{8})/([\w-]+)/(\w+)/aws4_request, "
            r"SignedHeaders=([\w;-]+), Signature=([0-9a-f]{64})",
            self.headers.get("Authorization", ""),
        )
        if not found:
            return "", "ebs"
        key, _, region, service, names, _ = found.groups()
        signed = {name: self.headers[name] for name in names.split(";")}
        token = signed.get("x-amz-security-token")
        request = AWSRequest(
            self.command, f"http://{self.headers['Host']}{self.path}", headers=signed, data=self.body
        )
        request.context["timestamp"] = self.headers["X-Amz-Date"]
        auth = (S3SigV4Auth if service == "s3" else SigV4Auth)(
            BotoCredentials(key, self.state.secrets.get(key, "unknown"), token), service, region
        )
        expected = auth.signature(auth.string_to_sign(request, auth.canonical_request(request)), request)
        sent_hash = self.headers.get("X-Amz-Content-SHA256", hashlib.sha256(self.body).hexdigest())
        body_true = sent_hash in ("UNSIGNED-PAYLOAD", hashlib.sha256(self.body).hexdigest())
        return (key if expected == found[6] and body_true else ""), service

    # EBS

    def _serve_ebs(self) -> None:
        path, state = self.url_path, self.state
        if path == "/snapshots":
            self._start()
            return
        if found := re.fullmatch(r"/snapshots/completion/(.+)", path):
            self._complete(found[1])
            return
        found = re.fullmatch(r"/snapshots/([^/]+)/(blocks|changedblocks)(?:/(\d+))?", path)
        if not found or found[1] not in state.snapshots:
            self.refuse(
                404, "ResourceNotFoundException", "The snapshot does not exist.", "SNAPSHOT_NOT_FOUND"
            )
        elif found[3] is None:
            self._list(found[1], found[2] == "changedblocks")
        elif self.command == "PUT":
            self._put_block(found[1], int(found[3]))
        else:
            self._get_block(found[1], int(found[3]))

    def _list(self, snapshot_id: str, changed: bool) -> None:
        now, base = self.state.snapshots[snapshot_id], None
        start = int(self.query["startingBlockIndex"][0])
        count = int(self.query["maxResults"][0])
        assert 100 <= count <= 10_000
        if changed:
            base = self.state.snapshots.get(self.query["firstSnapshotId"][0])
            if base is None:
                self.refuse(404, "ResourceNotFoundException", "No such snapshot.", "SNAPSHOT_NOT_FOUND")
                return
            if self.state.unrelated:
                self.refuse(400, "ValidationException", "They differ in lineage.", "UNRELATED_SNAPSHOTS")
                return
            indexes = [i for i in sorted(now.keys() | base.keys()) if now.get(i) != base.get(i)]
        else:
            indexes = sorted(now)
        empty = 0
        if "pageToken" in self.query:
            start, empty = json.loads(base64.b64decode(self.query["pageToken"][0]))
        rest = [index for index in indexes if index >= start]
        if empty < self.state.empty_pages:
            page, following = [], (start, empty + 1)
        else:
            page = rest[: min(count, self.state.page_size)]
            following = (page[-1] + 1, 0) if len(rest) > len(page) else None
        token = lambda index: base64.b64encode(f"{snapshot_id}+/{index}".encode()).decode()  # noqa: E731
        if changed:
            rows = [{"BlockIndex": i, **({"SecondBlockToken": token(i)} if i in now else {})} for i in page]
        else:
            rows = [{"BlockIndex": i, "BlockToken": token(i)} for i in page]
        told = {"ChangedBlocks" if changed else "Blocks": rows, "BlockSize": BLOCK_SIZE, "VolumeSize": 16}
        if following:
            told["NextToken"] = base64.b64encode(json.dumps(following).encode()).decode()
        self.answer(200, json.dumps(told).encode())

    def _get_block(self, snapshot_id: str, index: int) -> None:
        wanted = base64.b64encode(f"{snapshot_id}+/{index}".encode()).decode()
        if self.query["blockToken"][0] != wanted:
            self.refuse(400, "ValidationException", "The token is not of this block.", "INVALID_BLOCK_TOKEN")
            return
        content = self.state.snapshots[snapshot_id][index]
        self.answer(200, content, **checksum_headers(content))

    def _start(self) -> None:
        wanted = json.loads(self.body)
        token = wanted["ClientToken"]
        with self.state.lock:
            known = self.state.tags.get(token)
            if known and known["wanted"] != wanted:
                self.refuse(409, "ConflictException", "The token was used with other parameters.")
                return
            if not known:
                known = {"wanted": wanted, "id": f"snap-{len(self.state.tags) + 1:017x}"}
                self.state.tags[token] = known
                self.state.snapshots[str(known["id"])] = {}
        told = {"SnapshotId": known["id"], "Status": "pending", "BlockSize": BLOCK_SIZE, "VolumeSize": 1}
        self.answer(201, json.dumps(told).encode())

    def _put_block(self, snapshot_id: str, index: int) -> None:
        digest = base64.b64encode(hashlib.sha256(self.body).digest()).decode()
        if self.headers["x-amz-Checksum"] != digest or int(self.headers["x-amz-Data-Length"]) != BLOCK_SIZE:
            self.refuse(400, "ValidationException", "The checksum is wrong.", "INVALID_PARAMETER_VALUE")
            return
        self.state.snapshots[snapshot_id][index] = self.body
        self.answer(201, b"", **checksum_headers(self.body))

    def _complete(self, snapshot_id: str) -> None:
        blocks = self.state.snapshots[snapshot_id]
        digests = b"".join(hashlib.sha256(blocks[i]).digest() for i in sorted(blocks))
        aggregate = base64.b64encode(hashlib.sha256(digests).digest()).decode()
        count = int(self.headers["x-amz-ChangedBlocksCount"])
        if count != len(blocks) or (blocks and self.headers["x-amz-Checksum"] != aggregate):
            self.refuse(400, "ValidationException", "The aggregate is wrong.", "INVALID_PARAMETER_VALUE")
            return
        self.state.completed[snapshot_id] = count
        self.answer(202, b'{"Status":"pending"}')

    # S3

    def _serve_s3(self) -> None:
        if "list-type" in self.query:
            self._list_objects()
            return
        key, objects = self.url_path, self.state.objects
        if self.command == "PUT":
            self._put_object(key)
        elif self.command == "DELETE":
            objects.pop(key, None)
            self.answer(204)
        elif key not in objects:
            self.refuse(404, "NoSuchKey", "The specified key does not exist.")
        else:
            self._get_object(*objects[key])

    def _put_object(self, key: str) -> None:
        crc = base64.b64encode(binascii.crc32(self.body).to_bytes(4, "big")).decode()
        if self.headers["x-amz-checksum-crc32"] != crc:
            self.refuse(400, "BadDigest", "The CRC32 did not match.")
            return
        with self.state.lock:
            there = self.state.objects.get(key)
            if self.headers.get("If-None-Match") == "*" and there:
                self.refuse(412, "PreconditionFailed", "At least one of the pre-conditions did not hold.")
                return
            if "If-Match" in self.headers and (not there or self.headers["If-Match"] != there[1]):
                self.refuse(412 if there else 404, "PreconditionFailed" if there else "NoSuchKey")
                return
            storage_class = self.headers.get("x-amz-storage-class", "STANDARD")
            etag = f'"{hashlib.md5(self.body).hexdigest()}"'  # noqa: S324 - as S3 makes ETags
            self.state.objects[key] = (self.body, etag)
            self.state.tags[key] = {"class": storage_class}
        self.answer(200, ETag=etag)

    def _get_object(self, body: bytes, etag: str) -> None:
        crc = base64.b64encode(binascii.crc32(body).to_bytes(4, "big")).decode()
        headers = {"ETag": etag, "Last_Modified": STAMP, "x_amz_checksum_crc32": crc}
        storage_class = str(self.state.tags[self.url_path]["class"])
        if storage_class != "STANDARD":
            headers["x_amz_storage_class"] = storage_class
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if self.command == "HEAD":
            self.answer(200, b"", Content_Length=str(len(body)), **headers)
        elif not wanted:
            self.answer(200, body, **headers)
        elif int(wanted[1]) >= len(body):
            self.refuse(416, "InvalidRange", "The requested range is not satisfiable")
        else:
            piece = body[int(wanted[1]) : int(wanted[2]) + 1]
            span = f"bytes {wanted[1]}-{int(wanted[1]) + len(piece) - 1}/{len(body)}"
            self.answer(206, piece, Content_Range=span, **headers)

    def _list_objects(self) -> None:
        prefix = self.url_path + self.query["prefix"][0]
        after = self.query.get("continuation-token", [""])[0]
        names = [name for name in sorted(self.state.objects) if name.startswith(prefix) and name > after]
        page = names[: self.state.page_size]
        rows = "".join(
            f"<Contents><Key>{escape(quote(name.removeprefix(self.url_path)))}</Key>"
            f"<LastModified>2026-11-22T07:00:00.000Z</LastModified>"
            f"<ETag>{escape(self.state.objects[name][1]).replace(chr(34), '&quot;')}</ETag>"
            f"<Size>{len(self.state.objects[name][0])}</Size>"
            f"<StorageClass>{self.state.tags[name]['class']}</StorageClass></Contents>"
            for name in page
        )
        more = len(names) > len(page)
        rest = f"<NextContinuationToken>{escape(page[-1])}</NextContinuationToken>" if more else ""
        body = (
            f'<?xml version="1.0"?><ListBucketResult><IsTruncated>{str(more).lower()}</IsTruncated>'
            f"{rows}{rest}</ListBucketResult>"
        )
        self.answer(200, body.encode(), Content_Type="application/xml")


def checksum_headers(content: bytes) -> dict[str, str]:
    """Headers with which EBS describes a block."""
    digest = base64.b64encode(hashlib.sha256(content).digest()).decode()
    return {
        "x_amz_Data_Length": str(len(content)),
        "x_amz_Checksum": digest,
        "x_amz_Checksum_Algorithm": "SHA256",
    }


# Faults


def refusal(status: int, code: str, reason: str = "") -> Fault:
    """The service says no."""

    def fault(handler: Handler) -> bool:
        handler.service = "s3" if "/s3/" in handler.headers.get("Authorization", "") else "ebs"
        handler.refuse(status, code, "It was refused.", reason)
        return True

    return fault


def raw(content: bytes, *, close: bool = True) -> Fault:
    """The peer sends these bytes instead of an answer."""

    def fault(handler: Handler) -> bool:
        handler.wfile.write(content)
        handler.close_connection = close
        return True

    return fault


def reset(after: bytes = b"") -> Fault:
    """The connection is reset after some bytes."""

    def fault(handler: Handler) -> bool:
        handler.wfile.write(after)
        handler.wfile.flush()
        handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        handler.close_connection = True
        handler.connection.close()
        return True

    return fault


def lost_answer(handler: Handler) -> bool:
    """The request is served, but nobody hears the answer."""
    handler.answer = lambda *args, **kwargs: None  # type: ignore[method-assign]
    handler.close_connection = True
    return False


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away is what some tests are about."""


@contextmanager
def serving(state: State, tls: ssl.SSLContext | None = None) -> Iterator[str]:
    """The services at the address that is given."""
    handler = type("BoundHandler", (Handler,), {"state": state})
    server = _Server(("127.0.0.1", 0), handler)
    if tls:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"{'https' if tls else 'http'}://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class StaticCredentials:
    """A `CredentialSource` that hands out the next pair when told that the present one is stale."""

    def __init__(self, *pairs: Credentials) -> None:
        self.pairs = list(pairs) or [Credentials("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG", "token")]
        self.renewed = 0

    def current(self) -> Credentials:
        return self.pairs[0]

    def renew(self, stale: Credentials) -> None:
        if stale is self.pairs[0] and len(self.pairs) > 1:
            self.pairs.pop(0)
        self.renewed += 1
