"""Runs functions in processes of their own, on the real Lambda runtime client: closest to production.

A process gets the deployed archive, its layers and its variables, and nothing of this process; memory and
time are capped. It reaches AWS through the simulator's loopback server with the credentials of the
function's role.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from moto.awslambda.models import LambdaFunction

from simulator.identities import Identity
from simulator.lambdas import extracted

if TYPE_CHECKING:
    from simulator.simulator import Simulator

_ENTRY = Path(__file__).with_name("runtime_entry.py")
_INIT_SECONDS = 60  # a cold start on a busy machine; Lambda allows 10 s, then starts again within the timeout
_POLL_SECONDS = 0.02
_ROOT_PATH = "/2018-06-01/runtime/"

Answer = tuple[bytes, str]


@dataclass
class Mailbox:
    """What passes between this process and one environment."""

    invocations: queue.Queue[tuple[str, bytes, str, int] | None] = field(default_factory=queue.Queue)
    answers: dict[str, Answer] = field(default_factory=dict)
    changed: threading.Condition = field(default_factory=threading.Condition)
    is_ready: threading.Event = field(default_factory=threading.Event)
    init_error: bytes = b""


class Environment:
    """One process that serves one invocation at a time. Raises RuntimeError when it does not come up."""

    def __init__(self, command: list[str], folder: Path, variables: dict[str, str], log: IO[bytes]) -> None:
        self._mailbox = Mailbox()
        self._server = _RuntimeApi(self._mailbox)
        threading.Thread(target=self._server.serve_forever, args=(_POLL_SECONDS,), daemon=True).start()
        address = f"127.0.0.1:{self._server.server_port}"
        self._process = subprocess.Popen(
            command,
            cwd=folder,
            env=variables | {"AWS_LAMBDA_RUNTIME_API": address},
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + _INIT_SECONDS
        while not self._mailbox.is_ready.wait(_POLL_SECONDS):
            if self._process.poll() is not None or time.monotonic() > deadline:
                break

    def invoke(self, event: bytes, request_id: str, arn: str, *, seconds: float, memory_mib: int) -> Answer:
        """The function's answer, or how the environment ended."""
        if self._mailbox.init_error:
            self.close()
            return self._mailbox.init_error, "Unhandled"
        deadline = time.monotonic() + seconds
        self._mailbox.invocations.put((request_id, event, arn, int(1000 * (time.time() + seconds))))
        with self._mailbox.changed:
            while request_id not in self._mailbox.answers:
                if time.monotonic() > deadline:
                    self.close()
                    return _error(
                        "Sandbox.Timedout", request_id, f"Task timed out after {seconds:.2f} seconds"
                    )
                if self._resident_mib() > memory_mib:
                    self.close()
                    return _error("Runtime.OutOfMemory", request_id, "Runtime exited: signal: killed")
                if self._process.poll() is not None:
                    ended = f"Runtime exited: exit status {self._process.returncode}"
                    return _error("Runtime.ExitError", request_id, ended)
                self._mailbox.changed.wait(_POLL_SECONDS)
            return self._mailbox.answers.pop(request_id)

    def is_alive(self) -> bool:
        """Whether it can serve another invocation."""
        return self._process.poll() is None

    def close(self) -> None:
        """End the process and its server."""
        self._mailbox.invocations.put(None)
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self._server.shutdown()
        self._server.server_close()

    def _resident_mib(self) -> int:
        try:
            pages = int(Path(f"/proc/{self._process.pid}/statm").read_text().split()[1])
        except (OSError, IndexError):  # it has just ended
            return 0
        return pages * os.sysconf("SC_PAGE_SIZE") >> 20


