"""Where an instance stands that a policy owns: protected, failed, or not seen by a session yet.

What decides is the last session of the day that had to do with the instance. A slot that was due and that
no session served is a failure: silence must never look like protection.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, NamedTuple

from holdfast.model.configuration import AnyPolicy, Configuration, SlaPolicy
from holdfast.model.ids import session_id
from holdfast.model.inventory import Instance
from holdfast.planning.agenda import agenda

PATIENCE: Final = timedelta(hours=4)
"""A session that began less than this ago may still come, or run; later its silence is a failure."""


class Standing(StrEnum):
    """Where an instance stands on one day."""

    PROTECTED = "protected"
    FAILED = "failed"
    EXCLUDED = "excluded"
    NOT_SELECTED = "not selected"
    UNREACHABLE = "unreachable"


class Judged(NamedTuple):
    """A standing and why."""

    standing: Standing
    reason: str


@dataclass(frozen=True, slots=True)
class Ending:
    """How an instance ended in the last session that had it. ``problem`` is empty when all went well."""

    policy: str
    slot: datetime
    made: bool
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Look:
    """What one session saw of one Region: ``problems`` says of accounts why they could not be looked at."""

    ended: bool
    problems: Mapping[str, str] = field(default_factory=dict)
    lost: str = ""


@dataclass(frozen=True, slots=True)
class Run:
    """One session. ``failure`` says why it failed as a whole."""

    ended: bool
    looks: Mapping[str, Look] = field(default_factory=dict)
    failure: str = ""


def moment(at: datetime) -> str:
    """``2026-11-22 07:00 UTC``."""
    return f"{at:%Y-%m-%d %H:%M} UTC"


class Record:
    """What is known of ``[start, end)``: sessions by id, the last ending of each instance by its id.

    ``before`` gives the standing in the ledger of the day before, ``newest`` when the newest restore point
    of an instance was taken. ``counts_from``: slots of these policies before that instant do not count,
    because the policy is newer, or was switched on then.
    """

    def __init__(
        self,
        configuration: Configuration,
        start: datetime,
        end: datetime,
        now: datetime,
        *,
        runs: Mapping[str, Run] | None = None,
        endings: Mapping[str, Ending] | None = None,
        before: Mapping[str, Judged] | None = None,
        newest: Callable[[str], datetime | None] = lambda _: None,
        counts_from: Mapping[str, datetime] | None = None,
    ) -> None:
        self._configuration = configuration
        self._start, self._end, self._now = start, end, now
        self._runs = runs or {}
        self._endings = endings or {}
        self._before = before or {}
        self._newest = newest
        self._counts_from = counts_from or {}
        self._due: dict[tuple[str, str], tuple[datetime, ...]] = {}

    def standing_of(self, instance: Instance, owner: AnyPolicy) -> Judged:
        """Where ``instance`` stands, which ``owner`` protects as far as it can."""
        last = self._endings.get(instance.instance_id)
        if last and not last.made:
            return Judged(Standing.FAILED, f"the session of {moment(last.slot)} failed: {last.problem}")
        due = self._slots(owner, instance.region)
        pending = False
        for at in due:
            if last and at <= last.slot:
                continue
            missed, waits = self._missed(owner, at, instance)
            if missed and not waits:
                return Judged(Standing.FAILED, missed)
            pending = pending or waits
        if last:
            noted = f", with a warning: {last.problem}" if last.problem else ""
            made = f"restore point of {moment(last.slot)} by policy {last.policy!r}{noted}"
            return Judged(Standing.PROTECTED, made)
        if due and not pending:
            seen = f"no session of the day found it: it appeared, or was selected, after {moment(due[-1])}"
            return Judged(Standing.NOT_SELECTED, seen)
        return self._carried(instance, owner)

    def _slots(self, owner: AnyPolicy, region: str) -> tuple[datetime, ...]:
        key = (owner.name, region)
        if key not in self._due:
            start = max(self._start, self._counts_from.get(owner.name, self._start))
            found = agenda(self._configuration, owner, region, start, self._end)
            self._due[key] = tuple(slot.at for slot in found)
        return self._due[key]

    def _missed(self, owner: AnyPolicy, at: datetime, instance: Instance) -> tuple[str, bool]:
        """Why the session of a slot made nothing of the instance, and whether that may still come.

        Empty when it looked and did not find the instance among those selected.
        """
        own_region = instance.region if isinstance(owner, SlaPolicy) else ""
        run = self._runs.get(session_id(owner.name, at, own_region))
        waits = self._now - at < PATIENCE
        if run is None:
            return f"no session ran at {moment(at)}, although policy {owner.name!r} was due", waits
        look = run.looks.get(instance.region)
        if look is None and run.failure:
            return f"the session of {moment(at)} failed: {run.failure}", False
        if look is None and run.ended:
            return f"the session of {moment(at)} did not look at {instance.region}", False
        if look is None or not look.ended:
            return f"the session of {moment(at)} had not ended", waits and not run.ended
        if look.lost:
            return f"the session of {moment(at)} failed: {look.lost}", False
        problem = look.problems.get(instance.account, "")
        return (f"the session of {moment(at)} could not look: {problem}", False) if problem else ("", False)

    def _carried(self, instance: Instance, owner: AnyPolicy) -> Judged:
        """No slot was due: what the last session made of it still counts."""
        before = self._before.get(instance.instance_id)
        if before and before.standing in (Standing.PROTECTED, Standing.FAILED):
            return before
        newest = self._newest(instance.instance_id)
        if newest is not None:
            return Judged(Standing.PROTECTED, f"newest restore point of {moment(newest)}; none was due since")
        return Judged(Standing.NOT_SELECTED, f"no session of policy {owner.name!r} was due since it appeared")
