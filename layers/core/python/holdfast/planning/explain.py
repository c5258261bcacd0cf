"""Why an instance is or is not protected, what comes next, and what retention will remove next.

Forecasts run the very rules that sessions run, on points that do not exist yet, so that what is announced
is what happens as long as every session succeeds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from holdfast.model.configuration import AnyPolicy, Configuration, SchedulePolicy, SlaPolicy
from holdfast.model.inventory import Instance
from holdfast.model.restore_point import Flag, Kind, RestorePoint
from holdfast.model.scope import Account
from holdfast.planning.agenda import agenda, next_of, retention_passes
from holdfast.planning.ownership import Opinion, opinions
from holdfast.planning.protection import keeps_base, rule_of
from holdfast.planning.retention import Judged, judge, judge_obsolete
from holdfast.planning.ruling import Standing, judge_of, ruler_of
from holdfast.planning.schedule import Slot, retention_pass

_DAY = timedelta(days=1)
_NATIVE = (Kind.SNAPSHOT, Kind.REPLICA)


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
    """A restore point that retention will remove, and why.

    ``at`` is when it is judged, ``gone_at`` when it is gone.
    """

    point_id: str
    kind: Kind
    taken_at: datetime
    at: datetime
    reason: str
    gone_at: datetime


@dataclass(frozen=True, slots=True)
class Explanation:
    """Everything that concerns one instance. ``owner`` is empty when no policy protects it.

    ``earned``: the flags of ``slots`` are those that each can earn, if none before it does.
    """

    instance_id: str
    owner: str
    opinions: tuple[Opinion, ...]
    slots: tuple[Slot, ...] = ()
    removals: tuple[Removal, ...] = ()
    earned: bool = False


def _as_points(points: Iterable[Judged]) -> list[_Point]:
    return [
        _Point(each.point_id, each.taken_at, each.flags, each.manual, each.keep_until, each.complete)
        for each in points
    ]


def forecast(
    configuration: Configuration,
    policy: AnyPolicy,
    kind: Kind,
    region: str,
    points: Sequence[RestorePoint],
    now: datetime,
    until: datetime,
    base: str = "",
    *,
    runs: bool = True,
) -> tuple[Removal, ...]:
    """The existing ``points`` of one chain that retention will remove before ``until``, in order.

    ``region`` is the instance's; ``base`` the id of the snapshot that the newest backup was made from;
    ``runs`` says whether sessions of the policy go on making points of the instance.
    Snapshots and replicas of schedule-based policies are judged in each session, and everything by passes of
    its own, which leave native points of the last day to their sessions.
    """
    rule = rule_of(configuration, policy, kind, region)
    by_session = kind in _NATIVE and isinstance(policy, SchedulePolicy)
    pins = kind is Kind.SNAPSHOT and keeps_base(configuration, policy)
    start = now + timedelta(microseconds=1)
    due = agenda(configuration, policy, region, start, until, points) if runs else ()
    ahead = [(slot.at, slot) for slot in due]
    passes = [(at, None) for at in retention_passes(configuration, policy, start, until)]
    sla = isinstance(policy, SlaPolicy)
    chain = _as_points(each for each in points if not (sla and each.temporary))
    existing = {each.point_id for each in chain}
    found = [*_let_go(points, ahead)] if sla and kind is Kind.SNAPSHOT else []
    compared = base
    for at, slot in sorted([*ahead, *passes], key=lambda each: (each[0], each[1] is not None)):
        if slot is not None and kind in (slot.flags if sla else slot.products):
            chain.append(_Point(f"slot {at.isoformat()}", at, slot.flags_of(kind)))
        if slot is not None and Kind.BACKUP in slot.products:
            base = f"slot {at.isoformat()}"
        if slot is not None and not by_session:
            continue
        # An SLA-based policy lets go of a base one pass later: it was the base when the pass before ran.
        pinned = [base] if by_session else [base, compared]
        compared = base
        verdicts = {each.point_id: each for each in judge(chain, rule, at, pinned=pinned if pins else [])}
        young = at - _DAY if slot is None and kind in _NATIVE else at
        gone = [each for each in chain if verdicts[each.point_id].remove and each.taken_at <= young]
        left = {each.point_id for each in gone}
        found += [
            Removal(
                each.point_id, kind, each.taken_at, at, verdicts[each.point_id].reason, _gone_at(kind, at)
            )
            for each in gone
            if each.point_id in existing
        ]
        chain = [
            each if verdicts[each.point_id].remove else replace(each, flags=verdicts[each.point_id].flags)
            for each in chain
            if each.point_id not in left
        ]
        if existing.isdisjoint(each.point_id for each in chain):
            break
    return tuple(found)


def _let_go(points: Iterable[RestorePoint], ahead: Iterable[tuple[datetime, Slot]]) -> Iterator[Removal]:
    """Temporary snapshots of an SLA-based policy: the next backup compares with them, and lets them go."""
    at = next((at for at, slot in ahead if Kind.BACKUP in slot.flags), None)
    for each in points:
        if each.temporary and at is not None:
            yield Removal(
                each.point_id, Kind.SNAPSHOT, each.taken_at, at, "temporary, until the next backup", at
            )


def _gone_at(kind: Kind, at: datetime) -> datetime:
    """When a point that is judged expired at ``at`` is gone: backups are noted first, deleted a day later."""
    return at if kind in _NATIVE else at + _DAY


def _obsolete(
    configuration: Configuration, kind: Kind, chain: Sequence[RestorePoint], now: datetime, until: datetime
) -> Iterator[Removal]:
    """Snapshots and replicas of an instance that no policy processes, as the daily retention removes them."""
    zone, rule = ZoneInfo(configuration.service_time_zone), configuration.obsolete_snapshots
    left = list(chain)
    at = retention_pass(now + timedelta(microseconds=1), zone)
    while at < until and left:
        verdicts = {each.point_id: each for each in judge_obsolete(left, rule, at, zone, protected=False)}
        for each in left:
            if verdicts[each.point_id].remove:
                yield Removal(each.point_id, kind, each.taken_at, at, verdicts[each.point_id].reason, at)
        left = [each for each in left if not verdicts[each.point_id].remove]
        at = retention_pass(at + _DAY / 2, zone)


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

    Without an owner its restore points go on ageing by the policy that would own it if it were enabled, and
    backups by the one that made them; where there is none, snapshots and replicas are obsolete.
    """
    said = opinions(configuration, instance, place)
    owner = next((each.policy for each in said if each.owns), "")
    policy = configuration.policy(owner) if owner else None
    ruler = ruler_of(configuration, instance, place)
    chains: dict[tuple[Kind, str, str, str], list[RestorePoint]] = {}
    for point in points:
        chains.setdefault((point.kind, point.repository, point.account, point.region), []).append(point)
    every = [point for chain in chains.values() for point in chain]
    base, until = _base(chains), now + horizon
    removals: list[Removal] = []
    for (kind, *_), chain in chains.items():
        rules = judge_of(configuration, ruler, kind, instance.region, chain)
        if rules:
            runs = policy is not None and rules.name == policy.name
            removals += forecast(
                configuration, rules, kind, instance.region, chain, now, until, base, runs=runs
            )
        elif kind in _NATIVE and ruler.standing is Standing.OBSOLETE:
            removals += _obsolete(configuration, kind, chain, now, until)
    removals.sort(key=lambda each: (each.at, each.taken_at, each.kind))
    return Explanation(
        instance.instance_id,
        owner,
        said,
        next_of(configuration, policy, instance.region, now, count, every) if policy else (),
        tuple(removals),
        earned=isinstance(policy, SlaPolicy),
    )


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
