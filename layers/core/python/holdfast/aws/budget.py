"""How fast requests may go: one allowance that all threads of a worker share.

AWS throttles per account and per snapshot, and other workers spend from the same quota: the rate falls at
once when AWS says so and grows back slowly (additive increase, multiplicative decrease), which lets
competing workers settle on a fair share without talking to each other.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Lock
from typing import Final

GROWTH_SECONDS: Final = 30.0
"""From nothing back to the ceiling."""
DECREASE: Final = 0.7
DECREASE_PAUSE: Final = 1.0
"""Answers to requests sent before a decrease do not decrease again."""


class RateBudget:
    """A token bucket whose rate adapts between ``floor`` and ``ceiling`` requests per second.

    ``start`` is where it begins (default: the ceiling); ``burst`` requests may go at once after a pause.
    Safe for many threads.
    """

    def __init__(
        self,
        ceiling: float,
        *,
        start: float | None = None,
        floor: float = 5.0,
        burst: float = 32.0,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.ceiling = ceiling
        self._floor = min(floor, ceiling)
        self._rate = min(ceiling, max(self._floor, ceiling if start is None else start))
        self._burst = burst
        self._monotonic = monotonic
        self._sleep = sleep
        self._lock = Lock()
        self._grown_at = self._turn = monotonic()
        self._decreased_at = float("-inf")

    @property
    def rate(self) -> float:
        """Requests per second that are allowed now."""
        return self._rate

    def take(self) -> None:
        """Wait until one more request may be sent."""
        with self._lock:
            now = self._monotonic()
            if self._rate < self.ceiling:
                grown = self._rate + self.ceiling * (now - self._grown_at) / GROWTH_SECONDS
                self._rate = min(self.ceiling, grown)
            self._grown_at = now
            self._turn = max(self._turn, now - self._burst / self._rate) + 1.0 / self._rate
            wait = self._turn - now
        if wait > 0:
            self._sleep(wait)

    def throttled(self) -> None:
        """AWS refused a request for its rate."""
        with self._lock:
            now = self._monotonic()
            if now - self._decreased_at >= DECREASE_PAUSE:
                self._rate = max(self._floor, self._rate * DECREASE)
                self._decreased_at = self._grown_at = now
