"""Schedules of a schedule-based policy: when each product is made and how long it is kept.

Every schedule keeps its retention when it is switched off (``enabled: false``), because points that it made
before go on ageing by it. Source: policies.md 3.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from holdfast.model.settable import Hour, Month, Settable, TimeOfDay, Weekday

_DURATION = re.compile(r"^(\d{1,5}) ?(?:(d|days?)|(m|months?)|(y|years?))$")
Count = Annotated[int, Field(ge=0, le=999, description="Restore points kept; 0 keeps none, not even for CBT")]
Months = Literal["all"] | tuple[Month, ...]


class Keep(Settable):
    """How long a time-retained restore point is kept: exactly one unit, calendar days, months or years."""

    days: int | None = Field(None, ge=1, le=36135)
    months: int | None = Field(None, ge=1, le=1188)
    years: int | None = Field(None, ge=1, le=99)

    @model_validator(mode="before")
    @classmethod
    def _spelled(cls, value: Any) -> Any:
        """Accept ``35d``, ``35 days``, ``6 months``, ``7y``."""
        if not isinstance(value, str):
            return value
        found = _DURATION.match(value)
        if not found:
            raise ValueError("write a duration as 35 days, 6 months or 7 years")
        unit = "days" if found[2] else "months" if found[3] else "years"
        return {unit: int(found[1])}

    @model_validator(mode="after")
    def _one_unit(self) -> Self:
        if sum(unit is not None for unit in (self.days, self.months, self.years)) != 1:
            raise ValueError("give exactly one of days, months, years")
        return self

    def __str__(self) -> str:
        amount, unit = next(
            (amount, unit)
            for amount, unit in ((self.days, "day"), (self.months, "month"), (self.years, "year"))
            if amount is not None
        )
        return f"{amount} {unit}{'' if amount == 1 else 's'}"


class SnapshotSlots(Settable):
    """Hours at which a cloud-native snapshot is made, and how many restore points are kept."""

    hours: tuple[Hour, ...] = ()
    per_hour: Literal[1, 2, 3, 4] = Field(1, description="Snapshots in each of these hours, evenly spaced")
    keep: Count = 7


class ReplicaSlots(Settable):
    """Hours at which a snapshot is replicated, and how many replicas are kept. Implies a snapshot."""

    hours: tuple[Hour, ...] = ()
    keep: Count = 7


class BackupSlots(Settable):
    """Hours at which an image-level backup is made, and how long it is kept. Implies a snapshot."""

    hours: tuple[Hour, ...] = ()
    keep: Keep = Keep(days=30)


class DailySchedule(Settable):
    """Runs at chosen hours of chosen days. A backup or replica hour implies a snapshot at that hour."""

    enabled: bool = True
    days: Literal["every_day", "weekdays"] | tuple[Weekday, ...] = "every_day"
    snapshots: SnapshotSlots = SnapshotSlots()
    replicas: ReplicaSlots | None = None
    backups: BackupSlots | None = None


class CountedDays(Settable):
    """Weekdays on which a snapshot or replica is made, and how many are kept."""

    days: tuple[Weekday, ...] = ()
    keep: Count = 4


class BackupDays(Settable):
    """Weekdays on which an image-level backup is made, and how long it is kept."""

    days: tuple[Weekday, ...] = ()
    keep: Keep = Keep(days=90)


class WeeklySchedule(Settable):
    """Runs at one time on chosen weekdays. While the daily schedule is on, slots coincide with daily ones."""

    enabled: bool = True
    time: TimeOfDay = "00:00"
    snapshots: CountedDays = CountedDays()
    replicas: CountedDays | None = None
    backups: BackupDays | None = None


class DayOfMonth(Settable):
    """A day of a month: ``ordinal`` with ``weekday`` (the second Monday), or ``day`` (the 15th, or last).

    A ``day`` that a month does not have means its last day.
    """

    ordinal: Literal["first", "second", "third", "fourth", "last"] | None = None
    weekday: Weekday | None = None
    day: Annotated[int, Field(ge=1, le=31)] | Literal["last"] | None = None

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.ordinal is None) != (self.weekday is None) or (self.ordinal is None) == (self.day is None):
            raise ValueError("give ordinal and weekday, or day")
        return self


class CountedMonths(Settable):
    """Months in which a snapshot or replica is made, and how many are kept."""

    months: Months = ()
    keep: Count = 3


class BackupMonths(Settable):
    """Months in which an image-level backup is made, and how long it is kept."""

    months: Months = ()
    keep: Keep = Keep(months=12)


class ArchiveMonths(Settable):
    """Months in which the backup is sent to the archive repository, and how long the archive is kept."""

    months: Months = ()
    keep: Keep = Keep(months=12)


class MonthlySchedule(Settable):
    """Runs once in chosen months. The time follows the weekly schedule unless ``run_on`` is a ``day``."""

    enabled: bool = True
    run_on: DayOfMonth = DayOfMonth(ordinal="first", weekday=Weekday.MON, day=None)
    time: TimeOfDay | None = Field(None, description="Empty: the weekly schedule's time, or 00:00")
    snapshots: CountedMonths = CountedMonths()
    replicas: CountedMonths | None = None
    backups: BackupMonths | None = None
    archive: ArchiveMonths | None = None


class YearlyKept(Settable):
    """How long a yearly restore point is kept."""

    keep: Keep = Keep(years=1)


class YearlySchedule(Settable):
    """Runs once a year and makes an image-level backup or an archive. Follows the monthly or weekly time."""

    enabled: bool = True
    run_on: DayOfMonth = DayOfMonth(ordinal="first", weekday=Weekday.MON, day=None)
    month: Month = 1
    time: TimeOfDay | None = Field(None, description="Empty: the monthly or weekly schedule's time, or 00:00")
    backups: YearlyKept | None = None
    archive: YearlyKept | None = None
