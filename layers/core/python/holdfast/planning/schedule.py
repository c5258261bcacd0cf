"""When a schedule-based policy runs, what each run makes, and which flags it carries.

``slots`` is the one definition of the slots of a policy. Sessions are named after a slot's instant, so two
events that mean the same slot are one session, and an instant must never depend on when it is asked for.
Source: policies.md 3; decisions.md (DST, on-day schedules).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from holdfast.model.configuration import SchedulePolicy
from holdfast.model.expressions import Expression, eventbridge_expressions
from holdfast.model.firings import Firing, firings
from holdfast.model.restore_point import Flag, Kind
from holdfast.model.wall_clock import instant

__all__ = [
    "Expression",
    "Slot",
    "eventbridge_expressions",
    "manual_flags",
    "next_slots",
    "retention_pass",
    "slot_for",
    "slots",
    "waits_for_retention",
]

TEMPORARY_FOR = timedelta(hours=24)
RETENTION_HOUR = 4
_DAY = timedelta(days=1)
_NOTHING: frozenset[Flag] = frozenset()


@dataclass(frozen=True, slots=True)
class Slot:
    """One instant (UTC) at which a session runs.

    ``flags`` holds each product due and the schedules that select it. ``temporary`` names products that are
    made only so that an archive or a yearly backup has something to read; they carry no flag. A temporary
    backup goes after ``TEMPORARY_FOR``, a temporary snapshot when no backup needs it any more.
    """

    at: datetime
    flags: Mapping[Kind, frozenset[Flag]] = field(hash=False)
    temporary: frozenset[Kind] = frozenset()

    @property
    def products(self) -> frozenset[Kind]:
        """What this session makes."""
        return frozenset(self.flags) | self.temporary

    def flags_of(self, kind: Kind) -> frozenset[Flag]:
        """The flags of one product; none when it is not due or temporary."""
        return self.flags.get(kind, _NOTHING)


def _place_archives(day: dict[int, dict[Kind, set[Flag]]]) -> dict[int, set[Kind]]:
    """Move archives to a backup of the same day: the first at or after their time, else the last before it.

    Where no backup runs that day, the archive's own slot makes a temporary one. Returns the temporary
    products.
    """
    temporary: dict[int, set[Kind]] = {}
    backups = sorted(minute for minute, due in day.items() if Kind.BACKUP in due)
    for minute in sorted(
        minute for minute, due in day.items() if Kind.ARCHIVE in due and Kind.BACKUP not in due
    ):
        if not backups:
            temporary[minute] = {Kind.SNAPSHOT, Kind.BACKUP} - day[minute].keys()
            continue
        target = next((other for other in backups if other > minute), backups[-1])
        flags = day[minute].pop(Kind.ARCHIVE)
        day[target].setdefault(Kind.ARCHIVE, set()).update(flags)
        if not day[minute]:
            del day[minute]
    return temporary


def _wall_day(
    found: tuple[Firing, ...], on: date
) -> tuple[dict[int, dict[Kind, set[Flag]]], dict[int, set[Kind]]]:
    """Minute of the day -> product -> flags, and minute -> temporary products, on one day."""
    day: dict[int, dict[Kind, set[Flag]]] = {}
    for firing in found:
        if firing.days.match(on):
            day.setdefault(firing.minute, {}).setdefault(firing.kind, set()).add(firing.flag)
    return day, _place_archives(day)


def slots(policy: SchedulePolicy, start: datetime, end: datetime) -> Iterator[Slot]:
    """The slots of ``policy`` with ``start <= at < end``, in order, each instant once.

    Times that daylight saving maps to the same instant are one slot with everything due.
    """
    found = firings(policy)
    if not found:
        return
    zone = ZoneInfo(policy.time_zone)
    on, last = start.astimezone(zone).date() - _DAY, end.astimezone(zone).date() + _DAY
    pending: dict[datetime, tuple[dict[Kind, set[Flag]], set[Kind]]] = {}
    while on <= last:
        day, temporary = _wall_day(found, on)
        for minute, due in day.items():
            flags, extra = pending.setdefault(instant(on, minute, zone), ({}, set()))
            for kind, of_kind in due.items():
                flags.setdefault(kind, set()).update(of_kind)
            extra |= temporary.get(minute, set())
        on += _DAY
        # A skipped day runs with the next one: an instant is complete once its own local day has been seen.
        ready = sorted(at for at in pending if at.astimezone(zone).date() < on)
        for at in ready:
            flags, extra = pending.pop(at)
            if start <= at < end:
                if Kind.BACKUP in flags and Kind.SNAPSHOT not in flags:
                    extra.add(Kind.SNAPSHOT)
                made = {kind: frozenset(flags[kind]) for kind in Kind if kind in flags}
                yield Slot(at, made, frozenset(extra))


def slot_for(policy: SchedulePolicy, scheduled_at: datetime) -> Slot | None:
    """The slot that an event of ``scheduled_at`` means, or None when no slot is due then.

    Events that mean the same slot give the same slot: seconds do not count, and an event in the second
    pass of a doubled hour means the slot of the first.
    """
    minute = scheduled_at.astimezone(UTC).replace(second=0, microsecond=0)
    for at in (minute, minute.astimezone(ZoneInfo(policy.time_zone)).replace(fold=0).astimezone(UTC)):
        found = next(slots(policy, at, at + timedelta(minutes=1)), None)
        if found:
            return found
    return None


def next_slots(policy: SchedulePolicy, after: datetime, count: int) -> tuple[Slot, ...]:
    """Up to ``count`` slots later than ``after``, looking at most four years ahead."""
    found: list[Slot] = []
    for slot in slots(policy, after + timedelta(microseconds=1), after + timedelta(days=4 * 366)):
        if len(found) == count:
            break
        found.append(slot)
    return tuple(found)


def manual_flags(policy: SchedulePolicy) -> frozenset[Flag]:
    """The flag of a manual run: that of the most frequent enabled schedule; none without schedules."""
    flags = {firing.flag for firing in firings(policy)}
    return frozenset([next(flag for flag in Flag if flag in flags)]) if flags else _NOTHING


def retention_pass(expired_at: datetime, zone: ZoneInfo) -> datetime:
    """The first daily retention (04:00 in ``zone``) at or after the instant a restore point expired."""
    on = expired_at.astimezone(zone).date()
    today = instant(on, RETENTION_HOUR * 60, zone)
    return today if today >= expired_at else instant(on + _DAY, RETENTION_HOUR * 60, zone)


def waits_for_retention(at: datetime, zone: ZoneInfo) -> bool:
    """Whether a slot coincides with daily retention: its session runs after it, and is not dropped."""
    return retention_pass(at, zone) == at
