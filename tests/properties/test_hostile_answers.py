"""Whatever a peer sends, the client ends with a well-formed answer or with an error that it retries."""

from __future__ import annotations

import socket
import threading
from time import monotonic
from unittest.mock import patch

from hypothesis import example, given, settings
from hypothesis import strategies as st

from holdfast.aws import wire
from holdfast.aws.wire import BadResponse, Connection, Endpoint, Response

ENDPOINT = Endpoint(False, "127.0.0.1", 80)
LIMIT = 2_000
PIECES = st.sampled_from(
    [
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.0 404 No\r\n",
        b"HTTP/1.1 204 \r\n",
        b"Content-Length: 5\r\n",
        b"Content-Length: 0\r\n",
        b"content-length:5 \r\n",
        b"Content-Length: 5, 5\r\n",
        b"Content-Length: +5\r\n",
        b"Content-Length: 99999999\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked, chunked\r\n",
        b"Connection: close\r\n",
        b"X: \xff\xfe\r\n",
        b"X y: z\r\n",
        b"\r\n",
        b"\n",
        b"hello",
        b"5\r\nhello\r\n",
        b"0\r\n\r\n",
        b"ffffffff\r\n",
        b"-5\r\n",
        b"\0",
        b" folded\r\n",
    ]
)
ANSWERS = st.one_of(st.binary(max_size=200), st.lists(PIECES, max_size=8).map(b"".join))


def exchange(answer: bytes, into: memoryview | None, method: bytes = b"GET") -> Response:
    """What a client makes of ``answer``, after which the peer closes."""
    ours, theirs = socket.socketpair()

    def converse() -> None:
        with theirs:
            theirs.recv(1_000)
            theirs.sendall(answer)

    peer = threading.Thread(target=converse)
    peer.start()

    class Plain:
        """A stream socket that takes the options of TCP in silence."""

        def setsockopt(self, *_: object) -> None:
            """There is no TCP under it."""

        def __getattr__(self, name: str) -> object:
            return getattr(ours, name)

    try:
        with patch.object(wire.socket, "create_connection", lambda *_: Plain()):
            connection = Connection(ENDPOINT, None, 1.0)
        try:
            response = connection.exchange(
                method + b" / HTTP/1.1\r\n\r\n", b"", into, LIMIT, 5.0, monotonic() + 10.0
            )
        except (OSError, BadResponse):
            assert not connection.is_open
            raise
        return response
    finally:
        ours.close()
        peer.join()


@settings(max_examples=400)
@given(answer=ANSWERS, with_buffer=st.booleans(), method=st.sampled_from([b"GET", b"HEAD"]))
@example(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", True, b"GET")
def test_any_bytes_give_an_answer_or_an_error(answer: bytes, with_buffer: bool, method: bytes) -> None:
    buffer = memoryview(bytearray(5)) if with_buffer else None
    try:
        response = exchange(answer, buffer, method)
    except (OSError, BadResponse):
        return
    assert 200 <= response.status <= 599
    assert answer.startswith(b"HTTP/1.")
    assert len(response.body) <= max(LIMIT, wire.ERROR_BODY_LIMIT)
    if method == b"HEAD":
        assert response.body == b""


@given(body=st.binary(max_size=600), cuts=st.lists(st.integers(1, 200), max_size=6), last=st.booleans())
def test_a_body_is_the_same_however_it_is_framed(body: bytes, cuts: list[int], last: bool) -> None:
    pieces, rest = [], body
    for cut in cuts:
        if rest[:cut]:
            pieces.append(b"%x\r\n%b\r\n" % (len(rest[:cut]), rest[:cut]))
        rest = rest[cut:]
    if rest:
        pieces.append(b"%X;extension\r\n%b\r\n" % (len(rest), rest))
    trailer = b"Trailer: 1\r\n" if last else b""
    chunked = (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n"
        + b"".join(pieces)
        + b"0\r\n"
        + trailer
        + b"\r\n"
    )
    counted = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    closed = b"HTTP/1.1 200 OK\r\n\r\n" + body
    for answer in (chunked, counted, closed):
        assert exchange(answer, None).body == body
