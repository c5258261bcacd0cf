"""EventBridge Scheduler expressions that make every slot of a policy fire.

Scheduler skips a wall-clock time that daylight saving skips, so a policy with such a time also gets a
catch-up expression at the end of the gap; an event that means no slot, or a slot whose session exists,
starts nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from holdfast.model.configuration import SchedulePolicy
from holdfast.model.firings import ALL_DAYS, ALL_MONTHS, Days, Firing, firings
from holdfast.model.wall_clock import gaps

_NAMES: Final = ("MON", "TUE", "WED", "THU", "FRI", "SAT", "SUN")
_AWS_NUMBERS: Final = (2, 3, 4, 5, 6, 7, 1)
_YEARS: Final = (2024, 2044)


class Expression(NamedTuple):
    """A ``cron(...)`` expression with its time zone. ``catch_up`` marks the one for skipped times."""

    cron: str
    time_zone: str
    catch_up: bool = False


def _list(numbers: Iterable[int]) -> str:
    return ",".join(str(number) for number in sorted(numbers))


def _day_fields(days: Days) -> tuple[str, ...]:
    """The fields day-of-month, month, day-of-week; two sets of them for days that short months lack."""
    months = "*" if days.months == ALL_MONTHS else _list(days.months)
    if days.day:
        return tuple(
            f"{day} {months} ?"
            for day in (("L",) if days.day in (-1, 31) else (days.day, "L") if days.day > 28 else (days.day,))
        )
    if days.ordinal:
        (weekday,) = days.weekdays
        which = "L" if days.ordinal < 0 else f"#{days.ordinal}"
        return (f"? {months} {_AWS_NUMBERS[weekday]}{which}",)
    if days.weekdays == ALL_DAYS:
        return (f"* {months} ?",)
    return (f"? {months} {','.join(_NAMES[day] for day in sorted(days.weekdays))}",)


def _covers(wide: Firing, narrow: Firing) -> bool:
    """Whether every time of ``narrow`` is also one of ``wide``."""
    if wide.minute != narrow.minute:
        return False
    if wide.days == narrow.days:
        return True
    return (
        not wide.days.ordinal
        and not wide.days.day
        and wide.days.weekdays >= narrow.days.weekdays
        and wide.days.months >= narrow.days.months
    )


def _needed(all_firings: tuple[Firing, ...]) -> list[Firing]:
    kept: list[Firing] = []
    for firing in all_firings:
        if not any(_covers(other, firing) for other in kept):
            kept = [other for other in kept if not _covers(firing, other)] + [firing]
    return kept


def _catch_up(times: set[int], time_zone: str) -> list[Expression]:
    """Expressions at the end of every gap that swallows one of ``times`` (minutes of the day)."""
    ends: dict[tuple[int, int], tuple[set[int], set[int]]] = {}
    for gap in gaps(time_zone, *_YEARS):
        whole = int((gap.end - gap.start).total_seconds()) // 60
        first = gap.start.hour * 60 + gap.start.minute
        if any((minute - first) % 1440 < whole for minute in times):
            months, weekdays = ends.setdefault((gap.end.hour, gap.end.minute), (set(), set()))
            months.add(gap.end.month)
            weekdays.add(gap.end.weekday())
    return [
        Expression(
            f"cron({minute} {hour} {_day_fields(Days(frozenset(weekdays), frozenset(months)))[0]} *)",
            time_zone,
            True,
        )
        for (hour, minute), (months, weekdays) in sorted(ends.items())
    ]


def eventbridge_expressions(policy: SchedulePolicy) -> tuple[Expression, ...]:
    """The expressions whose events cover every slot of ``policy``; none without schedules."""
    return expressions_of(firings(policy), policy.time_zone)


def expressions_of(selected: tuple[Firing, ...], time_zone: str) -> tuple[Expression, ...]:
    """The expressions whose events cover every one of ``selected`` in an IANA time zone."""
    grouped: dict[tuple[int, Days], set[int]] = {}
    needed = _needed(selected)
    for firing in needed:
        grouped.setdefault((firing.minute % 60, firing.days), set()).add(firing.minute // 60)
    found = [
        Expression(f"cron({minute} {'*' if len(hours) == 24 else _list(hours)} {fields} *)", time_zone)
        for (minute, days), hours in grouped.items()
        for fields in _day_fields(days)
    ]
    if ZoneInfo(time_zone).key != "UTC":
        found += _catch_up({firing.minute for firing in needed}, time_zone)
    return tuple(dict.fromkeys(found))
