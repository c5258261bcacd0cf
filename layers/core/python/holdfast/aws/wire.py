"""One HTTP/1.1 connection, read straight into the caller's buffer.

Whatever comes back is hostile until parsed: sizes are bounded before anything is allocated, and any deviation
raises BadResponse, after which the connection must not be used again (its stream position is unknown).
"""

from __future__ import annotations

import re
import socket
import ssl
import time
from collections.abc import Callable
from functools import partial
from typing import Final, NamedTuple, cast
from urllib.parse import urlsplit

Content = bytes | bytearray | memoryview

ERROR_BODY_LIMIT: Final = 65_536
_HEAD_LIMIT: Final = 32_768
_FIRST_READ: Final = 2_048
_HEADER_COUNT: Final = 100
_SEND_SLICE: Final = 1 << 20
_RECORD: Final = 16_384
"""The most that one record of TLS holds, in bytes."""
_STATUS_LINE: Final = re.compile(r"HTTP/1\.([01]) ([1-5]\d\d)(?: [^\r\n]*)?\r\n")
_HEADER: Final = re.compile(r"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):([^\r\n\0]*)\r\n")
# The same without groups and ways back. It is asked first: looking for headers in other text takes long.
_HEADERS: Final = re.compile(r"(?:[!#$%&'*+\-.^_`|~0-9A-Za-z]++:[^\r\n\0]*+\r\n)*+")
_CHUNK_SIZE: Final = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(?:;[^\r\n]*)?")
_BODILESS: Final = frozenset({204, 205, 304})


class BadResponse(Exception):
    """The peer did not speak HTTP as agreed."""


class Timeouts(NamedTuple):
    """Seconds: to connect, between two bytes, and for an operation with all its retries."""

    connect: float = 12.0
    read: float = 20.0
    operation: float = 120.0


class Endpoint(NamedTuple):
    """Where a service listens. ``authority`` is the Host header."""

    secure: bool
    host: str
    port: int

    @property
    def authority(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.secure else 80) else f"{host}:{self.port}"


class Response(NamedTuple):
    """An answer. ``body`` is empty when it was read into the caller's buffer."""

    status: int
    headers: dict[str, str]
    body: bytes


