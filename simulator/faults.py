"""Mishaps on purpose: at which call of which API something goes wrong, and what.

The plan is seeded and counts calls, never time: the same world run twice meets the same mishaps.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from random import Random
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from simulator.calls import Answer, Call, error_answer, expired_answer, throttle_answer

Effect = Literal[
    "throttle",
    "error",
    "internal",
    "unavailable",
    "expired",
    "delay",
    "reset",
    "lost",
    "duplicate",
    "crash",
    "corrupt",
]


class SimulatedCrash(BaseException):
    """The sandbox of a function died in the middle of a call; no ``except Exception`` may survive it."""


class Fault(BaseModel):
    """One mishap.

    ``call`` is ``service:Operation`` with wildcards. It happens at the ``nth`` matching call, at ``every``
    so many calls, or with ``probability``; at most ``times`` times. ``resource`` is an id or key that the
    request must mention. Effects: ``lost`` does the work and loses the answer; ``duplicate`` does it twice;
    ``corrupt`` flips one bit of the answer's body; ``delay`` lets ``seconds`` of virtual time pass first.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    call: str = Field(pattern=r"^[a-z0-9*-]+:[A-Za-z0-9*]+$")
    effect: Effect
    nth: int | None = Field(default=None, ge=1)
    every: int | None = Field(default=None, ge=1)
    probability: float | None = Field(default=None, gt=0, le=1)
    times: int | None = Field(default=None, ge=1)
    account: str = ""
    region: str = ""
    resource: str = ""
    code: str = ""
    status: int = Field(default=400, ge=400, le=599)
    message: str = "injected fault"
    seconds: float = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _is_complete(self) -> Fault:
        if sum(choice is not None for choice in (self.nth, self.every, self.probability)) > 1:
            raise ValueError("give one of nth, every, probability")
        if self.effect == "error" and not self.code:
            raise ValueError("the effect error needs a code")
        if self.effect == "delay" and not self.seconds:
            raise ValueError("the effect delay needs seconds")
        return self

    def concerns(self, call: Call) -> bool:
        """Whether ``call`` is one that counts for this fault."""
        return (
            fnmatchcase(call.name, self.call)
            and self.account in ("", call.account)
            and self.region in ("", call.region)
            and (not self.resource or call.mentions(self.resource))
        )

    def answer(self, call: Call, content_type: str = "") -> Answer | None:
        """What the client is told instead of the truth, None when the service still answers itself."""
        match self.effect:
            case "throttle":
                return throttle_answer(call.service, content_type)
            case "expired":
                return expired_answer(call.service, content_type)
            case "internal":
                return error_answer(call.service, "InternalError", self.message, 500, content_type)
            case "unavailable":
                return error_answer(call.service, "ServiceUnavailable", self.message, 503, content_type)
            case "error":
                return error_answer(call.service, self.code, self.message, self.status, content_type)
        return None


@dataclass
class FaultPlan:
    """Which faults are still to come; safe to ask from many threads."""

    faults: list[Fault]
    seed: int
    met: Counter[int] = field(default_factory=Counter)
    struck: Counter[int] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._chance = Random(self.seed)
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, object]:
        return {name: value for name, value in self.__dict__.items() if name != "_lock"}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self._lock = threading.Lock()

    def add(self, *faults: Fault) -> None:
        """Plan more mishaps, counted from now on."""
        with self._lock:
            self.faults.extend(faults)

    def clear(self) -> None:
        """Nothing goes wrong from now on."""
        with self._lock:
            self.faults.clear()
            self.met.clear()
            self.struck.clear()

    def strike(self, call: Call) -> tuple[Fault, ...]:
        """Count ``call`` and return what goes wrong with it, in the plan's order."""
        if not self.faults:
            return ()
        with self._lock:
            return tuple(self._due(call))

    def _due(self, call: Call) -> Iterable[Fault]:
        for number, fault in enumerate(self.faults):
            if not fault.concerns(call):
                continue
            self.met[number] += 1
            if fault.times is not None and self.struck[number] >= fault.times:
                continue
            if self._is_due(fault, self.met[number]):
                self.struck[number] += 1
                yield fault

    def _is_due(self, fault: Fault, count: int) -> bool:
        if fault.nth is not None:
            return count == fault.nth
        if fault.every is not None:
            return count % fault.every == 0
        return fault.probability is None or self._chance.random() < fault.probability


def flip_bit(body: bytes) -> bytes:
    """``body`` with one bit changed in its middle; empty stays empty."""
    if not body:
        return body
    middle = len(body) // 2
    return body[:middle] + bytes([body[middle] ^ 1]) + body[middle + 1 :]
