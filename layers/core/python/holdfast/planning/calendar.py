"""When something that is kept for days, months or years has been kept long enough.

Days, months and years are those of the calendar in the policy's time zone, so that a point made at 07:00
expires at 07:00 across daylight saving; a day that a month lacks is its last day. Source: decisions.md.
"""

from __future__ import annotations

from calendar import monthrange
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from holdfast.model.schedules import Keep

FOREVER = datetime.max.replace(tzinfo=UTC)


def kept_until(created_at: datetime, keep: Keep, zone: ZoneInfo) -> datetime:
    """The first instant (UTC) at which something created at ``created_at`` is no longer kept."""
    local = created_at.astimezone(zone)
    try:
        if keep.days is not None:
            return (local + timedelta(days=keep.days)).astimezone(UTC)
        whole = local.year * 12 + local.month - 1 + (keep.months or 12 * (keep.years or 0))
        year, month = whole // 12, whole % 12 + 1
        day = min(local.day, monthrange(year, month)[1])
        return local.replace(year=year, month=month, day=day).astimezone(UTC)
    except (OverflowError, ValueError):
        return FOREVER


def shortest_days(keep: Keep) -> int:
    """Days that certainly pass before ``keep`` is over: a bound that needs no calendar."""
    days = keep.days if keep.days is not None else (keep.months or 12 * (keep.years or 0)) * 28
    return max(days - 1, 0)


def longest_days(keep: Keep) -> int:
    """Days after which ``keep`` is certainly over: a bound that needs no calendar."""
    days = keep.days if keep.days is not None else (keep.months or 12 * (keep.years or 0)) * 31
    return days + 1
