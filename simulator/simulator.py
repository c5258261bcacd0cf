"""One simulated AWS: what it is composed of, and the way every request takes through it.

A request is counted, then guarded, then meets its faults, then reaches a service; in-process calls and calls
over loopback take the same way. moto's state is global, so one simulator can be open at a time.
"""

from __future__ import annotations

import os
import re
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

import boto3
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.exceptions import ConnectionClosedError
from moto import mock_aws
from moto.core.botocore_stubber import BotocoreStubber, MockRawResponse

from holdfast.errors import ConfigurationError
from simulator import calls, clock, control, ebs, ec2, identities, kms, populate, s3, state
from simulator.calls import Answer, Call
from simulator.ebs_direct import EbsDirect
from simulator.faults import FaultPlan, SimulatedCrash, flip_bit
from simulator.quotas import Quotas
from simulator.server import LoopbackServer
from simulator.world import World

Guard = Callable[[Call], Answer | None]

_ISSUED_KEY = re.compile(rb"<AccessKeyId>(\w+)</AccessKeyId>")

_open: Simulator | None = None
_moto_stub = BotocoreStubber.__call__


class Simulator:
    """A simulated AWS whose state lives in ``directory``.

    - ``world``: what it was made from; ``clock``: virtual time; ``requests``: calls by ``service:Operation``.
    - ``ebs``: disks (guest writes, content of snapshots); ``s3``: buckets as files; ``faults``: mishaps.
    - ``endpoints``: base URLs for clients that speak HTTP themselves.
    - ``guards``: asked before every call; the first that answers refuses it.
    - ``kept``: what other parts want to find again after reopening, by name; it is pickled.
    - ``control``, ``engine``, ``lambdas``, ``executions``, ``schedules``, ``organizations``, ``mail``,
      ``topics``, ``deploy``, ``destroy``, ``run_schedules``: attached by the control plane.
    - ``crashed``: root access keys whose sandbox died by a fault; they reach nothing until taken out.
    """

    directory: Path
    ebs: ebs.ElasticBlockStore
    control: Any
    engine: Any
    lambdas: Any
    executions: Any
    schedules: Any
    organizations: Any
    mail: Any
    topics: Any
    deploy: Any
    destroy: Any
    run_schedules: Any

    def __init__(self, directory: Path, world: World | None = None) -> None:
        global _open
        if _open is not None:
            raise ConfigurationError(
                "another simulated AWS is open in this process", resource=str(_open.directory)
            )
        self.directory = directory.resolve()
        with ExitStack() as undone:
            self._lock = state.DirectoryLock(self.directory)
            undone.callback(self._lock.release)
            saved = state.load(self.directory)
            if saved is None and world is None:
                message = "there is no simulated AWS in this directory"
                raise ConfigurationError(message, resource=str(directory), remedy="Create one from a world.")
            if saved is not None and world is not None:
                message = "the directory already holds a simulated AWS"
                raise ConfigurationError(message, resource=str(directory), remedy="Choose an empty one.")
            self._compose(saved, world)
            undone.callback(self.ebs.close)
            _open = self
            undone.callback(_forget)
            self._start(saved, undone)
            self._undone = undone.pop_all()

    def _compose(self, saved: state.Saved | None, world: World | None) -> None:
        self.world: World = saved.world if saved else world  # type: ignore[assignment]
        self.clock = clock.VirtualClock(saved.now if saved else self.world.starts_at)
        self.requests: Counter[str] = saved.requests if saved else Counter()
        self.faults = saved.faults if saved else FaultPlan(list(self.world.faults), self.world.seed)
        self.kept: dict[str, Any] = saved.kept if saved else {}
        self.guards: list[Guard] = []
        self.crashed: set[str] = set()
        self.identities = identities.Identities(self.clock)
        self.ebs = ebs.ElasticBlockStore(self.directory, self.clock, self.world.ebs)
        self.ebs_direct = EbsDirect(self.ebs)
        self.s3 = s3.Buckets(self.directory / "buckets")
        self.quotas = Quotas(self.world.ebs.requests_per_second)
        self._counting = threading.Lock()

    def _start(self, saved: state.Saved | None, undone: ExitStack) -> None:
        os.environ["MOTO_EC2_LOAD_DEFAULT_AMIS"] = "false"
        mock = mock_aws(
            config={
                "core": {"mock_credentials": True, "reset_boto3_session": True},
                "stepfunctions": {"execute_state_machine": True},
                "lambda": {"use_docker": False},
                "iam": {"load_aws_managed_policies": False},
            }
        )
        mock.start()
        undone.callback(mock.stop)
        clock.govern_moto(self.clock)
        undone.callback(clock.release_moto)
        for part in (identities, kms, ec2, ebs, s3):
            undone.callback(part.uninstall)
            part.install(self)
        setattr(BotocoreStubber, "__call__", _answer_in_process)  # noqa: B010 the type of a method cannot be assigned
        undone.callback(setattr, BotocoreStubber, "__call__", _moto_stub)
        if saved is not None:
            state.restore_backends(self, saved)
        self.server = LoopbackServer(self)
        undone.callback(self.server.close)
        self.endpoints: dict[str, str] = {"ebs": self.server.url, "s3": self.server.url}
        undone.callback(control.uninstall, self)
        control.install(self)
        if saved is None:
            populate.build(self)
            self.save()

    def session(self, account: str, region: str, role: str | None = None) -> boto3.Session:
        """A boto3 session as ``role`` of ``account``; without one as its operator, who may do everything."""
        return self.identities.session(account, region, role)

    def answer(self, call: Call, work: Callable[[], Answer], content_type: str = "") -> Answer:
        """Take ``call`` through counting, guards and faults to ``work``.

        Raises SimulatedCrash when the caller's sandbox dies, ConnectionResetError when the answer is lost.
        """
        with self._counting:
            self.requests[call.name] += 1
        root = self.identities.root(call.access_key)
        if root in self.crashed:
            raise SimulatedCrash(call.name)
        if refusal := self._refusal(call, content_type):
            return refusal
        struck = self.faults.strike(call)
        for fault in struck:
            if fault.effect == "delay":
                self.clock.advance(fault.seconds)
            elif fault.effect == "crash":
                self.crashed.add(root)
                raise SimulatedCrash(call.name)
            elif fault.effect == "reset":
                raise ConnectionResetError(call.name)
            elif refusal := fault.answer(call, content_type):
                return refusal
        answer = work()
        for fault in struck:
            if fault.effect == "duplicate":
                answer = work()
            elif fault.effect == "lost":
                raise ConnectionResetError(call.name)
            elif fault.effect == "corrupt":
                status, headers, body = answer
                answer = status, headers, flip_bit(body)
        return answer

    def _refusal(self, call: Call, content_type: str) -> Answer | None:
        identity = self.identities.find(call.access_key)
        if identity is not None and self.identities.is_expired(identity):
            return calls.expired_answer(call.service, content_type)
        if self.quotas.is_exceeded(call):
            return calls.throttle_answer(call.service, content_type)
        return next((refusal for guard in self.guards if (refusal := guard(call))), None)

    def serve(self) -> str:
        """The URL under which every service answers other programs on 127.0.0.1."""
        return self.server.url

    def advance_to(self, instant: datetime) -> None:
        """Let virtual time pass; what is due on the way happens."""
        self.clock.advance_to(instant)

    def save(self) -> None:
        """Write the whole state to the directory, atomically."""
        state.save(self)

    def close(self) -> None:
        """Save and release the directory; requests over loopback end first."""
        self.server.close()
        try:
            self.ebs.reclaim()
            self.save()
        finally:
            self._undone.close()

    def __enter__(self) -> Simulator:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _forget() -> None:
    global _open
    _open = None


