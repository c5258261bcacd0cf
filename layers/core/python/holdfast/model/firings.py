"""What the schedules of a policy select: (product, flag) at wall-clock times on matching days.

Both the slots that sessions follow and the expressions that EventBridge is given come from here; if they
came from two places, a slot without an event would be a backup that never runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta

from holdfast.model.configuration import SchedulePolicy
from holdfast.model.restore_point import Flag, Kind
from holdfast.model.schedules import (
    DailySchedule,
    DayOfMonth,
    MonthlySchedule,
    Months,
    WeeklySchedule,
    YearlySchedule,
)
from holdfast.model.settable import WEEKDAYS, Weekday, minutes
from holdfast.model.sla import Cadences, SlaTemplate, Window

ALL_DAYS = frozenset(range(7))
ALL_MONTHS = frozenset(range(1, 13))
ORDINALS = {"first": 1, "second": 2, "third": 3, "fourth": 4, "last": -1}
_DERIVED = (Kind.REPLICA, Kind.BACKUP)
_WHOLE_DAY = 1440


@dataclass(frozen=True, slots=True)
class Days:
    """Days of the calendar.

    ``ordinal`` 1-4 or -1 (last) counts the weekday in its month; ``day`` is 1-31 or -1 (last). Weekdays
    are numbered as ``date.weekday`` does. A ``day`` that a month lacks means its last day.
    """

    weekdays: frozenset[int] = ALL_DAYS
    months: frozenset[int] = ALL_MONTHS
    ordinal: int = 0
    day: int = 0

    def match(self, on: date) -> bool:
        """Whether ``on`` is one of these days."""
        if on.month not in self.months or on.weekday() not in self.weekdays:
            return False
        if self.day:
            last = (on.replace(day=28) + timedelta(days=4)).replace(day=1) - timedelta(days=1)
            return on.day == (last.day if self.day < 0 else min(self.day, last.day))
        if self.ordinal < 0:
            return (on + timedelta(days=7)).month != on.month
        return not self.ordinal or (on.day - 1) // 7 + 1 == self.ordinal


@dataclass(frozen=True, slots=True)
class Firing:
    """``flag``'s schedule selects ``kind`` at ``minute`` of the day (wall clock) on ``days``."""

    kind: Kind
    flag: Flag
    minute: int
    days: Days


def weekday_numbers(days: str | tuple[Weekday, ...]) -> frozenset[int]:
    """Numbers of ``every_day``, ``weekdays`` or a list of weekdays."""
    if days == "every_day":
        return ALL_DAYS
    if days == "weekdays":
        return frozenset(range(5))
    return frozenset(WEEKDAYS.index(Weekday(day)) for day in days)


def days_of_month(on: DayOfMonth, months: Months | tuple[int, ...]) -> Days:
    """The days that ``on`` names in ``months``."""
    chosen = ALL_MONTHS if months == "all" else frozenset(int(month) for month in months)
    if on.day is not None:
        return Days(months=chosen, day=-1 if on.day == "last" else on.day)
    weekdays = frozenset({WEEKDAYS.index(on.weekday)} if on.weekday else ())
    return Days(weekdays=weekdays, months=chosen, ordinal=ORDINALS[on.ordinal or "first"])


def _daily(schedule: DailySchedule) -> Iterator[Firing]:
    days = Days(weekday_numbers(schedule.days))
    if not days.weekdays:
        return
    for hour in schedule.snapshots.hours:
        for part in range(schedule.snapshots.per_hour):
            yield Firing(
                Kind.SNAPSHOT, Flag.DAILY, hour * 60 + part * 60 // schedule.snapshots.per_hour, days
            )
    for kind, slots in ((Kind.REPLICA, schedule.replicas), (Kind.BACKUP, schedule.backups)):
        for hour in slots.hours if slots else ():
            yield Firing(kind, Flag.DAILY, hour * 60, days)


def _weekly(schedule: WeeklySchedule) -> Iterator[Firing]:
    minute = minutes(schedule.time)
    for kind, chosen in (
        (Kind.SNAPSHOT, schedule.snapshots),
        (Kind.REPLICA, schedule.replicas),
        (Kind.BACKUP, schedule.backups),
    ):
        if chosen and chosen.days:
            yield Firing(kind, Flag.WEEKLY, minute, Days(weekday_numbers(chosen.days)))


