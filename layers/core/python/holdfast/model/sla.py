"""SLA templates and storage templates: what an SLA-based policy promises, and where its backups go.

Windows are local to each source Region and their end is excluded. Source: policies.md 4.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from holdfast.model.schedules import DayOfMonth, Keep, Months
from holdfast.model.settable import (
    Description,
    Month,
    Name,
    RegionName,
    Settable,
    TimeOfDay,
    Weekday,
    minutes,
)

StorageName = Annotated[
    str, Field(min_length=1, max_length=127, pattern=r"""^[^/\\"':|<>+=;,?!*%#^@&$.]+$""")
]


class Every(Settable):
    """A period inside the window: every n hours, or every n minutes."""

    hours: int | None = Field(None, ge=1, le=24)
    minutes: int | None = Field(None, ge=15, le=1440)
    keep: Keep = Keep(days=7)

    @model_validator(mode="after")
    def _one_unit(self) -> Self:
        if (self.hours is None) == (self.minutes is None):
            raise ValueError("give exactly one of hours, minutes")
        return self

    @property
    def interval(self) -> int:
        """The period in minutes."""
        return self.minutes or 60 * (self.hours or 1)


class Weekly(Settable):
    """Weekdays whose first successful restore point is kept longer."""

    days: Literal["every_day"] | tuple[Weekday, ...] = "every_day"
    keep: Keep = Keep(days=30)


class Monthly(Settable):
    """A day in chosen months whose first successful restore point is kept longer."""

    run_on: DayOfMonth = DayOfMonth(ordinal="first", weekday=Weekday.MON, day=None)
    months: Months = "all"
    keep: Keep = Keep(months=12)


class Cadences(Settable):
    """How often, inside the window, and how long each is kept."""

    daily: Every | None = None
    weekly: Weekly | None = None
    monthly: Monthly | None = None


class SlaReplicas(Settable):
    """The first snapshot of every day, week or month is replicated."""

    every: Literal["day", "week", "month"] = "day"
    keep: Keep = Keep(days=7)


class SlaArchives(Settable):
    """In these months, the first backup on or after the 1st is archived."""

    months: tuple[Month, ...] = Field(min_length=1)
    keep: Keep = Keep(months=12)


class Window(Settable):
    """Local time from ``start`` until before ``end``; equal times mean the whole day."""

    start: TimeOfDay = "00:00"
    end: TimeOfDay = "00:00"

    @property
    def length(self) -> int:
        """Minutes that the window is open; equal ends mean the whole day."""
        return (minutes(self.end) - minutes(self.start)) % 1440 or 1440

    def runs(self, interval: int) -> tuple[int, ...]:
        """Minutes after the midnight before the window opens, of one run each ``interval`` minutes."""
        start = minutes(self.start)
        return tuple(range(start, start + self.length, interval))


class HealthCheck(Settable):
    """The day of the month on which the newest restore points are checked."""

    run_on: DayOfMonth = DayOfMonth(ordinal="last", weekday=Weekday.SUN, day=None)
    months: Months = "all"


class SlaReport(Settable):
    """When a day of an SLA-based policy is reported, and whether it always is."""

    only_missed: bool = Field(
        False, description="Only days on which the SLA was missed or an instance left inside the window"
    )
    send_at: TimeOfDay | None = Field(
        None, description="On the following day, in `service_time_zone`; empty: as soon as the day is closed"
    )


class SlaTemplate(Settable):
    """Desired frequency, windows, retention and target of SLA-based policies."""

    name: Name
    description: Description = ""
    snapshots: Cadences | None = None
    replicas: SlaReplicas | None = None
    backups: Cadences | None = None
    archives: SlaArchives | None = None
    cbt: bool = Field(True, description="Keep the snapshot that the next backup compares with")
    snapshot_window: Window = Window()
    backup_window: Window = Window()
    target_percent: Annotated[float, Field(gt=0, le=100)] = 97
    health_check: HealthCheck | None = None


class StorageTemplate(Settable):
    """Repositories for backups and archives: a default, and others for some source Regions."""

    name: StorageName
    description: Description = ""
    backups: str = Field("", description="Name of a repository (storage class STANDARD)")
    backups_by_region: dict[RegionName, str] = Field(default_factory=dict)
    archives: str = Field("", description="Name of a repository (storage class GLACIER or DEEP_ARCHIVE)")
    archives_by_region: dict[RegionName, str] = Field(default_factory=dict)

    def repository_for(self, region: str) -> str:
        """Where backups of instances in ``region`` go; empty: nowhere."""
        return self.backups_by_region.get(region, self.backups)

    def archive_for(self, region: str) -> str:
        """Where archives of instances in ``region`` go; empty: nowhere."""
        return self.archives_by_region.get(region, self.archives)
