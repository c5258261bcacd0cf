"""When an SLA-based policy runs in a Region, and which flags, replicas and archives its successes earn.

Flags follow success, not the clock: the first successful restore point of a weekly or monthly day carries
that flag, whenever it is made. Windows are local to the source Region and their end is excluded. Source:
policies.md 4.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from zoneinfo import ZoneInfo

from holdfast.errors import ConfigurationError
from holdfast.model.configuration import Configuration
from holdfast.model.firings import Days, days_due, days_of_month, runs_in, weekday_numbers
from holdfast.model.regions import TIME_ZONES
from holdfast.model.restore_point import Flag, Kind
from holdfast.model.schedules import Keep
from holdfast.model.settable import minutes
from holdfast.model.sla import Cadences, SlaArchives, SlaReplicas, SlaTemplate, Window
from holdfast.model.wall_clock import instant
from holdfast.model.windows import closes_at
from holdfast.planning.retention import Rule

_DAY = timedelta(days=1)
_WHOLE_DAY = 1440


@dataclass(frozen=True, slots=True)
class SlaSlot:
    """One instant (UTC) at which a session runs in a Region.

    ``day`` is the local date on which its window opened.
    """

    at: datetime
    day: date
    products: frozenset[Kind]


def region_zone(configuration: Configuration, region: str) -> ZoneInfo:
    """The time zone of a Region. Raises ConfigurationError for one that is in no table."""
    name = configuration.region_time_zones.get(region) or TIME_ZONES.get(region)
    if name is None:
        raise ConfigurationError(
            f"The time zone of {region} is not known.", resource=region, remedy="Add it to region_time_zones."
        )
    return ZoneInfo(name)


def _product_runs(
    cadences: Cadences | None, window: Window, on: date, zone: ZoneInfo
) -> tuple[datetime, ...]:
    if cadences is None or not any(days.match(on) for days in days_due(cadences)):
        return ()
    wanted = runs_in(window, cadences)
    at = (instant(on + _DAY * (minute // _WHOLE_DAY), minute % _WHOLE_DAY, zone) for minute in wanted)
    return tuple(dict.fromkeys(at))


def expected(template: SlaTemplate, kind: Kind, on: date, zone: ZoneInfo) -> tuple[datetime, ...]:
    """The instants at which ``kind`` (snapshot or backup) is due in the window that opens on ``on``."""
    if kind is Kind.SNAPSHOT:
        return _product_runs(template.snapshots, template.snapshot_window, on, zone)
    return _product_runs(template.backups, template.backup_window, on, zone)


def sla_slots(template: SlaTemplate, zone: ZoneInfo, start: datetime, end: datetime) -> Iterator[SlaSlot]:
    """The slots with ``start <= at < end`` in order, each instant once."""
    found: dict[datetime, tuple[date, set[Kind]]] = {}
    on, last = start.astimezone(zone).date() - 2 * _DAY, end.astimezone(zone).date() + _DAY
    while on <= last:
        for kind in (Kind.SNAPSHOT, Kind.BACKUP):
            for at in expected(template, kind, on, zone):
                if start <= at < end:
                    found.setdefault(at, (on, set()))[1].add(kind)
        on += _DAY
    for at in sorted(found):
        day, kinds = found[at]
        yield SlaSlot(at, day, frozenset(kinds))


def sla_slot_for(template: SlaTemplate, zone: ZoneInfo, scheduled_at: datetime) -> SlaSlot | None:
    """The slot that an event of ``scheduled_at`` means, or None; seconds do not count.

    An event in the second pass of a doubled hour means the slot of the first.
    """
    minute = scheduled_at.astimezone(UTC).replace(second=0, microsecond=0)
    for at in (minute, minute.astimezone(zone).replace(fold=0).astimezone(UTC)):
        found = next(sla_slots(template, zone, at, at + timedelta(minutes=1)), None)
        if found:
            return found
    return None


def slot_now(template: SlaTemplate, zone: ZoneInfo, now: datetime) -> SlaSlot | None:
    """What a session would make that starts at ``now``: every product whose window is open on a due day."""
    found = {
        kind: day
        for kind, window in (
            (Kind.SNAPSHOT, template.snapshot_window),
            (Kind.BACKUP, template.backup_window),
        )
        if (day := is_open(window, zone, now)) and expected(template, kind, day, zone)
    }
    return SlaSlot(now, min(found.values()), frozenset(found)) if found else None


def is_open(window: Window, zone: ZoneInfo, now: datetime) -> date | None:
    """The local date on which the window that is open at ``now`` opened; None while it is closed."""
    today = now.astimezone(zone).date()
    for on in (today - _DAY, today):
        closes = minutes(window.start) + window.length
        opened = instant(on, minutes(window.start), zone)
        closed = instant(on + _DAY * (closes // _WHOLE_DAY), closes % _WHOLE_DAY, zone)
        if opened <= now < closed:
            return on
    return None


def day_of_slot(template: SlaTemplate, kind: Kind, at: datetime, zone: ZoneInfo) -> date | None:
    """The local date of the window that ``at`` belongs to; None outside of every window.

    A slot that daylight saving moved to the very end of its window still belongs to it.
    """
    window = template.snapshot_window if kind is Kind.SNAPSHOT else template.backup_window
    today = at.astimezone(zone).date()
    moved = (on for on in (today - _DAY, today) if at in expected(template, kind, on, zone))
    return is_open(window, zone, at) or next(moved, None)


class Action(StrEnum):
    """What a window's opening or closing brings about."""

    CONTINUE = "let the running session finish"
    RUN_NOW = "run at once"
    COMPUTE_SLA = "compute the SLA"
    RETENTION = "run retention"
    HEALTH_CHECK = "run the health check"
    REPORT = "send the report"


