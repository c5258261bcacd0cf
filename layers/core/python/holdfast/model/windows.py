"""When the windows of SLA templates close, over the time zones of several Regions.

Windows are local and their end is excluded; one that ends after midnight belongs to the day it opened on.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from holdfast.model.settable import minutes
from holdfast.model.sla import SlaTemplate, Window
from holdfast.model.wall_clock import instant

_DAY: Final = timedelta(days=1)
_WHOLE_DAY: Final = 1440


def closes_at(window: Window, zones: Iterable[ZoneInfo], on: date) -> datetime:
    """When the windows that opened on the local date ``on`` have closed in all Regions."""
    closes = minutes(window.start) + window.length
    return max(instant(on + _DAY * (closes // _WHOLE_DAY), closes % _WHOLE_DAY, zone) for zone in zones)


def never_pauses(template: SlaTemplate, zones: Iterable[ZoneInfo], on: date) -> bool:
    """Whether, over all Regions, some backup window is open at every moment of the day ``on`` (UTC)."""
    covered: set[int] = set()
    for zone in zones:
        for day in (on - _DAY, on, on + _DAY):
            closes = closes_at(template.backup_window, (zone,), day)
            opens = instant(day, minutes(template.backup_window.start), zone)
            first = int((opens - datetime(on.year, on.month, on.day, tzinfo=UTC)).total_seconds() // 60)
            last = first + int((closes - opens).total_seconds() // 60)
            covered.update(range(max(first, 0), min(last, _WHOLE_DAY)))
    return len(covered) == _WHOLE_DAY
