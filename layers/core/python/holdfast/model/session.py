"""Sessions, the outcome of each instance, and how a session is judged.

A session is never reported better than its worst part (`worst`).
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from pydantic import Field

from holdfast.model.inventory import Value


class State(StrEnum):
    """How something ended."""

    SUCCESS = "Success"
    WARNING = "Warning"
    FAILED = "Failed"
    RUNNING = "Running"
    STOPPED = "Stopped"


_RANK = {State.SUCCESS: 0, State.RUNNING: 1, State.WARNING: 2, State.STOPPED: 3, State.FAILED: 4}


def worst(*states: State) -> State:
    """The worst of the given states; Success for none."""
    return max(states, key=_RANK.__getitem__, default=State.SUCCESS)


class Problem(Value):
    """Something that a person should know about one resource."""

    code: str
    message: str
    resource: str = ""
    remedy: str = ""
    severity: State = State.FAILED


class Outcome(Value):
    """How one instance ended in one session. ``due``: what was to be made of it; ``kinds``: what was."""

    account: str
    region: str
    instance_id: str
    instance_name: str = ""
    state: State
    problems: tuple[Problem, ...] = ()
    point_id: str = ""
    kinds: tuple[str, ...] = ()
    due: tuple[str, ...] = ()
    full: bool = False
    bytes_read: int = 0
    bytes_stored: int = 0
    blocks_read: int = 0
    requests: dict[str, int] = Field(default_factory=dict)
    started_at: datetime | None = None
    ended_at: datetime | None = None

    @property
    def products(self) -> dict[str, State]:
        """How each product ended that was due or made: what was not made ended as the instance did."""
        missing = State.FAILED if self.state is State.SUCCESS else self.state
        every = dict.fromkeys((*self.due, *self.kinds))
        return {kind: State.SUCCESS if kind in self.kinds else missing for kind in every}


class Session(Value):
    """One run of a policy at one scheduled instant. ``problems`` concern accounts or Regions."""

    session_id: str
    policy: str
    slot: datetime
    started_at: datetime
    ended_at: datetime | None = None
    state: State = State.RUNNING
    attempt: int = 0
    manual: bool = False
    problems: tuple[Problem, ...] = ()
    counts: dict[str, int] = Field(default_factory=dict)
    bytes_read: int = 0
    bytes_stored: int = 0
