"""Events that the steps of a session hand to each other, and the names of what they leave behind.

A step ignores keys that it does not name, so that a state machine may pass one event on from step to step.
Names of parts and keys derive from session, attempt, Region and instance: a repeated step finds its own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from holdfast.errors import ConfigurationError, HoldfastError, StoppedError
from holdfast.model import ids
from holdfast.model.configuration import AnyPolicy, Configuration
from holdfast.model.restore_point import Flag, Kind
from holdfast.model.session import Problem, State
from holdfast.model.tags import decode_flags

SCOPE = "scope"
"""Part with the accounts and Regions of a session."""


class Step(BaseModel):
    """The session's own event. None instead of flags: that product is not due.

    ``only_regions`` empty: all of the policy. ``temporary``: the snapshot is made for the backup alone.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    session_id: str = Field(min_length=1, max_length=80)
    policy: str
    slot: datetime
    manual: bool = False
    only_regions: tuple[str, ...] = ()
    snapshot_flags: str = "-"
    temporary: bool = False
    replica_flags: str | None = None
    backup_flags: str | None = None
    attempt: int = 0

    def flags(self, kind: Kind) -> frozenset[Flag]:
        """The flags that the schedules of this slot give to what the session makes."""
        told = {
            Kind.SNAPSHOT: self.snapshot_flags,
            Kind.REPLICA: self.replica_flags,
            Kind.BACKUP: self.backup_flags,
        }
        return decode_flags(told.get(kind) or "")

    @property
    def session_event(self) -> dict[str, Any]:
        """The keys that every later step needs, JSON-safe."""
        return {
            "session_id": self.session_id,
            "policy": self.policy,
            "slot": self.slot.isoformat(),
            "manual": self.manual,
            "only_regions": list(self.only_regions),
            "snapshot_flags": self.snapshot_flags,
            "temporary": self.temporary,
            "replica_flags": self.replica_flags,
            "backup_flags": self.backup_flags,
        }


class RegionStep(Step):
    """A session's share for one Region."""

    region: str

    @property
    def region_part(self) -> str:
        return f"region/{self.region}"

    @property
    def token_part(self) -> str:
        return f"token/{self.region}"

    @property
    def work_prefix(self) -> str:
        return f"sessions/{self.session_id}/{self.attempt}/{self.region}"


class InstanceStep(RegionStep):
    """A session's share for one instance."""

    account: str = Field(pattern=r"^\d{12}$")
    instance_id: str = Field(pattern=r"^i-[0-9a-f]{8,17}$")
    instance_name: str = ""

    @property
    def point_id(self) -> str:
        return ids.point_id(self.session_id, self.instance_id)

    @property
    def capture_part(self) -> str:
        return f"capture/{self.instance_id}"

    @property
    def outcome_part(self) -> str:
        return outcome_part(self.region, self.account, self.instance_id)

    @property
    def instance_prefix(self) -> str:
        return f"{self.work_prefix}/{self.instance_id}"


def outcome_part(region: str, account: str = "", instance_id: str = "") -> str:
    """The part with an instance's outcome, or the prefix of all of a Region's outcomes."""
    return f"outcome/{region}/{account}/{instance_id}" if account else f"outcome/{region}/"


class TakenSnapshot(BaseModel):
    """One volume's snapshot in the set of a restore point."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    volume_id: str
    snapshot_id: str
    device: str = ""
    size_bytes: int = 0


class SnapshotSet(InstanceStep):
    """An instance's event together with what take_snapshots answered."""

    snapshots: tuple[TakenSnapshot, ...]
    taken_at: datetime


class StateError(BaseModel):
    """What a Catch of Step Functions hands on."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    Error: str = "States.Unknown"
    Cause: str = ""

    def problem(self, *, resource: str = "", severity: State = State.FAILED) -> Problem:
        """The problem behind it: what ``edge`` wrote, or what Lambda or Step Functions said."""
        text = _message(self.Cause)
        told = _told(text)
        code = self.Error.rpartition(".")[2] or "Unknown"
        if told.get("code") == StoppedError.code and severity is State.FAILED:
            severity = State.STOPPED
        return Problem(
            code=str(told.get("code") or code),
            message=str(told.get("message") or (f"{self.Error}: {text}" if text else self.Error))[:2000],
            resource=str(told.get("resource") or resource),
            remedy=str(told.get("remedy") or _REMEDIES.get(code, "" if told else _LOOK))[:1000],
            severity=severity,
        )


_LOOK = "Look at the execution in Step Functions."
_REMEDIES = {
    "Timeout": "The step did not end in time; the next session or a retry repeats it.",
    "Timedout": "The function did not end in time; the next session or a retry repeats it.",
    "DataLimitExceeded": "A list grew over what a state may hold: report this as a defect.",
}


def _message(cause: str) -> str:
    """The message of an error, wherever the services wrapped it."""
    try:
        outer = json.loads(cause)
    except ValueError:
        return cause[:500]
    wrapped = outer.get("errorMessage") if isinstance(outer, dict) else None
    return wrapped if isinstance(wrapped, str) else cause[:500]


def _told(message: str) -> Mapping[str, Any]:
    """What ``edge`` wrote into a message; nothing when somebody else wrote it."""
    try:
        told = json.loads(message)
    except ValueError:
        return {}
    return told if isinstance(told, dict) and "message" in told else {}


def problem_of(error: HoldfastError, *, resource: str = "", severity: State = State.FAILED) -> Problem:
    """An error as the problem that a session reports."""
    return Problem(
        code=error.code,
        message=error.message,
        resource=error.resource or resource,
        remedy=error.remedy,
        severity=severity,
    )


def find_policy(configuration: Configuration, name: str) -> AnyPolicy:
    """The policy of that name. Raises ConfigurationError."""
    found = configuration.policy(name)
    if found is not None:
        return found
    known = (*configuration.sla_policies, *configuration.policies)
    names = ", ".join(policy.name for policy in known) or "none"
    raise ConfigurationError(
        f"There is no policy {name!r}; the configuration has: {names}.",
        resource=name,
        remedy="Correct the name, or deploy the configuration that has this policy.",
    )
