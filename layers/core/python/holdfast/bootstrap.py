"""Composition root: from settings to the adapters that an operation works with.

Nothing connects at import, and every client is made at its first use, once per World: a handler pays for what
its own operation touches. Operations and adapters take everything that differs between AWS, the simulator and
tests from here; nobody else reads the environment, a clock or a source of chance.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Hashable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any, TextIO, TypeVar

from holdfast.settings import Settings

if TYPE_CHECKING:
    import boto3

    from holdfast.ports import (
        Clock,
        IdSource,
    )

T = TypeVar("T")


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)


class SystemIds:
    """The operating system's randomness."""

    def random_bytes(self, count: int) -> bytes:
        return os.urandom(count)


@dataclass(frozen=True, eq=False)
class World:
    """Everything that differs between AWS, the simulator and tests.

    ``session`` is the identity of the function (or of the person at the command line); ``endpoints`` maps
    "ebs" and "s3" to the base URL that the fast client uses instead of AWS; ``log`` receives log lines and
    metrics instead of standard output.
    """

    environment: Mapping[str, str]
    clock: Clock
    ids: IdSource
    session: Callable[[], boto3.Session]
    endpoints: Mapping[str, str] = field(default_factory=dict)
    log: TextIO | None = None
    _made: dict[Hashable, Any] = field(default_factory=dict, repr=False)
    _lock: threading.RLock = field(default_factory=threading.RLock, repr=False)

    @classmethod
    def from_process(cls) -> World:
        """The real world of a deployed function."""
        return cls(dict(os.environ), SystemClock(), SystemIds(), _process_session)

    @cached_property
    def settings(self) -> Settings:
        return Settings.parse(self.environment)

    def once(self, key: Hashable, make: Callable[[], T]) -> T:
        """What ``make`` returns, made at most once in this World."""
        with self._lock:
            if key not in self._made:
                self._made[key] = make()
            return self._made[key]  # type: ignore[no-any-return]


installed: ContextVar[World | None] = ContextVar("holdfast_world", default=None)


@cache
def _process_world() -> World:
    return World.from_process()


@cache
def _process_session() -> boto3.Session:
    import boto3

    return boto3.Session()


def world() -> World:
    """The World around this call: the installed one (simulator, tests), else the process's own."""
    return installed.get() or _process_world()


class Services:
    """What one invocation works with. Attributes are made at first use and live as long as their World.

    ``remaining`` tells the seconds left before the platform stops this invocation.
    """

    def __init__(self, world: World, remaining: Callable[[], float] = lambda: float("inf")) -> None:
        self.world = world
        self.remaining = remaining

    @property
    def clock(self) -> Clock:
        return self.world.clock

    @property
    def ids(self) -> IdSource:
        return self.world.ids

    @property
    def settings(self) -> Settings:
        return self.world.settings