def parse_endpoint(url: str) -> Endpoint:
    """The endpoint of ``http(s)://host[:port]``. Raises ValueError."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{url!r} is not an http or https address.")
    secure = parts.scheme == "https"
    return Endpoint(secure, parts.hostname, parts.port or (443 if secure else 80))


class Connection:
    """A connection that one thread uses at a time; opened by the constructor.

    ``used`` counts completed exchanges, so that a caller can tell a stale keep-alive from a failing server.
    Raises OSError when the peer cannot be reached.
    """

    __slots__ = ("_head", "_receive_into", "_socket", "_timeout", "is_open", "used")

    def __init__(self, endpoint: Endpoint, tls: ssl.SSLContext | None, connect_timeout: float) -> None:
        plain = socket.create_connection((endpoint.host, endpoint.port), connect_timeout)
        try:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            self._socket = tls.wrap_socket(plain, server_hostname=endpoint.host) if tls else plain
        except BaseException:
            plain.close()
            raise
        self._receive_into = _receiver(self._socket)
        self._head = memoryview(bytearray(_HEAD_LIMIT))
        self._timeout = connect_timeout
        self.is_open = True
        self.used = 0

    def close(self) -> None:
        """Close without ceremony; calling it twice is harmless."""
        self.is_open = False
        self._socket.close()

    def exchange(
        self,
        head: bytes,
        body: Content,
        into: memoryview | None,
        limit: int,
        read_timeout: float,
        until: float,
    ) -> Response:
        """Send one request and read its answer.

        With ``into``, a 2xx body must have exactly its length and is written there; any other 2xx body may
        have at most ``limit`` bytes. ``until`` (time.monotonic) ends the exchange. Raises OSError,
        BadResponse; the connection is closed then.
        """
        try:
            timeout = max(0.001, min(read_timeout, until - time.monotonic()))
            if timeout != self._timeout:  # a system call
                self._socket.settimeout(timeout)
                self._timeout = timeout
            self._send(head, body)
            response = self._receive(head.startswith(b"HEAD "), into, limit, until)
        except BaseException:
            self.close()
            raise
        self.used += 1
        return response

    def _send(self, head: bytes, body: Content) -> None:
        if len(body) < _FIRST_READ:
            message = head + body
            sent = self._socket.send(message)
            if sent < len(message):
                self._socket.sendall(message[sent:])
            return
        self._socket.sendall(head)
        view = memoryview(body)
        try:
            for start in range(0, len(view), _SEND_SLICE):
                self._socket.sendall(view[start : start + _SEND_SLICE])
        except (BrokenPipeError, ConnectionResetError):
            # A server that refuses a large body answers and closes before it has read everything.
            self.is_open = False

    def _receive(self, bodiless: bool, into: memoryview | None, limit: int, until: float) -> Response:
        while True:
            status, headers, rest = self._read_head(until)
            if status >= 200:
                break
            if len(rest):
                raise BadResponse("data after an interim response")
        keep = headers.pop(":version") == "1" and headers.get("connection", "").lower() != "close"
        body = b""
        if not bodiless and status not in _BODILESS:
            length = _content_length(headers)
            if into is not None and status < 300 and length == len(into):
                into[: len(rest)] = rest
                self._fill(into, len(rest), until)
            else:
                most = limit if status < 300 else ERROR_BODY_LIMIT
                body = self._read_body(length, headers, bytes(rest), most, until)
                if length is None and "transfer-encoding" not in headers:
                    keep = False
                if into is not None and status < 300:
                    if len(body) != len(into):
                        raise BadResponse(f"{len(body)} bytes came where {len(into)} were asked for")
                    into[:] = body
                    body = b""
        elif len(rest):
            raise BadResponse("a body where there can be none")
        if not keep or not self.is_open:
            self.close()
        return Response(status, headers, body)

    def _read_head(self, until: float) -> tuple[int, dict[str, str], memoryview]:
        view = self._head
        filled = self._receive_into(view[:_FIRST_READ])
        while True:
            if not filled:
                raise BadResponse("the connection was closed without an answer")
            text = str(view[:filled], "latin-1")
            end = text.find("\r\n\r\n")
            if end >= 0:
                status, headers = _parse_head(text[: end + 2])
                return status, headers, view[end + 4 : filled]
            if filled == len(view):
                raise BadResponse("the head of the answer is too long")
            _check(until)
            count = self._receive_into(view[filled:])
            if not count:
                raise BadResponse("the connection was closed inside the head of an answer")
            filled += count

    def _fill(self, view: memoryview, filled: int, until: float) -> None:
        receive, length, monotonic = self._receive_into, len(view), time.monotonic
        if filled > length:
            raise BadResponse("more body than announced")
        while filled < length:
            count = receive(view[filled:])
            if not count:
                raise BadResponse(f"the body ended after {filled} of {length} bytes")
            filled += count
            if filled < length and monotonic() > until:
                raise TimeoutError("the operation took too long")

    def _read_body(
        self, length: int | None, headers: dict[str, str], rest: bytes, limit: int, until: float
    ) -> bytes:
        if "transfer-encoding" in headers:
            return self._read_chunks(rest, limit, until)
        if length is not None:
            if length > limit:
                raise BadResponse(f"a body of {length} bytes where at most {limit} are expected")
            if len(rest) > length:
                raise BadResponse("more body than announced")
            body = bytearray(length)
            body[: len(rest)] = rest
            self._fill(memoryview(body), len(rest), until)
            return bytes(body)
        pieces, size = [rest], len(rest)
        while piece := self._socket.recv(65_536):
            pieces.append(piece)
            size += len(piece)
            if size > limit:
                raise BadResponse(f"a body of more than {limit} bytes")
            _check(until)
        return b"".join(pieces)

    def _read_chunks(self, rest: bytes, limit: int, until: float) -> bytes:
        pending, pieces, size = bytearray(rest), [], 0
        while True:
            line = self._line(pending, until)
            matched = _CHUNK_SIZE.fullmatch(line)
            if matched is None:
                raise BadResponse("a malformed chunk")
            length = int(matched[1], 16)
            size += length
            if size > limit:
                raise BadResponse(f"a body of more than {limit} bytes")
            if not length:
                break
            while len(pending) < length + 2:
                self._more(pending, until)
            if pending[length : length + 2] != b"\r\n":
                raise BadResponse("a chunk without its end")
            pieces.append(bytes(pending[:length]))
            del pending[: length + 2]
        while self._line(pending, until):
            pass
        if pending:
            raise BadResponse("data after the last chunk")
        return b"".join(pieces)

    def _line(self, pending: bytearray, until: float) -> bytes:
        while (end := pending.find(b"\r\n")) < 0:
            if len(pending) > _FIRST_READ:
                raise BadResponse("an endless line")
            self._more(pending, until)
        line = bytes(pending[:end])
        del pending[: end + 2]
        return line

    def _more(self, pending: bytearray, until: float) -> None:
        _check(until)
        piece = self._socket.recv(65_536)
        if not piece:
            raise BadResponse("the connection was closed inside a body")
        pending += piece


def _receiver(connection: socket.socket) -> Callable[[memoryview], int]:
    """What `recv_into` does. A block comes in 33 records, and for each of them TLS's `recv_into` asks twice
    what `read` asks once.
    """
    if isinstance(connection, ssl.SSLSocket):
        return cast(Callable[[memoryview], int], partial(connection.read, _RECORD))
    return connection.recv_into


def _check(until: float) -> None:
    if time.monotonic() > until:
        raise TimeoutError("the operation took too long")


def _parse_head(text: str) -> tuple[int, dict[str, str]]:
    """Status and headers of a head (lower-case names; ``:version`` is the minor HTTP version)."""
    matched = _STATUS_LINE.match(text)
    if matched is None:
        raise BadResponse("no HTTP status line")
    if not _HEADERS.fullmatch(text, matched.end()):
        raise BadResponse("a malformed header")
    fields = _HEADER.findall(text, matched.end())
    if len(fields) > _HEADER_COUNT:
        raise BadResponse("too many headers")
    headers = {":version": matched[1]}
    for name, value in fields:
        name, value = name.lower(), value.strip(" \t")
        if headers.setdefault(name, value) != value:
            if name in ("content-length", "transfer-encoding"):
                raise BadResponse(f"two different {name} headers")
            headers[name] += f", {value}"
    return int(matched[2]), headers


def _content_length(headers: dict[str, str]) -> int | None:
    coding = headers.get("transfer-encoding")
    text = headers.get("content-length")
    if coding is not None:
        if coding.lower() != "chunked" or text is not None:
            raise BadResponse("an ambiguous length")
        return None
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 16):
        raise BadResponse("a malformed Content-Length")
    return int(text)
