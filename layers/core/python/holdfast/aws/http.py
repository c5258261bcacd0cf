"""Signed requests with time limits, retries and a shared rate: the way of every call of the data plane.

Only requests that may be repeated are sent through here; an answer is returned only if its status is one
that the caller expects, everything else becomes an error of ``faults``.
"""

from __future__ import annotations

import random
import ssl
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cache
from threading import Lock
from typing import Final, NamedTuple, Protocol
from weakref import finalize

from holdfast.aws import faults
from holdfast.aws.budget import RateBudget
from holdfast.aws.signing import EMPTY_HASH, Credentials, Signer
from holdfast.aws.wire import (
    ERROR_BODY_LIMIT,
    BadResponse,
    Connection,
    Content,
    Response,
    Timeouts,
    parse_endpoint,
)
from holdfast.errors import HoldfastError, PermanentError, ThrottledError, UnavailableError

DEFAULT_TIMEOUTS: Final = Timeouts()
BACKOFF_FIRST: Final = 0.1
BACKOFF_LIMIT: Final = 20.0
STALE_AFTER: Final = 15.0
"""Seconds after which an idle connection is not reused: servers close theirs without a word."""


class CredentialSource(Protocol):
    """Gives credentials that are valid now. Safe for many threads."""

    def current(self) -> Credentials:
        """The credentials to sign with; the same object as long as they do not change."""
        ...

    def renew(self, stale: Credentials) -> None:
        """AWS refused ``stale`` as expired: fetch new ones, unless somebody already did."""
        ...


class Told(NamedTuple):
    """What AWS said in the body of an error."""

    code: str
    message: str
    reason: str = ""


class Request(NamedTuple):
    """One call. ``path`` and ``query`` are encoded as they are sent; header names are lower-case.

    ``action`` is the IAM action, ``resource`` what an error names. ``expected`` are statuses beyond 2xx
    that are answers and not errors; ``later`` are codes that are worth a retry for this call alone.
    ``into`` takes the body of a 2xx; any other body has at most ``limit`` bytes.
    """

    method: str
    path: str
    action: str
    resource: str
    query: str = ""
    headers: Mapping[str, str] = {}
    body: Content = b""
    payload_hash: str = EMPTY_HASH
    into: memoryview | None = None
    limit: int = ERROR_BODY_LIMIT
    expected: Collection[int] = ()
    later: Collection[str] = ()
    budgets: Sequence[RateBudget] = ()


class Answer(NamedTuple):
    """An expected response. ``repeated``: an earlier attempt of this call may have had its effect."""

    status: int
    headers: dict[str, str]
    body: bytes
    repeated: bool


class _Failed(NamedTuple):
    """Why an attempt failed, and whether it may have had its effect."""

    error: HoldfastError
    uncertain: bool
    renew: bool = False
    stale: bool = False
    wait: float = 0.0


@cache
def tls_context() -> ssl.SSLContext:
    """Certificates of the system, verified host names, TLS 1.2 or newer."""
    return ssl.create_default_context()