class Processes:
    """Runs invocations in environments, warm ones first; a ``Lambdas.runner``."""

    def __init__(self, simulator: Simulator) -> None:
        self._simulator = simulator
        self._idle: dict[tuple[Any, ...], list[tuple[Environment, Identity]]] = defaultdict(list)
        self._lock = threading.Lock()
        self._folder = simulator.directory / "processes"

    def __call__(self, function: LambdaFunction, payload: bytes, request_id: str) -> Answer:
        """Run one invocation."""
        variables = json.dumps(function.environment_vars, sort_keys=True)
        key = (function.function_arn, function.code_sha_256, str(function.layers), variables, function.role)
        with self._lock:
            environment, identity = self._idle[key].pop() if self._idle[key] else (None, None)
        if environment is None or identity is None:
            environment, identity = self._start(function)
        self._tell_time()
        answer = environment.invoke(
            payload or b"null",
            request_id,
            function.function_arn,
            seconds=float(function.timeout),
            memory_mib=int(function.memory_size),
        )
        if self._simulator.identities.root(identity.access_key) in self._simulator.crashed:
            environment.close()
            return _error("Runtime.ExitError", request_id, "Runtime exited: signal: killed")
        if environment.is_alive():
            with self._lock:
                self._idle[key].append((environment, identity))
        return answer

    def close(self) -> None:
        """End every process."""
        with self._lock:
            for environments in self._idle.values():
                for environment, _ in environments:
                    environment.close()
            self._idle.clear()

    def _tell_time(self) -> None:
        """Leave the virtual time where running functions look for it: whole at every moment."""
        with self._lock:
            new = self._folder / "now.new"
            new.write_text(self._simulator.clock.now().isoformat())
            new.replace(self._folder / "now")

    def _start(self, function: LambdaFunction) -> tuple[Environment, Identity]:
        simulator, lambdas = self._simulator, self._simulator.lambdas
        self._folder.mkdir(exist_ok=True)
        self._tell_time()
        code = extracted(function.code_bytes, self._folder / "code")
        identity = lambdas.new_identity(function)
        paths = [code, *(folder / "python" for folder in lambdas.layer_folders(function))]
        variables = {
            **lambdas.environment(function),
            "AWS_ACCESS_KEY_ID": identity.access_key,
            "AWS_SECRET_ACCESS_KEY": identity.secret,
            "AWS_SESSION_TOKEN": identity.token,
            "AWS_ENDPOINT_URL": simulator.server.url,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_LAMBDA_FUNCTION_TIMEOUT": str(function.timeout),
            "AWS_LAMBDA_LOG_STREAM_NAME": identity.access_key,
            "LAMBDA_TASK_ROOT": str(code),
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.pathsep.join(str(path) for path in paths),
            "SIMULATED_NOW": str(self._folder / "now"),
            "_HANDLER": str(function.handler),
        }
        command = [sys.executable, "-P", str(_ENTRY), str(function.handler)]
        with lambdas.log_file(function.function_name).open("ab") as log:
            return Environment(command, code, variables, log), identity


class _RuntimeApi(ThreadingHTTPServer):
    """The Lambda runtime API of one environment. Source: "Building a custom runtime" of the Lambda guide."""

    daemon_threads = True

    def __init__(self, mailbox: Mailbox) -> None:
        self.mailbox = mailbox
        super().__init__(("127.0.0.1", 0), _RuntimeRequests)


class _RuntimeRequests(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # one segment per answer: two cost a delayed acknowledgement of 40 ms
    server: _RuntimeApi

    def log_message(self, format: str, *args: Any) -> None:
        """The function's log is its own."""

    def do_GET(self) -> None:
        """Hand out the next invocation."""
        mailbox = self.server.mailbox
        mailbox.is_ready.set()
        invocation = mailbox.invocations.get()
        if invocation is None:
            self.close_connection = True
            return
        request_id, event, arn, deadline = invocation
        self.send_response(200)
        for name, value in (
            ("Lambda-Runtime-Aws-Request-Id", request_id),
            ("Lambda-Runtime-Deadline-Ms", str(deadline)),
            ("Lambda-Runtime-Invoked-Function-Arn", arn),
            ("Lambda-Runtime-Trace-Id", "Root=1-00000000-000000000000000000000000;Sampled=0"),
            ("Content-Type", "application/json"),
            ("Content-Length", str(len(event))),
        ):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(event)
        self.wfile.flush()

    def do_POST(self) -> None:
        """Take an answer, an error, or the error of an initialization."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        mailbox = self.server.mailbox
        parts = self.path.removeprefix(_ROOT_PATH).split("/")
        with mailbox.changed:
            if parts[0] == "init":
                mailbox.init_error = body
                mailbox.is_ready.set()
            else:
                mailbox.answers[parts[1]] = (body, "" if parts[2] == "response" else "Unhandled")
            mailbox.changed.notify_all()
        self.send_response(202)
        self.send_header("Content-Length", "0")
        self.end_headers()
        self.wfile.flush()


def _error(kind: str, request_id: str, message: str) -> Answer:
    error = {"errorType": kind, "errorMessage": f"RequestId: {request_id} Error: {message}"}
    return json.dumps(error).encode(), "Unhandled"
