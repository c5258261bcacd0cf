"""When a schedule of EventBridge Scheduler is due: cron, rate and at expressions in a time zone.

Daylight saving time follows the service: a local time that spring skips is not run that day, one that
autumn repeats is run once, at its first occurrence. Source: "Daylight savings time" in the EventBridge
Scheduler user guide.
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

_MONTHS = {name: number for number, name in enumerate(calendar.month_abbr) if name}
_WEEKDAYS = {
    name: number for number, name in enumerate(("Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"), start=1)
}
_UNITS = {"minute": "minutes", "hour": "hours", "day": "days"}
_SEARCH_DAYS = (
    8 * 366
)  # the rarest yearly date, 29 February, comes within eight years also across 1900 or 2100

DayRule = Callable[[date], bool]


@dataclass(frozen=True, slots=True)
class Cron:
    """A parsed cron expression."""

    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    is_day: DayRule

    def next_after(self, after: datetime, zone: ZoneInfo) -> datetime | None:
        """The first due instant later than ``after``, in UTC; None when there is none."""
        day = after.astimezone(zone).date()
        for offset in range(_SEARCH_DAYS):
            today = day + timedelta(days=offset)
            if not self.is_day(today):
                continue
            for hour in self.hours:
                for minute in self.minutes:
                    local = datetime(today.year, today.month, today.day, hour, minute, tzinfo=zone)
                    instant = local.astimezone(UTC)
                    exists = instant.astimezone(zone).replace(tzinfo=None) == local.replace(tzinfo=None)
                    if exists and instant > after:
                        return instant
        return None


@dataclass(frozen=True, slots=True)
class Rate:
    """Every so often from the start."""

    every: timedelta

    def next_after(self, after: datetime, start: datetime, *, at_start: bool) -> datetime:
        """The first due instant later than ``after``."""
        if after < start:
            return start if at_start else start + self.every
        return start + ((after - start) // self.every + 1) * self.every


@dataclass(frozen=True, slots=True)
class Once:
    """At one local time."""

    local: datetime


def parse(expression: str) -> Cron | Rate | Once:
    """A schedule expression. Raises ValueError naming the part that the service would refuse."""
    if found := re.fullmatch(r"rate\((\d+) (minute|hour|day)s?\)", expression):
        count = int(found.group(1))
        if count < 1:
            raise ValueError(f"{expression}: the rate must be positive")
        return Rate(timedelta(**{_UNITS[found.group(2)]: count}))
    if found := re.fullmatch(r"at\((\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)\)", expression):
        return Once(datetime.fromisoformat(found.group(1)))
    if found := re.fullmatch(r"cron\((.+)\)", expression):
        fields = found.group(1).split()
        if len(fields) != 6:
            raise ValueError(f"{expression}: cron has six fields, not {len(fields)}")
        minute, hour, day, month, weekday, year = fields
        if (day == "?") == (weekday == "?"):
            raise ValueError(f"{expression}: exactly one of day-of-month and day-of-week is '?'")
        months = frozenset(_numbers(month, 1, 12, _MONTHS))
        years = frozenset(_numbers(year, 1970, 2199, {}))
        by_day = _day_of_month(day) if weekday == "?" else _day_of_week(weekday)
        return Cron(
            tuple(_numbers(minute, 0, 59, {})),
            tuple(_numbers(hour, 0, 23, {})),
            lambda today: today.month in months and today.year in years and by_day(today),
        )
    raise ValueError(f"{expression!r} is none of cron(...), rate(...) and at(...)")


def next_after(
    expression: str,
    zone: str,
    after: datetime,
    *,
    created: datetime,
    start: datetime | None,
    end: datetime | None,
) -> datetime | None:
    """When a schedule is next due after ``after`` (aware), between its start and end; None when never."""
    schedule = parse(expression)
    due: datetime | None
    if isinstance(schedule, Rate):
        due = schedule.next_after(after, start or created, at_start=start is not None)
    elif isinstance(schedule, Once):
        due = schedule.local.replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)
        due = due if due > after else None
    else:
        floor = after if start is None else max(after, start - timedelta(microseconds=1))
        due = schedule.next_after(floor, ZoneInfo(zone))
    return due if due is not None and (end is None or due <= end) else None


def _numbers(field: str, low: int, high: int, names: dict[str, int]) -> list[int]:
    """The values of a cron field, ascending."""
    values: set[int] = set()
    for part in field.split(","):
        body, _, step = part.partition("/")
        if body == "*":
            first, last = low, high
        elif "-" in body:
            first, last = (_number(end, names) for end in body.split("-", 1))
        else:
            first = _number(body, names)
            last = high if step else first
        if not (low <= first <= high and low <= last <= high):
            raise ValueError(f"cron field {field!r}: values go from {low} to {high}")
        if first <= last:
            values.update(range(first, last + 1, int(step or 1)))
        else:  # a range that wraps around, such as FRI-MON
            values.update([*range(first, high + 1), *range(low, last + 1)])
    return sorted(values)


def _number(text: str, names: dict[str, int]) -> int:
    found = names.get(text.capitalize())
    if found is not None:
        return found
    if not text.isdigit():
        raise ValueError(f"cron value {text!r} is not a number")
    return int(text)


def _day_of_month(field: str) -> DayRule:
    if field == "L":
        return lambda today: today.day == _last(today)
    if found := re.fullmatch(r"(\d+|L)W", field):
        return lambda today: today == _nearest_weekday(today, found.group(1))
    days = frozenset(_numbers(field, 1, 31, {}))
    return lambda today: today.day in days


def _day_of_week(field: str) -> DayRule:
    if field == "L":
        return lambda today: _weekday(today) == 7
    if found := re.fullmatch(r"(\w+)#([1-5])", field):
        day, nth = _number(found.group(1), _WEEKDAYS), int(found.group(2))
        return lambda today: _weekday(today) == day and (today.day - 1) // 7 + 1 == nth
    if found := re.fullmatch(r"(\w+)L", field):
        last = _number(found.group(1), _WEEKDAYS)
        return lambda today: _weekday(today) == last and today.day + 7 > _last(today)
    days = frozenset(_numbers(field, 1, 7, _WEEKDAYS))
    return lambda today: _weekday(today) in days


def _weekday(today: date) -> int:
    return today.isoweekday() % 7 + 1


def _last(today: date) -> int:
    return calendar.monthrange(today.year, today.month)[1]


def _nearest_weekday(today: date, day: str) -> date:
    wanted = today.replace(day=_last(today) if day == "L" else min(int(day), _last(today)))
    shift = {6: -1, 7: 1}.get(wanted.isoweekday(), 0)
    moved = wanted + timedelta(days=shift)
    return moved if moved.month == wanted.month else wanted + timedelta(days=2 if shift < 0 else -2)
