"""Adapters of the fast client on the loopback services, with good defaults."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

from holdfast.aws import ebs, s3
from holdfast.aws.http import HttpClient
from holdfast.aws.signing import Signer
from holdfast.aws.wire import Timeouts
from tests.loopback import MOMENT, State, StaticCredentials, serving

_open: list[HttpClient] = []
ROLE = "arn:aws:iam::111122223333:role/HoldfastBackup"


class FakeTime:
    """Begins with the monotonic clock (sockets keep to that one), then passes only in sleep."""

    def __init__(self) -> None:
        self.now = monotonic()
        self.pauses: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds


def make_client(
    url: str,
    service: str = "ebs",
    credentials: StaticCredentials | None = None,
    *,
    time: FakeTime | None = None,
    timeouts: Timeouts | None = None,
    tls: ssl.SSLContext | None = None,
) -> HttpClient:
    """A client that always pauses for as long as it may."""
    time = time or FakeTime()
    client = HttpClient(
        url,
        Signer(service, "eu-central-1", clock=MOMENT.timestamp),
        credentials or StaticCredentials(),
        ebs.tell if service == "ebs" else s3.tell,
        role=ROLE,
        timeouts=timeouts or Timeouts(operation=60.0),
        monotonic=time.monotonic,
        sleep=time.sleep,
        chance=lambda low, high: high,
        tls=tls,
    )
    _open.append(client)
    return client


def close_clients() -> None:
    """Close the connections of every client made so far."""
    while _open:
        _open.pop().close()


@contextmanager
def s3_store(state: State | None = None, prefix: str = "a folder") -> Iterator[s3.S3ObjectStore]:
    """A store under a prefix of a bucket of the loopback S3."""
    with serving(state or State()) as url:
        client = make_client(url, "s3")
        yield s3.S3ObjectStore(client, "bucket", prefix, root="/bucket/")
        close_clients()