class HttpClient:
    """Sends requests to one endpoint under one identity, over as many connections as threads ask for.

    ``requests`` counts requests sent by action, retries included, because AWS bills those too. Raises
    errors of ``faults``; :class:`UnavailableError` when the operation's time is over.
    """

    def __init__(
        self,
        url: str,
        signer: Signer,
        credentials: CredentialSource,
        tell: Callable[[Response], Told],
        *,
        role: str = "",
        timeouts: Timeouts = DEFAULT_TIMEOUTS,
        tls: ssl.SSLContext | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        chance: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._endpoint = parse_endpoint(url)
        self._tls = tls or (tls_context() if self._endpoint.secure else None)
        self._authority = self._endpoint.authority
        self._signer = signer
        self._credentials = credentials
        self._tell = tell
        self._role = role
        self._timeouts = timeouts
        self._monotonic = monotonic
        self._sleep = sleep
        self._chance = chance
        self._idle: deque[tuple[Connection, float]] = deque()
        # Whoever drops a client need not know that it has connections.
        finalize(self, _close_all, self._idle)
        self._lock = Lock()
        self.requests: Counter[str] = Counter()

    def close(self) -> None:
        """Close idle connections; the same happens to a client that nobody holds any more."""
        _close_all(self._idle)

    def send(self, request: Request) -> Answer:
        """Send a request until it is answered, refused for good, or its time is over."""
        until = self._monotonic() + self._timeouts.operation
        uncertain, attempt, renewals = False, 0, 0
        while True:
            for budget in request.budgets:
                budget.take()
            credentials = self._credentials.current()
            outcome = self._attempt(request, credentials, until)
            if isinstance(outcome, Response):
                return Answer(outcome.status, outcome.headers, outcome.body, uncertain)
            uncertain = uncertain or outcome.uncertain
            if outcome.stale:
                continue
            if outcome.renew and renewals < 2:
                renewals += 1
                self._credentials.renew(credentials)
                continue
            if not isinstance(outcome.error, (ThrottledError, UnavailableError)):
                raise outcome.error
            if isinstance(outcome.error, ThrottledError):
                for budget in request.budgets:
                    budget.throttled()
            ceiling = min(BACKOFF_LIMIT, BACKOFF_FIRST * 2.0 ** min(attempt, 16))
            pause = max(outcome.wait, self._chance(0.0, ceiling))
            attempt += 1
            if self._monotonic() + pause >= until:
                raise outcome.error
            self._sleep(pause)

    def _attempt(self, request: Request, credentials: Credentials, until: float) -> Response | _Failed:
        connection: Connection | None = None
        reused = False
        try:
            head = self._head(request, credentials)
            connection, reused = self._connect(until)
            response = connection.exchange(
                head, request.body, request.into, request.limit, self._timeouts.read, until
            )
        except (OSError, BadResponse) as error:
            # A server may close an idle connection at any time: that says nothing about this request.
            stale = reused and not isinstance(error, TimeoutError)
            said = str(error) or type(error).__name__
            failed = UnavailableError(
                f"{request.action} got no usable answer from {self._authority}: {said}",
                resource=request.resource,
                remedy="It is tried again later.",
            )
            return _Failed(failed, connection is not None, stale=stale)
        if connection.is_open:
            self._idle.append((connection, self._monotonic()))
        if response.status < 300 or response.status in request.expected:
            return response
        return self._refused(request, response)

    def _head(self, request: Request, credentials: Credentials) -> bytes:
        with self._lock:
            self.requests[request.action] += 1
        target = f"{request.path}?{request.query}" if request.query else request.path
        if not request.headers and request.method == "GET":
            lines = self._signer.sign_plain(credentials, "GET", request.path, request.query, self._authority)
            return f"GET {target} HTTP/1.1\r\n{lines}\r\n".encode("latin-1")
        headers = {"host": self._authority, **request.headers}
        headers |= self._signer.sign(
            credentials,
            request.method,
            request.path,
            request.query,
            headers,
            request.payload_hash,
        )
        if request.method in ("PUT", "POST"):
            headers["content-length"] = str(memoryview(request.body).nbytes)
        lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
        if lines.count("\r") + lines.count("\n") != 2 * len(headers):
            raise PermanentError("A header of the request holds a line break.", resource=request.resource)
        return f"{request.method} {target} HTTP/1.1\r\n{lines}\r\n".encode("latin-1")

    def _connect(self, until: float) -> tuple[Connection, bool]:
        now = self._monotonic()
        while self._idle:
            try:
                connection, since = self._idle.pop()
            except IndexError:
                break
            if now - since < STALE_AFTER:
                return connection, True
            connection.close()
        patience = max(0.001, min(self._timeouts.connect, until - now))
        return Connection(self._endpoint, self._tls, patience), False

    def _refused(self, request: Request, response: Response) -> _Failed:
        told = self._tell(response)
        error = faults.translate(
            told.code,
            told.message,
            action=request.action,
            role=self._role,
            resource=request.resource,
            reason=told.reason,
            status=response.status,
        )
        if told.code in request.later or told.reason in request.later:
            error = UnavailableError(error.message, resource=error.resource, remedy=error.remedy)
        return _Failed(
            error,
            uncertain=response.status >= 500,
            renew=told.code.rpartition("#")[2] in faults.EXPIRED,
            wait=_retry_after(response.headers.get("retry-after", "")),
        )


def _close_all(idle: deque[tuple[Connection, float]]) -> None:
    while idle:
        idle.pop()[0].close()


def _retry_after(value: str) -> float:
    """Seconds that the server asks to wait, within reason."""
    return min(float(value), BACKOFF_LIMIT) if value.isascii() and value.isdigit() and len(value) < 6 else 0.0
