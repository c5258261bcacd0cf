"""The other end of the benchmark: EBS direct APIs and S3 over TLS, from memory, in a process of its own.

It checks nothing and computes nothing that it can prepare, so that it is never what is measured.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import ipaddress
import json
import os
import re
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from benchmarks.content import blocks
from holdfast.model.blocks import BLOCK_SIZE

SNAPSHOT = "snap-00000000000000001"
_BLOCK = re.compile(rb"(GET|PUT) /snapshots/[^/]+/blocks/(\d+)\b")
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_RANGE = re.compile(rb"\r\nrange: *bytes=(\d+)-(\d+)", re.IGNORECASE)


_TLS = """\
openssl_conf = main
[main]
ssl_conf = ssl
[ssl]
system_default = defaults
[defaults]
Ciphersuites = TLS_AES_128_GCM_SHA256
"""
"""AWS endpoints choose AES-128 when they can; OpenSSL alone would choose AES-256."""


class Service(NamedTuple):
    """Where the server listens, and the certificate to trust."""

    url: str
    certificate: Path


def _certificate(folder: Path) -> Path:
    """A self-signed certificate for 127.0.0.1 with its key."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import rsa
    from cryptography.x509.oid import NameOID

    key = rsa.generate_private_key(65_537, 2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "benchmark")])
    now = datetime.now(UTC)
    names = [x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.DNSName("localhost")]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=2))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = folder / "benchmark.pem"
    pem = serialization.Encoding.PEM
    path.write_bytes(
        certificate.public_bytes(pem)
        + key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return path


def _block_answer(content: bytes) -> bytes:
    digest = base64.b64encode(hashlib.sha256(content).digest()).decode()
    head = (
        "HTTP/1.1 200 OK\r\nx-amzn-RequestId: 6b1c8f1e-2f4b-4c39-a53e-9d7f1f1c1c1c\r\n"
        "Date: Sun, 22 Nov 2026 07:00:00 GMT\r\nContent-Type: application/octet-stream\r\n"
        f"x-amz-Data-Length: {BLOCK_SIZE}\r\nx-amz-Checksum: {digest}\r\n"
        f"x-amz-Checksum-Algorithm: SHA256\r\nContent-Length: {BLOCK_SIZE}\r\n\r\n"
    )
    return head.encode() + content


class _Stock:
    """Prepared answers, and the objects that were put. Block ``i`` has content ``i`` modulo their number."""

    def __init__(self, count: int, size: int) -> None:
        contents = blocks(count)
        self.answers = [_block_answer(content) for content in contents]
        digests = [base64.b64encode(hashlib.sha256(content).digest()).decode() for content in contents]
        self.stored = [
            f"HTTP/1.1 201 Created\r\nx-amz-Checksum: {digest}\r\nx-amz-Checksum-Algorithm: SHA256\r\n"
            "Content-Length: 0\r\n\r\n".encode()
            for digest in digests
        ]
        self.size = size
        self.objects: dict[bytes, bytes] = {}

    def listing(self, target: bytes) -> bytes:
        start = int(re.search(rb"startingBlockIndex=(\d+)", target)[1])  # type: ignore[index]
        token = re.search(rb"pageToken=(\w+)", target)
        first = int(token[1]) if token else start
        last = min(first + 10_000, self.size)
        rows = [{"BlockIndex": i, "BlockToken": f"AAABAX{i:058x}"} for i in range(first, last)]
        told = {"Blocks": rows, "BlockSize": BLOCK_SIZE, "ExpiryTime": 1.8e9, "VolumeSize": 16}
        if last < self.size:
            told["NextToken"] = f"{last:012}"
        body = json.dumps(told, separators=(",", ":")).encode()
        return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


def _unframed(body: bytes) -> bytes:
    """The content of a body that boto3 framed once more to append a checksum."""
    pieces, start = [], 0
    while length := int(body[start : (end := body.index(b"\r\n", start))].split(b";")[0], 16):
        pieces.append(body[end + 2 : end + 2 + length])
        start = end + 2 + length + 2
    return b"".join(pieces)


class _Peer:
    """One connection."""

    def __init__(self, connection: ssl.SSLSocket, stock: _Stock) -> None:
        self.connection = connection
        self.stock = stock
        self.pending = b""

    def serve(self) -> None:
        while head := self._head():
            line = head.split(b"\r\n", 1)[0]
            matched = _BLOCK.match(line)
            if matched:
                number = int(matched[2]) % len(self.stock.answers)
                if matched[1] == b"GET":
                    self.connection.sendall(self.stock.answers[number])
                    continue
                self._body(head)
                self.connection.sendall(self.stock.stored[number])
                continue
            self._serve_other(line, head)

    def _serve_other(self, line: bytes, head: bytes) -> None:
        method, target, _ = line.split(b" ")
        if b"/blocks?" in target:
            self.connection.sendall(self.stock.listing(target))
        elif method == b"PUT":
            self.stock.objects[target.split(b"?")[0]] = self._body(head)
            self.connection.sendall(b'HTTP/1.1 200 OK\r\nETag: "e"\r\nContent-Length: 0\r\n\r\n')
        elif target.split(b"?")[0] in self.stock.objects:
            self._get(self.stock.objects[target.split(b"?")[0]], head)
        else:
            body = b"<Error><Code>NoSuchKey</Code></Error>"
            self.connection.sendall(b"HTTP/1.1 404 No\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))

    def _get(self, content: bytes, head: bytes) -> None:
        status, wanted = b"200 OK", _RANGE.search(head)
        if wanted:
            status, content = b"206 Partial", content[int(wanted[1]) : int(wanted[2]) + 1]
        self.connection.sendall(
            b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n%b" % (status, len(content), content)
        )

    def _head(self) -> bytes:
        while (end := self.pending.find(b"\r\n\r\n")) < 0:
            piece = self.connection.recv(65_536)
            if not piece:
                return b""
            self.pending += piece
        head, self.pending = self.pending[: end + 2], self.pending[end + 4 :]
        return head

    def _body(self, head: bytes) -> bytes:
        lower = head.lower()
        if b"\r\nexpect: 100-continue" in lower:
            self.connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        if b"\r\ntransfer-encoding: chunked" in lower:
            body = self._chunks()
            return _unframed(body) if b"\r\ncontent-encoding: aws-chunked" in lower else body
        return self._exactly(int(_LENGTH.search(head)[1]))  # type: ignore[index]

    def _exactly(self, length: int) -> bytes:
        body = bytearray(length)
        filled = min(length, len(self.pending))
        body[:filled], self.pending = self.pending[:filled], self.pending[filled:]
        view = memoryview(body)
        while filled < length:
            count = self.connection.recv_into(view[filled:])
            if not count:
                raise ConnectionError
            filled += count
        return bytes(body)

    def _line(self) -> bytes:
        while (end := self.pending.find(b"\r\n")) < 0:
            piece = self.connection.recv(65_536)
            if not piece:
                raise ConnectionError
            self.pending += piece
        line, self.pending = self.pending[:end], self.pending[end + 2 :]
        return line

    def _chunks(self) -> bytes:
        pieces = []
        while length := int(self._line().split(b";")[0], 16):
            pieces.append(self._exactly(length))
            self._line()
        while self._line():
            pass
        return b"".join(pieces)


def main() -> None:
    """Serve until standard input is closed; print the address and the certificate."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--contents", type=int, required=True)
    parser.add_argument("--size", type=int, required=True)
    parser.add_argument("--cpu", type=int, required=True)
    options = parser.parse_args()
    if options.cpu in os.sched_getaffinity(0):
        os.sched_setaffinity(0, {options.cpu})
    stock = _Stock(options.contents, options.size)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate = _certificate(options.folder)
    context.load_cert_chain(certificate)
    listener = socket.create_server(("127.0.0.1", 0), backlog=128)

    def converse(plain: socket.socket) -> None:
        try:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with context.wrap_socket(plain, server_side=True) as connection:
                _Peer(connection, stock).serve()
        except OSError:
            return

    def accept() -> None:
        while True:
            threading.Thread(target=converse, args=(listener.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    print(json.dumps([f"https://127.0.0.1:{listener.getsockname()[1]}", str(certificate)]), flush=True)
    sys.stdin.read()


@contextmanager
def serving(folder: Path, contents: int, size: int, cpu: int) -> Iterator[Service]:
    """A server process with a snapshot of ``size`` blocks of ``contents`` different contents, on ``cpu``."""
    settings = folder / "openssl.cnf"
    settings.write_text(_TLS)
    arguments = ["--folder", folder, "--contents", contents, "--size", size, "--cpu", cpu]
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks.server", *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OPENSSL_CONF": str(settings)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        assert server.stdout is not None
        assert server.stdin is not None
        line = server.stdout.readline()
        if not line:
            raise SystemExit("The server of the benchmark did not start.")
        url, certificate = json.loads(line)
        try:
            yield Service(url, Path(certificate))
        finally:
            server.stdin.close()
            server.wait(10)


if __name__ == "__main__":
    main()
