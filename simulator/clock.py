"""The clock of a simulated world: it stands still until somebody moves it.

Everything that has a date in the simulator (moto's records included) takes it from here; one read of the wall
clock would make a run irreproducible and a retention test wait for weeks.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from types import CodeType

import moto.core.utils


class VirtualClock:
    """Aware UTC time that moves forward only when told; implements ``holdfast.ports.Clock``.

    ``driver`` is whoever knows what is due on the way (schedules, executions that wait); without one,
    time jumps.
    """

    def __init__(self, now: datetime) -> None:
        if now.tzinfo is None:
            raise ValueError("a clock starts at an aware instant")
        self._now = now.astimezone(UTC)
        self._moving = threading.Lock()
        self.driver: Callable[[datetime], None] | None = None

    def now(self) -> datetime:
        """The current virtual instant."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Move ``seconds`` forward and fire nothing: time that passes inside something that is running."""
        if seconds < 0:
            raise ValueError("time does not run backwards")
        with self._moving:
            self._now += timedelta(seconds=seconds)

    def set(self, instant: datetime) -> None:
        """Move to ``instant`` without firing anything; an instant that has passed changes nothing."""
        with self._moving:
            self._now = max(self._now, instant.astimezone(UTC))

    def advance_to(self, instant: datetime) -> None:
        """Let time pass until ``instant``: what is due on the way happens in order, at its own instant."""
        if instant.tzinfo is None:
            raise ValueError("advance_to takes an aware instant")
        if self.driver is not None:
            self.driver(instant)
        self.set(instant)


_wall_clock: CodeType = moto.core.utils.utcnow.__code__


def _virtual_utcnow() -> datetime:
    return _simulated_now().replace(tzinfo=None)  # type: ignore[name-defined,no-any-return] # noqa: F821


def govern_moto(clock: VirtualClock) -> None:
    """Make moto take every time stamp from ``clock``.

    moto's modules import ``utcnow`` by name; exchanging the code of the one function reaches all of them.
    """
    vars(moto.core.utils)["_simulated_now"] = clock.now
    moto.core.utils.utcnow.__code__ = _virtual_utcnow.__code__


def release_moto() -> None:
    """Give moto the wall clock back."""
    moto.core.utils.utcnow.__code__ = _wall_clock