def _monthly(schedule: MonthlySchedule, minute: int) -> Iterator[Firing]:
    for kind, chosen in (
        (Kind.SNAPSHOT, schedule.snapshots),
        (Kind.REPLICA, schedule.replicas),
        (Kind.BACKUP, schedule.backups),
        (Kind.ARCHIVE, schedule.archive),
    ):
        if chosen and chosen.months:
            yield Firing(kind, Flag.MONTHLY, minute, days_of_month(schedule.run_on, chosen.months))


def _yearly(schedule: YearlySchedule, minute: int) -> Iterator[Firing]:
    days = days_of_month(schedule.run_on, (schedule.month,))
    for kind, chosen in ((Kind.BACKUP, schedule.backups), (Kind.ARCHIVE, schedule.archive)):
        if chosen:
            yield Firing(kind, Flag.YEARLY, minute, days)


def monthly_time(policy: SchedulePolicy) -> str:
    """The wall-clock time of the monthly schedule: its own, or the weekly one's, or midnight."""
    own = policy.monthly.time if policy.monthly else None
    return own or (policy.weekly.time if policy.weekly else "00:00")


def yearly_time(policy: SchedulePolicy) -> str:
    """The wall-clock time of the yearly schedule: its own, or the monthly or weekly one's, or midnight."""
    own = policy.yearly.time if policy.yearly else None
    return own or monthly_time(policy)


def selected(policy: SchedulePolicy) -> Iterator[Firing]:
    """What the enabled schedules select literally, without implied snapshots."""
    if policy.daily and policy.daily.enabled:
        yield from _daily(policy.daily)
    if policy.weekly and policy.weekly.enabled:
        yield from _weekly(policy.weekly)
    if policy.monthly and policy.monthly.enabled:
        yield from _monthly(policy.monthly, minutes(monthly_time(policy)))
    if policy.yearly and policy.yearly.enabled:
        yield from _yearly(policy.yearly, minutes(yearly_time(policy)))


def days_due(cadences: Cadences) -> tuple[Days, ...]:
    """Days on which an SLA template makes anything: every day with a daily cadence, else the others' days."""
    if cadences.daily:
        return (Days(),)
    weekly = (Days(weekday_numbers(cadences.weekly.days)),) if cadences.weekly else ()
    monthly = (days_of_month(cadences.monthly.run_on, cadences.monthly.months),) if cadences.monthly else ()
    return (*weekly, *monthly)


def runs_in(window: Window, cadences: Cadences) -> tuple[int, ...]:
    """Minutes after the midnight before the window opens, of each run; without a daily cadence, one."""
    return window.runs(cadences.daily.interval) if cadences.daily else window.runs(window.length)


def sla_firings(template: SlaTemplate) -> tuple[Firing, ...]:
    """Everything that a template selects, by the wall clock of each source Region.

    The flag says nothing here: flags are earned by success. A run after midnight of a window that began the
    day before belongs to a daily cadence, so that its days need no shifting.
    """
    return tuple(
        dict.fromkeys(
            Firing(kind, Flag.DAILY, minute % _WHOLE_DAY, days)
            for kind, cadences, window in (
                (Kind.SNAPSHOT, template.snapshots, template.snapshot_window),
                (Kind.BACKUP, template.backups, template.backup_window),
            )
            if cadences
            for days in days_due(cadences)
            for minute in runs_in(window, cadences)
        )
    )


def closings(template: SlaTemplate) -> tuple[Firing, ...]:
    """When the last window of a day closes, by the wall clock of each source Region: every day.

    Also on days on which nothing is due: retention follows the windows.
    """
    windows = [
        window
        for cadences, window in (
            (template.snapshots, template.snapshot_window),
            (template.backups, template.backup_window),
        )
        if cadences
    ]
    closes = max((minutes(window.start) + window.length for window in windows), default=_WHOLE_DAY)
    return (Firing(Kind.BACKUP, Flag.DAILY, closes % _WHOLE_DAY, Days()),)


def firings(policy: SchedulePolicy) -> tuple[Firing, ...]:
    """Everything the enabled schedules select, once each: a replica or backup implies a snapshot.

    Snapshots know no yearly flag: nothing would ever take it off. A yearly backup uses the snapshot of the
    slots that it coincides with, or one that is there for it alone (``planning.schedule``).
    """
    found: dict[Firing, None] = {}
    for firing in selected(policy):
        found[firing] = None
        if firing.kind in _DERIVED and firing.flag is not Flag.YEARLY:
            found[Firing(Kind.SNAPSHOT, firing.flag, firing.minute, firing.days)] = None
    return tuple(found)