def current() -> Simulator:
    """The simulator that is open in this process. Raises ConfigurationError without one."""
    if _open is None:
        raise ConfigurationError("no simulated AWS is open in this process")
    return _open


def _answer_in_process(
    stub: BotocoreStubber, event_name: str, request: AWSPreparedRequest, **_: Any
) -> AWSResponse | None:
    credential = calls.credential_of(dict(request.headers.items()))
    if not stub.enabled or _open is None or credential is None or request.url.startswith("http://127.0.0.1"):
        return _moto_stub(stub, event_name, request)
    service = calls.service_of(credential)
    identity = _open.identities.find(credential.access_key)
    call = Call(
        service=service,
        operation=event_name.rsplit(".", 1)[-1],
        account=identity.account if identity else "",
        region=credential.region,
        access_key=credential.access_key,
        method=request.method,
        url=request.url,
        body=b"" if service in ("ebs", "s3") else _bytes(request.body),
    )

    simulator = _open

    def work() -> Answer:
        if service == "ebs":
            split = urlsplit(request.url)
            lower = {name.lower(): _text(value) for name, value in request.headers.items()}
            return simulator.ebs_direct.answer(
                call.account, call.region, call.method, split.path, split.query, lower, _bytes(request.body)
            )
        status, headers, content = stub.process_request(request) or (404, {}, b"")
        return status, dict(headers), content.encode() if isinstance(content, str) else content

    try:
        status, headers, content = _open.answer(call, work, str(request.headers.get("Content-Type", "")))
    except ConnectionResetError as lost:
        raise ConnectionClosedError(endpoint_url=request.url) from lost
    if call.operation == "AssumeRole" and (issued := _ISSUED_KEY.search(content)):
        _open.identities.descends(issued.group(1).decode(), call.access_key)
    told: Any = headers
    return AWSResponse(request.url, status, told, MockRawResponse(content))


def _text(value: str | bytes) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else value


def _bytes(body: Any) -> bytes:
    if body is None:
        return b""
    if isinstance(body, str):
        return body.encode()
    if hasattr(body, "read"):
        content: bytes = body.read()
        if hasattr(body, "seek"):
            body.seek(0)
        return content
    return bytes(body)
