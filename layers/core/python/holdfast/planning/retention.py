"""Which restore points lose flags and which are removed, with a reason for each.

A point is removed only when no flag is left on it and nothing pins it: the snapshot that the next backup
compares with, the newest valid points of a protected instance, and whatever is kept until a date stay. A
flag that the policy no longer knows is not a reason to remove anything. Source: policies.md 3.1, 5, 6;
decisions.md.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import groupby, islice
from operator import attrgetter
from typing import NamedTuple, Protocol
from zoneinfo import ZoneInfo

from holdfast.model.configuration import ObsoleteSnapshots, SchedulePolicy
from holdfast.model.restore_point import Flag, Kind, RestorePoint
from holdfast.model.schedules import Keep
from holdfast.planning.calendar import kept_until, longest_days, shortest_days

_NONE: frozenset[Flag] = frozenset()
_COUNTED = (Kind.SNAPSHOT, Kind.REPLICA)
_FLAGS = tuple(Flag)
_BEGINNING = datetime.min.replace(tzinfo=UTC)
_NAMES: Mapping[Flag, str] = {
    Flag.DAILY: "daily",
    Flag.WEEKLY: "weekly",
    Flag.MONTHLY: "monthly",
    Flag.YEARLY: "yearly",
}


class Judged(Protocol):
    """What retention looks at in a restore point (``RestorePoint`` has it)."""

    @property
    def point_id(self) -> str: ...
    @property
    def taken_at(self) -> datetime: ...
    @property
    def flags(self) -> frozenset[Flag]: ...
    @property
    def manual(self) -> bool: ...
    @property
    def keep_until(self) -> datetime | None: ...
    @property
    def complete(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class Rule:
    """What one chain keeps: per flag a number of points, or a time.

    ``fallback`` applies to flags without a rule of their own (SLA: the whole earlier chain ages by the
    template); without it such flags stay. ``keep_last`` newest complete points are not removed by age alone.
    """

    keep: Mapping[Flag, int | Keep] = field(hash=False)
    zone: ZoneInfo
    keep_last: int = 1
    fallback: Keep | None = None


class Verdict(NamedTuple):
    """What happens to one restore point. ``flags`` are those it keeps, ``unassigned`` those it loses now."""

    point_id: str
    remove: bool
    reason: str
    flags: frozenset[Flag] = _NONE
    unassigned: frozenset[Flag] = _NONE


def rule_for(policy: SchedulePolicy, kind: Kind) -> Rule:
    """What a schedule-based policy keeps of one kind, by schedules that are switched off too."""
    keep: dict[Flag, int | Keep] = {}
    for flag, schedule in (
        (Flag.DAILY, policy.daily),
        (Flag.WEEKLY, policy.weekly),
        (Flag.MONTHLY, policy.monthly),
        (Flag.YEARLY, policy.yearly),
    ):
        name = "archive" if kind is Kind.ARCHIVE else f"{kind.value}s"
        product = getattr(schedule, name, None)
        if product is not None:
            keep[flag] = product.keep
        elif flag is Flag.YEARLY and schedule and kind in _COUNTED:
            keep[flag] = 1  # No slot gives a snapshot this flag, but a manual run of a yearly policy does.
    return Rule(keep, ZoneInfo(policy.time_zone), policy.keep_last)


def keeps_cbt_base(policy: SchedulePolicy) -> bool:
    """Whether the base of changed block tracking is kept: backups are on, a schedule keeps snapshots."""
    counts = [
        count for flag, count in rule_for(policy, Kind.SNAPSHOT).keep.items() if flag is not Flag.YEARLY
    ]
    return bool(policy.repository) and any(isinstance(count, int) and count > 0 for count in counts)


class _Count(NamedTuple):
    """A flag that so many complete points keep; ``place`` is that of its counter."""

    place: int
    limit: int


class _Age(NamedTuple):
    """A flag that is kept for a time. Only between the two bounds the calendar has to be asked."""

    place: int
    keep: Keep
    gone_if_taken_at: datetime
    kept_if_taken_after: datetime


class _Plan(NamedTuple):
    """What decides over the flags of points that carry the same ones."""

    flags: frozenset[Flag]
    counts: tuple[_Count, ...]
    ages: tuple[_Age, ...]


def _plan(flags: frozenset[Flag], rule: Rule, now: datetime) -> _Plan:
    counts, ages = [], []
    for place, flag in enumerate(_FLAGS):
        keep = rule.keep.get(flag, rule.fallback) if flag in flags else None
        if isinstance(keep, int):
            counts.append(_Count(place, keep))
        elif keep is not None:
            longest, shortest = (timedelta(days=days) for days in (longest_days(keep), shortest_days(keep)))
            ages.append(_Age(place, keep, _before(now, longest), _before(now, shortest)))
    return _Plan(flags, tuple(counts), tuple(ages))


def _before(now: datetime, span: timedelta) -> datetime:
    return now - span if span < now - _BEGINNING else _BEGINNING


def _lapsed(ordered: Sequence[Judged], rule: Rule, now: datetime) -> list[tuple[_Plan, int]]:
    """For each point its plan and, as bits by place, the flags that it loses."""
    plans: dict[frozenset[Flag], _Plan] = {}
    newer = [0] * len(_FLAGS)
    found: list[tuple[_Plan, int]] = []
    for point in reversed(ordered):
        flags = point.flags
        plan = plans.get(flags)
        if plan is None:
            plan = plans[flags] = _plan(flags, rule, now)
        lost = 0
        for place, limit in plan.counts:
            if newer[place] >= limit:
                lost |= 1 << place
            newer[place] += point.complete
        for place, keep, gone, kept in plan.ages:
            taken_at = point.taken_at
            if taken_at <= gone or (taken_at <= kept and now >= kept_until(taken_at, keep, rule.zone)):
                lost |= 1 << place
        found.append((plan, lost))
    found.reverse()
    return found


def _lapse(rule: Rule, flags: frozenset[Flag]) -> str:
    """Why these flags were lost."""
    parts = []
    for flag in _FLAGS:
        if flag in flags:
            keep = rule.keep.get(flag, rule.fallback)
            limit = f"the newest {keep}" if isinstance(keep, int) else str(keep)
            parts.append(f"the {_NAMES[flag]} schedule keeps {limit}")
    return ", ".join(parts)


class _Loss(NamedTuple):
    """What losing some of its flags means for a point; the same for all that carry and lose the same ones."""

    left: frozenset[Flag]
    lost: frozenset[Flag]
    kept_by: str
    gone_by: str
    told: bool


def _loss(plan: _Plan, bits: int, rule: Rule) -> _Loss:
    lost = frozenset(flag for place, flag in enumerate(_FLAGS) if bits >> place & 1)
    left = plan.flags - lost
    names = " and ".join(_NAMES[flag] for flag in _FLAGS if flag in left)
    gone_by = _lapse(rule, lost) if lost else "no schedule keeps it"
    told = any(isinstance(rule.keep.get(flag), int) for flag in lost)
    return _Loss(left, lost, f"kept by the {names} schedule", gone_by, told)


def _newest(ordered: Sequence[Judged], count: int) -> set[str]:
    """The ids of the ``count`` newest complete points of the chain, not the manual and temporary ones."""
    inside = (p for p in reversed(ordered) if p.complete and (p.flags or not (p.manual or p.keep_until)))
    return {point.point_id for point in islice(inside, count)}


def _dated(point: Judged, now: datetime) -> Verdict | None:
    """The verdict on a point outside schedules (manual or temporary), or that is held until a date."""
    if point.keep_until is not None and now < point.keep_until:
        return Verdict(
            point.point_id, False, f"kept until {point.keep_until:%Y-%m-%d %H:%M} UTC", point.flags
        )
    if point.flags:
        return None
    if point.keep_until is not None:
        return Verdict(point.point_id, True, f"was kept until {point.keep_until:%Y-%m-%d %H:%M} UTC")
    return Verdict(point.point_id, False, "manual, kept until removed by hand") if point.manual else None


def judge(
    points: Iterable[Judged],
    rule: Rule,
    now: datetime,
    *,
    pinned: Collection[str] = (),
    protected: bool = True,
) -> tuple[Verdict, ...]:
    """Verdicts on one chain (one instance, kind and place), oldest first. Repeating it changes nothing.

    ``pinned`` are ids of points that changed block tracking still compares with: with schedules the new
    base after the session's comparison, with SLA policies the base as of before the session. ``protected``
    says whether a policy still processes the instance.
    """
    ordered = _in_order(points)
    spared = _newest(ordered, rule.keep_last) if protected else ()
    losses: dict[tuple[int, int], _Loss] = {}
    verdicts = []
    for point, (plan, bits) in zip(ordered, _lapsed(ordered, rule, now), strict=True):
        dated = _dated(point, now) if point.keep_until is not None or not plan.flags else None
        if dated is not None:
            verdicts.append(dated)
            continue
        loss = losses.get((id(plan), bits))
        if loss is None:
            loss = losses[(id(plan), bits)] = _loss(plan, bits, rule)
        if loss.left:
            verdicts.append(Verdict(point.point_id, False, loss.kept_by, loss.left, loss.lost))
        else:
            verdicts.append(_without_flags(point.point_id, loss, pinned, spared))
    return tuple(verdicts)


def _in_order(points: Iterable[Judged]) -> list[Judged]:
    """By time, and by id where the time is the same."""
    return sorted(sorted(points, key=attrgetter("point_id")), key=attrgetter("taken_at"))


def _without_flags(point_id: str, loss: _Loss, pinned: Collection[str], spared: Collection[str]) -> Verdict:
    if point_id in pinned:
        return Verdict(point_id, False, "kept for changed block tracking", _NONE, loss.lost)
    if point_id in spared and not loss.told:
        return Verdict(point_id, False, "the newest restore point of a protected instance", _NONE, loss.lost)
    return Verdict(point_id, True, loss.gone_by, _NONE, loss.lost)


def chains(points: Iterable[RestorePoint]) -> Iterator[tuple[tuple[str, ...], list[RestorePoint]]]:
    """The chains among restore points: by account, Region, instance, kind and repository, in that order."""
    key = attrgetter("account", "region", "instance_id", "kind", "repository")
    for of_chain, found in groupby(sorted(points, key=key), key):
        yield of_chain, list(found)


def judge_obsolete(
    points: Iterable[Judged], rule: ObsoleteSnapshots, now: datetime, zone: ZoneInfo, *, protected: bool
) -> tuple[Verdict, ...]:
    """Verdicts on snapshots and replicas of one instance that stands in no policy, by the global rule.

    ``protected`` (some policy processes the instance) leaves every one of them to that policy. Manual ones
    keep their own time.
    """
    keep = Keep(days=rule.days, months=rule.months) if rule.mode == "after" else None
    found = []
    for point in _in_order(points):
        if protected:
            verdict = Verdict(point.point_id, False, "a policy processes the instance", point.flags)
        elif dated := _dated(point, now):
            verdict = dated
        elif keep is None:
            verdict = Verdict(point.point_id, False, "obsolete snapshots are never removed", point.flags)
        elif now >= kept_until(point.taken_at, keep, zone):
            reason = f"no policy processes the instance, and obsolete snapshots are kept for {keep}"
            verdict = Verdict(point.point_id, True, reason)
        else:
            verdict = Verdict(point.point_id, False, f"obsolete, kept for {keep}", point.flags)
        found.append(verdict)
    return tuple(found)
