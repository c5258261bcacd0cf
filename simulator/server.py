"""The simulated AWS on 127.0.0.1: a small HTTP/1.1 server for clients that speak HTTP themselves.

Requests for blocks take a short way; everything else goes to moto's own application on the same state. Every
request's signature is checked before anything else: a client that signs wrongly fails here as in AWS.
"""

from __future__ import annotations

import io
import logging
import socket
import sys
import threading
from contextlib import suppress
from typing import Any, BinaryIO
from urllib.parse import unquote

from simulator import calls, s3_reads, s3_rules
from simulator.calls import Answer, Call
from simulator.faults import SimulatedCrash
from simulator.signature import SignatureRefused, check

_LOG = logging.getLogger(__name__)
_MAX_HEAD = 64 * 1024
_REASONS = {
    200: "OK",
    201: "Created",
    202: "Accepted",
    204: "No Content",
    206: "Partial Content",
    304: "Not Modified",
}

Request = tuple[str, str, str, dict[str, str], bytes]


class LoopbackServer:
    """Listens on 127.0.0.1 with a thread per connection until closed."""

    def __init__(self, simulator: Any) -> None:
        self._simulator = simulator
        self._application: Any = None
        self._making = threading.Lock()
        self._connections: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._closed = False
        threading.Thread(target=self._accept, name="simulator-loopback", daemon=True).start()

    def close(self) -> None:
        """Stop listening and end all connections."""
        self._closed = True
        for connection in (self._listener, *list(self._connections)):
            with suppress(OSError):  # it may have ended already
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()

    def _accept(self) -> None:
        while not self._closed:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._connections.add(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        reader: Any = connection.makefile("rb", buffering=1024 * 1024)
        try:
            while not self._closed and (request := _read_request(reader, connection)):
                answer = self._answer(request)
                _write(connection, answer, head_only=request[0] == "HEAD")
                if request[3].get("connection", "").lower() == "close":
                    return
        except (SimulatedCrash, ConnectionError, TimeoutError, ValueError, OSError):
            return  # the client sees a lost connection, which is what the fault means
        finally:
            self._connections.discard(connection)
            reader.close()
            connection.close()

    def _answer(self, request: Request) -> Answer:
        method, path, query, headers, body = request
        credential = calls.credential_of(headers)
        simulator = self._simulator
        if credential is None:
            code = "IncompleteSignature" if "authorization" in headers else "MissingAuthenticationToken"
            return calls.error_answer("", code, "The request is not signed with Signature Version 4", 403)
        service = calls.service_of(credential)
        identity = simulator.identities.find(credential.access_key)
        content_type = headers.get("content-type", "")
        try:
            check(identity, credential, method, path, query, headers, body, simulator.clock.now())
        except SignatureRefused as refused:
            return calls.error_answer(service, refused.code, str(refused), 403, content_type)
        url = f"{self.url}{path}" + (f"?{query}" if query else "")
        call = Call(
            service=service,
            operation=calls.operation_of(service, method, url, headers, body),
            account=identity.account,
            region=credential.region,
            access_key=credential.access_key,
            method=method,
            url=url,
            body=b"" if service in ("ebs", "s3") and method != "POST" else body,
        )

        try:
            answer: Answer = simulator.answer(call, lambda: self._work(call, request), content_type)
        except (ConnectionError, SimulatedCrash):
            raise
        except Exception as gap:  # noqa: BLE001 or the client would wait for ever, and nobody would know why
            _LOG.exception("%s failed", call.name)
            told = f"the simulator cannot answer {call.name}: {type(gap).__name__}: {gap}"
            return calls.error_answer(
                service, "NotImplemented", told, 501, content_type
            )  # 501 is not retried
        return answer

    def _work(self, call: Call, request: Request) -> Answer:
        method, path, query, headers, body = request
        found: Answer | None = None
        if call.service == "ebs":
            direct = self._simulator.ebs_direct
            found = direct.answer(call.account, call.region, method, path, query, headers, body)
        elif call.service == "s3":
            found = s3_rules.wrong_region(path, call.region)
            if found is None and method == "GET":
                found = s3_reads.answer(path, query, headers)
        return found or self._hand_over(request)

    def _hand_over(self, request: Request) -> Answer:
        environ = _environ(request, self._listener.getsockname()[1])
        collected: list[Any] = []

        def start_response(status: str, response_headers: list[tuple[str, str]], _: Any = None) -> Any:
            collected[:] = [int(status.split()[0]), dict(response_headers)]
            return lambda chunk: None

        chunks = self._moto()(environ, start_response)
        try:
            content = b"".join(chunks)
        finally:
            if hasattr(chunks, "close"):
                chunks.close()
        return collected[0], collected[1], content

    def _moto(self) -> Any:
        with self._making:
            if self._application is None:
                from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

                self._application = DomainDispatcherApplication(create_backend_app)
            return self._application


def _read_request(reader: BinaryIO, connection: socket.socket) -> Request | None:
    line = reader.readline(_MAX_HEAD)
    if not line:
        return None
    method, target, _ = line.decode("latin-1").split(" ", 2)
    headers: dict[str, str] = {}
    size = len(line)
    while (line := reader.readline(_MAX_HEAD)) not in (b"\r\n", b"\n", b""):
        size += len(line)
        if size > _MAX_HEAD:
            raise ValueError("the head of the request is too long")
        name, _, value = line.decode("latin-1").partition(":")
        name, value = name.strip().lower(), value.strip()
        headers[name] = f"{headers[name]},{value}" if name in headers else value
    if headers.get("expect", "").lower() == "100-continue":
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
    path, _, query = target.partition("?")
    return method, path, query, headers, _read_body(reader, headers)


def _read_body(reader: BinaryIO, headers: dict[str, str]) -> bytes:
    if "chunked" in headers.get("transfer-encoding", "").lower():
        parts = []
        while size := int(reader.readline(_MAX_HEAD).split(b";")[0], 16):
            parts.append(_exactly(reader, size))
            reader.readline(_MAX_HEAD)
        while reader.readline(_MAX_HEAD) not in (b"\r\n", b"\n", b""):
            pass
        body = b"".join(parts)
        headers["content-length"] = str(len(body))
        del headers["transfer-encoding"]
        return body
    return _exactly(reader, int(headers.get("content-length") or 0))


def _exactly(reader: BinaryIO, size: int) -> bytes:
    content = reader.read(size) if size else b""
    if len(content) != size:
        raise ConnectionResetError("the client went away")
    return content


def _write(connection: socket.socket, answer: Answer, *, head_only: bool) -> None:
    status, headers, body = answer
    names = {name.lower() for name in headers}
    lines = [f"HTTP/1.1 {status} {_REASONS.get(status, 'Status')}"]
    lines += [
        f"{name}: {value}"
        for name, value in headers.items()
        if name.lower() not in ("connection", "transfer-encoding")
    ]
    if not (head_only and "content-length" in names):
        lines = [line for line in lines if not line.lower().startswith("content-length:")]
        lines.append(f"Content-Length: {len(body)}")
    head = ("\r\n".join(lines) + "\r\n\r\n").encode("utf-8")
    if head_only or status in (204, 304):
        connection.sendall(head)
    elif len(body) < 65_536:
        connection.sendall(head + body)
    else:
        connection.sendall(head)
        connection.sendall(body)


def _environ(request: Request, port: int) -> dict[str, Any]:
    method, path, query, headers, body = request
    environ: dict[str, Any] = {
        "REQUEST_METHOD": method,
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote(path, "latin-1"),
        "RAW_URI": path + (f"?{query}" if query else ""),
        "REQUEST_URI": path + (f"?{query}" if query else ""),
        "QUERY_STRING": query,
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": str(port),
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "127.0.0.1",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(body),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }
    for name, value in headers.items():
        key = name.upper().replace("-", "_")
        environ[key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{key}"] = value
    environ["CONTENT_LENGTH"] = str(len(body))
    return environ
