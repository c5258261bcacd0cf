"""When a worker must have stopped.

Running out of time is an outcome and not an error: whoever works under a deadline hands back where it
stopped.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

MARGIN_SECONDS: Final = 60.0
"""Kept for finishing: blocks in flight, the last pack, the map, and the answer."""


@dataclass(frozen=True, slots=True)
class Deadline:
    """``remaining`` gives the seconds until the platform stops this worker; work ends ``margin`` earlier."""

    remaining: Callable[[], float]
    margin: float = MARGIN_SECONDS

    @property
    def is_near(self) -> bool:
        """Whether no new work may be started."""
        return self.remaining() < self.margin


def no_deadline() -> Deadline:
    """For work that nobody interrupts."""
    return Deadline(lambda: float("inf"))
