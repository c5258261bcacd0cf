"""From wall-clock times of a time zone to instants, across daylight saving.

A time in the skipped hour means the first valid instant after the gap, a time in the doubled hour its first
occurrence: no slot is lost and none runs twice. Everything that turns wall-clock time into instants goes
through ``instant``.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

_SECOND = timedelta(seconds=1)


def _first_after(low: datetime, high: datetime, zone: ZoneInfo) -> datetime:
    """The first instant in ``(low, high]`` whose offset is no longer that of ``low``."""
    before = low.astimezone(zone).utcoffset()
    while high - low > _SECOND:
        middle = low + (high - low) // 2
        middle = middle.replace(microsecond=0)
        if middle.astimezone(zone).utcoffset() == before:
            low = middle
        else:
            high = middle
    return high


def instant(on: date, minute: int, zone: ZoneInfo) -> datetime:
    """When ``minute`` of the day ``on`` is in ``zone``, in UTC."""
    wall = datetime.combine(on, time(minute // 60, minute % 60), zone)
    moment = wall.astimezone(UTC)
    if moment.astimezone(zone).replace(tzinfo=None) == wall.replace(tzinfo=None):
        return moment
    return _first_after(wall.replace(fold=1).astimezone(UTC), moment, zone)


class Gap(NamedTuple):
    """A forward jump: ``at`` the wall clock goes from ``start`` to ``end`` (naive wall-clock times)."""

    at: datetime
    start: datetime
    end: datetime


def _gaps(zone: ZoneInfo, first_year: int, last_year: int) -> Iterator[Gap]:
    day = datetime(first_year, 1, 1, tzinfo=UTC)
    end = datetime(last_year + 1, 1, 1, tzinfo=UTC)
    while day < end:
        following = day + timedelta(days=1)
        before, after = day.astimezone(zone).utcoffset(), following.astimezone(zone).utcoffset()
        if before != after:
            at = _first_after(day, following, zone)
            new = at.astimezone(zone).utcoffset()
            if before is not None and new is not None and new > before:
                naive = at.replace(tzinfo=None)
                yield Gap(at, naive + before, naive + new)
        day = following


@lru_cache(maxsize=64)
def gaps(zone_name: str, first_year: int, last_year: int) -> tuple[Gap, ...]:
    """The forward jumps of a zone's clock in these years, in order."""
    return tuple(_gaps(ZoneInfo(zone_name), first_year, last_year))
