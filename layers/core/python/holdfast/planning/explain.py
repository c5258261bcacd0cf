"""Why an instance is or is not protected, what comes next, and what retention will remove next.

Forecasts run the very rules that sessions run, on points that do not exist yet, so that what is announced
is what happens as long as every session succeeds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from holdfast.model.configuration import Configuration, SchedulePolicy
from holdfast.model.inventory import Instance
from holdfast.model.restore_point import Flag, Kind, RestorePoint
from holdfast.model.scope import Account
from holdfast.planning.ownership import Opinion, opinions
from holdfast.planning.retention import Judged, judge, keeps_cbt_base, rule_for
from holdfast.planning.schedule import Slot, next_slots, retention_pass, slots

_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class _Point:
    """What retention looks at in a restore point, real or forecast."""

    point_id: str
    taken_at: datetime
    flags: frozenset[Flag]
    manual: bool = False
    keep_until: datetime | None = None
    complete: bool = True


@dataclass(frozen=True, slots=True)
class Removal:
    """A restore point that retention will remove, when, and why."""

    point_id: str
    kind: Kind
    taken_at: datetime
    at: datetime
    reason: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """Everything that concerns one instance. ``owner`` is empty when no policy protects it."""

    instance_id: str
    owner: str
    opinions: tuple[Opinion, ...]
    slots: tuple[Slot, ...] = ()
    removals: tuple[Removal, ...] = ()


def _as_points(points: Iterable[Judged]) -> list[_Point]:
    return [
        _Point(each.point_id, each.taken_at, each.flags, each.manual, each.keep_until, each.complete)
        for each in points
    ]


def _passes(
    policy: SchedulePolicy, kind: Kind, start: datetime, end: datetime, service_zone: ZoneInfo
) -> Iterator[tuple[datetime, Slot | None]]:
    """The instants at which retention of one kind runs, with the slot that makes a new point just before it.

    Snapshots and replicas: in each session. Backups and archives: daily at 04:00; sessions only add points.
    """
    for slot in slots(policy, start, end):
        yield slot.at, slot
    if kind in (Kind.BACKUP, Kind.ARCHIVE):
        at = retention_pass(start, service_zone)
        while at < end:
            yield at, None
            at = retention_pass(at + _DAY / 2, service_zone)


def forecast(
    policy: SchedulePolicy,
    kind: Kind,
    points: Sequence[Judged],
    now: datetime,
    until: datetime,
    service_zone: ZoneInfo,
    base: str = "",
) -> tuple[Removal, ...]:
    """The existing ``points`` of one chain that retention will remove before ``until``, in order.

    ``base`` is the id of the snapshot that the newest backup was made from.
    """
    rule = rule_for(policy, kind)
    chain = _as_points(points)
    existing = {each.point_id for each in chain}
    found: list[Removal] = []
    by_session = kind in (Kind.SNAPSHOT, Kind.REPLICA)
    pins = kind is Kind.SNAPSHOT and keeps_cbt_base(policy)
    start = now + timedelta(microseconds=1)
    for at, slot in sorted(
        _passes(policy, kind, start, until, service_zone), key=lambda each: (each[0], each[1] is not None)
    ):
        if slot is not None and kind in slot.products:
            chain.append(_Point(f"slot {at.isoformat()}", at, slot.flags_of(kind)))
        if slot is not None and Kind.BACKUP in slot.products:
            base = f"slot {at.isoformat()}"
        if (slot is not None) != by_session:
            continue
        verdicts = {each.point_id: each for each in judge(chain, rule, at, pinned=[base] if pins else [])}
        gone = [each for each in chain if verdicts[each.point_id].remove]
        found += [
            Removal(each.point_id, kind, each.taken_at, at, verdicts[each.point_id].reason)
            for each in gone
            if each.point_id in existing
        ]
        chain = [
            replace(each, flags=verdicts[each.point_id].flags)
            for each in chain
            if not verdicts[each.point_id].remove
        ]
        if existing.isdisjoint(each.point_id for each in chain):
            break
    return tuple(found)


def explain(
    configuration: Configuration,
    instance: Instance,
    place: Account,
    points: Iterable[RestorePoint],
    now: datetime,
    *,
    count: int = 10,
    horizon: timedelta = 40 * _DAY,
) -> Explanation:
    """Who owns an instance and why, its next ``count`` slots, and what retention removes within
    ``horizon``.
    """
    said = opinions(configuration, instance, place)
    owner = next((each.policy for each in said if each.owns), "")
    policy = configuration.policy(owner) if owner else None
    if not isinstance(policy, SchedulePolicy):
        return Explanation(instance.instance_id, owner, said)
    zone = ZoneInfo(configuration.service_time_zone)
    chains: dict[tuple[Kind, str, str, str], list[RestorePoint]] = {}
    for point in points:
        chains.setdefault((point.kind, point.repository, point.account, point.region), []).append(point)
    base = _base(chains)
    removals = [
        removal
        for (kind, *_), chain in chains.items()
        for removal in forecast(policy, kind, chain, now, now + horizon, zone, base)
    ]
    removals.sort(key=lambda each: (each.at, each.taken_at, each.kind))
    return Explanation(instance.instance_id, owner, said, next_slots(policy, now, count), tuple(removals))


def _base(chains: Mapping[tuple[Kind, str, str, str], list[RestorePoint]]) -> str:
    """The id of the snapshot behind the newest complete backup."""
    newest: dict[Kind, list[RestorePoint]] = {Kind.BACKUP: [], Kind.SNAPSHOT: []}
    for (kind, *_), chain in chains.items():
        if kind in newest:
            newest[kind] += [each for each in chain if each.complete]
    backup = max(newest[Kind.BACKUP], key=lambda each: each.taken_at, default=None)
    if backup is None:
        return ""
    ids = set(backup.snapshot_ids.values())
    return next(
        (each.point_id for each in newest[Kind.SNAPSHOT] if ids & set(each.snapshot_ids.values())), ""
    )
