"""When a policy of either kind runs in a Region, and what each run makes.

Slots of schedules are as they are; flags of SLA templates are earned, so those given here are the ones of a
course in which every session succeeds. Forecasts, coverage and costs ask here what is due, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from holdfast.model.configuration import AnyPolicy, Configuration, SlaPolicy, SlaTemplate
from holdfast.model.ids import slot_of
from holdfast.model.restore_point import Flag, Kind, RestorePoint
from holdfast.planning.ledger import day_closes_at
from holdfast.planning.protection import template_of, zone_of
from holdfast.planning.schedule import Slot, retention_pass, slots
from holdfast.planning.sla import (
    SlaSlot,
    archive_due,
    day_of_slot,
    earned_flags,
    region_zone,
    replica_due,
    sla_slots,
)

_DAY = timedelta(days=1)
_FLAG_OF: Mapping[str, Flag] = {"day": Flag.DAILY, "week": Flag.WEEKLY, "month": Flag.MONTHLY}
_LONGEST_LOOK = timedelta(days=4 * 366)


def _source(kind: Kind) -> Kind:
    return Kind.SNAPSHOT if kind in (Kind.SNAPSHOT, Kind.REPLICA) else Kind.BACKUP


@dataclass(slots=True)
class _Earned:
    """What the restore points of an instance have taken of an SLA template's flags so far."""

    template: SlaTemplate
    zone: ZoneInfo
    flags: dict[tuple[Kind, date], set[Flag]] = field(default_factory=dict)
    replicated: set[date] = field(default_factory=set)
    archived: set[date] = field(default_factory=set)

    def day_of(self, kind: Kind, at: datetime) -> date:
        """The local day of the window that ``at`` belongs to: replicas follow snapshots, archives backups."""
        found = day_of_slot(self.template, _source(kind), at, self.zone)
        return found or at.astimezone(self.zone).date()

    def _day(self, kind: Kind, slot: SlaSlot) -> date:
        """The same of a slot, whose own day is that of its products unless their windows differ."""
        same = self.template.snapshot_window == self.template.backup_window
        return slot.day if same or len(slot.products) == 1 else self.day_of(kind, slot.at)

    def learn(self, point: RestorePoint) -> None:
        """Take over what a restore point that exists has taken."""
        day = self.day_of(point.kind, slot_of(point.session_id) or point.taken_at)
        if point.kind is Kind.REPLICA:
            self.replicated.add(day)
        elif point.kind is Kind.ARCHIVE:
            self.archived.add(day)
        else:
            self.flags.setdefault((point.kind, day), set()).update(point.flags)

    def open_to(self, slot: SlaSlot) -> dict[Kind, frozenset[Flag]]:
        """What this slot makes, with the flags that nothing has taken yet."""
        made: dict[Kind, frozenset[Flag]] = {}
        for kind, cadences in (
            (Kind.SNAPSHOT, self.template.snapshots),
            (Kind.BACKUP, self.template.backups),
        ):
            if kind in slot.products and cadences is not None:
                day = self._day(kind, slot)
                made[kind] = earned_flags(cadences, day, self.flags.get((kind, day), ()))
        replicas, archives = self.template.replicas, self.template.archives
        day = self._day(Kind.REPLICA, slot)
        if replicas and Kind.SNAPSHOT in made and replica_due(replicas, day, self.replicated):
            made[Kind.REPLICA] = frozenset({_FLAG_OF[replicas.every]})
        day = self._day(Kind.ARCHIVE, slot)
        if archives and Kind.BACKUP in made and archive_due(archives, day, self.archived):
            made[Kind.ARCHIVE] = frozenset({Flag.MONTHLY})
        return made

    def take(self, slot: SlaSlot, made: Mapping[Kind, frozenset[Flag]]) -> None:
        """The session of this slot succeeded."""
        for kind, flags in made.items():
            day = self._day(kind, slot)
            if kind is Kind.REPLICA:
                self.replicated.add(day)
            elif kind is Kind.ARCHIVE:
                self.archived.add(day)
            else:
                self.flags.setdefault((kind, day), set()).update(flags)


def agenda(
    configuration: Configuration,
    policy: AnyPolicy,
    region: str,
    start: datetime,
    end: datetime,
    points: Iterable[RestorePoint] = (),
    *,
    contested: bool = False,
) -> Iterator[Slot]:
    """The slots of ``policy`` in ``region`` with ``start <= at < end``, in order, each instant once.

    ``points`` are restore points that exist: they may have taken flags of an SLA template already. With
    ``contested``, a slot shows every flag that it can still earn, as if the ones before it fail.
    Raises ConfigurationError for a template or time zone that is not configured.
    """
    if not isinstance(policy, SlaPolicy):
        yield from slots(policy, start, end)
        return
    template, zone = template_of(configuration, policy), zone_of(configuration, policy, region)
    earned = _Earned(template, zone)
    for point in points:
        if point.policy == policy.name and point.complete:
            earned.learn(point)
    for slot in sla_slots(template, zone, start, end):
        made = earned.open_to(slot)
        if not contested:
            earned.take(slot, made)
        yield Slot(slot.at, made, frozenset() if Kind.SNAPSHOT in made else frozenset({Kind.SNAPSHOT}))


def next_of(
    configuration: Configuration,
    policy: AnyPolicy,
    region: str,
    after: datetime,
    count: int,
    points: Iterable[RestorePoint] = (),
) -> tuple[Slot, ...]:
    """Up to ``count`` slots later than ``after``, at most four years ahead, with the flags they can earn."""
    found: list[Slot] = []
    start = after + timedelta(microseconds=1)
    for slot in agenda(configuration, policy, region, start, after + _LONGEST_LOOK, points, contested=True):
        if len(found) == count:
            break
        found.append(slot)
    return tuple(found)


def retention_passes(
    configuration: Configuration, policy: AnyPolicy, start: datetime, end: datetime
) -> Iterator[datetime]:
    """The instants in ``[start, end)`` at which retention judges a chain outside of sessions, in order.

    Daily at 04:00; for all that SLA-based policies made also when the windows of a day have closed in all of
    their Regions.
    """
    passes: set[datetime] = set()
    zone = ZoneInfo(configuration.service_time_zone)
    at = retention_pass(start, zone)
    while at < end:
        passes.add(at)
        at = retention_pass(at + _DAY / 2, zone)
    if isinstance(policy, SlaPolicy):
        template = template_of(configuration, policy)
        zones = [region_zone(configuration, region) for region in policy.regions]
        on = start.date() - 2 * _DAY
        while on <= end.date() + _DAY:
            closed = day_closes_at(template, zones, on)
            if start <= closed < end:
                passes.add(closed)
            on += _DAY
    yield from sorted(passes)