def at_creation(window: Window, zone: ZoneInfo, now: datetime) -> tuple[Action, ...]:
    """What a policy created at ``now`` does in a Region: inside the window it runs at once."""
    return (Action.RUN_NOW,) if is_open(window, zone, now) is not None else ()


def at_close(
    template: SlaTemplate, zones: Collection[ZoneInfo], on: date, now: datetime
) -> tuple[Action, ...]:
    """What happens at ``now`` because of the backup windows that opened on ``on``: nothing is ever cut short.

    Once they have closed in all Regions: compute, then remove, then check, then report.
    """
    if now < closes_at(template.backup_window, zones, on):
        return (Action.CONTINUE,)
    check = template.health_check
    due = check is not None and days_of_month(check.run_on, check.months).match(on)
    return (
        Action.COMPUTE_SLA,
        Action.RETENTION,
        *((Action.HEALTH_CHECK,) if due else ()),
        Action.REPORT,
    )


def published_at(template: SlaTemplate, zones: Iterable[ZoneInfo], on: date) -> datetime | None:
    """When the entry of a day may be published: after its last scheduled session in any Region."""
    last = [
        at
        for zone in zones
        for kind in (Kind.SNAPSHOT, Kind.BACKUP)
        for at in expected(template, kind, on, zone)
    ]
    return max(last, default=None)


def earned_flags(cadences: Cadences, day: date, taken: Collection[Flag]) -> frozenset[Flag]:
    """The flags of a successful point of the window day ``day``, given the flags that day's earlier
    points took.
    """
    flags = {Flag.DAILY} if cadences.daily else set()
    if cadences.weekly and Days(weekday_numbers(cadences.weekly.days)).match(day):
        flags |= {Flag.WEEKLY} - set(taken)
    if cadences.monthly and days_of_month(cadences.monthly.run_on, cadences.monthly.months).match(day):
        flags |= {Flag.MONTHLY} - set(taken)
    return frozenset(flags)


def replica_due(replicas: SlaReplicas, day: date, replicated: Iterable[date]) -> bool:
    """Whether a snapshot of ``day`` is the first of its day, week (from Monday) or month that is
    replicated.
    """
    period = _period(replicas.every, day)
    return all(_period(replicas.every, earlier) != period for earlier in replicated)


def _period(every: str, day: date) -> tuple[int, ...]:
    if every == "week":
        return tuple(day.isocalendar()[:2])
    return (day.year, day.month) if every == "month" else (day.year, day.month, day.day)


def archive_due(archives: SlaArchives, day: date, archived: Iterable[date]) -> bool:
    """Whether a successful backup of ``day`` is the month's first, in a month that archives."""
    return day.month in archives.months and (day.year, day.month) not in {
        (on.year, on.month) for on in archived
    }


def sla_rule(template: SlaTemplate, kind: Kind, zone: ZoneInfo, keep_last: int = 1) -> Rule:
    """What an SLA template keeps of one kind, by age.

    Flags from before the template age by its longest time.
    """
    keep: dict[Flag, int | Keep] = {}
    if kind is Kind.ARCHIVE:
        return _single(template.archives.keep if template.archives else None, zone, keep_last)
    if kind is Kind.REPLICA:
        return _single(template.replicas.keep if template.replicas else None, zone, keep_last)
    cadences = template.snapshots if kind is Kind.SNAPSHOT else template.backups
    if cadences is None:
        return Rule(keep, zone, keep_last)
    for flag, cadence in (
        (Flag.DAILY, cadences.daily),
        (Flag.WEEKLY, cadences.weekly),
        (Flag.MONTHLY, cadences.monthly),
    ):
        if cadence:
            keep[flag] = cadence.keep
    longest = max((each for each in keep.values() if isinstance(each, Keep)), key=_days, default=None)
    return Rule(keep, zone, keep_last, longest)


def _single(keep: Keep | None, zone: ZoneInfo, keep_last: int) -> Rule:
    return Rule(dict.fromkeys(Flag, keep) if keep else {}, zone, keep_last, keep)


def _days(keep: Keep) -> int:
    return keep.days or 31 * (keep.months or 0) or 366 * (keep.years or 0)
