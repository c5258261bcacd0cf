"""Which restore points lose flags and which are removed, with a reason for each.

A point is removed only when no flag is left on it and nothing pins it: the snapshot that the next backup
compares with, the newest valid points of a protected instance, and whatever is kept until a date stay. A
flag that the policy no longer knows is not a reason to remove anything. Source: policies.md 3.1, 5, 6;
decisions.md.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import groupby, islice
from operator import attrgetter
from typing import Protocol
from zoneinfo import ZoneInfo

from holdfast.model.configuration import ObsoleteSnapshots, SchedulePolicy
from holdfast.model.restore_point import Flag, Kind, RestorePoint
from holdfast.model.schedules import Keep
from holdfast.planning.calendar import kept_until, shortest_days

_NONE: frozenset[Flag] = frozenset()
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


@dataclass(frozen=True, slots=True)
class Verdict:
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
    return Rule(keep, ZoneInfo(policy.time_zone), policy.keep_last)


def keeps_cbt_base(policy: SchedulePolicy) -> bool:
    """Whether the base of changed block tracking is kept: backups are on, a schedule keeps snapshots."""
    counts = rule_for(policy, Kind.SNAPSHOT).keep.values()
    return bool(policy.repository) and any(isinstance(count, int) and count > 0 for count in counts)


def _expired(point: Judged, keep: Keep, zone: ZoneInfo, now: datetime, sure: timedelta) -> bool:
    return now - point.taken_at >= sure and now >= kept_until(point.taken_at, keep, zone)


def _lapsed_by_count(ordered: Sequence[Judged], flag: Flag, count: int) -> Iterator[int]:
    """Indexes of points that have ``count`` newer complete points with the same flag."""
    newer = 0
    for index in range(len(ordered) - 1, -1, -1):
        point = ordered[index]
        if flag in point.flags:
            if newer >= count:
                yield index
            newer += point.complete


def _lapsed_by_age(
    ordered: Sequence[Judged], flag: Flag, keep: Keep, zone: ZoneInfo, now: datetime
) -> Iterator[int]:
    sure = timedelta(days=shortest_days(keep))
    for index, point in enumerate(ordered):
        if now - point.taken_at < sure:
            break
        if flag in point.flags and _expired(point, keep, zone, now, sure):
            yield index


def _lapsed(ordered: Sequence[Judged], rule: Rule, now: datetime) -> dict[int, frozenset[Flag]]:
    """Index -> flags that the point loses."""
    lost: dict[int, frozenset[Flag]] = {}
    for flag in Flag:
        keep = rule.keep.get(flag, rule.fallback)
        if isinstance(keep, int):
            found = _lapsed_by_count(ordered, flag, keep)
        elif keep is not None:
            found = _lapsed_by_age(ordered, flag, keep, rule.zone, now)
        else:
            continue
        for index in found:
            lost[index] = lost.get(index, _NONE) | {flag}
    return lost


def _spelled(flags: Iterable[Flag]) -> str:
    return " and ".join(_NAMES[flag] for flag in Flag if flag in flags)


def _lapse(rule: Rule, flags: frozenset[Flag]) -> str:
    """Why these flags were lost."""
    parts = []
    for flag in Flag:
        if flag in flags:
            keep = rule.keep.get(flag, rule.fallback)
            limit = f"the newest {keep}" if isinstance(keep, int) else str(keep)
            parts.append(f"the {_NAMES[flag]} schedule keeps {limit}")
    return ", ".join(parts)


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
    ordered = sorted(points, key=attrgetter("taken_at", "point_id"))
    lost = _lapsed(ordered, rule, now)
    spared = _newest(ordered, rule.keep_last) if protected else ()
    return tuple(
        _dated(point, now) or _verdict(point, lost.get(index, _NONE), rule, pinned, spared)
        for index, point in enumerate(ordered)
    )


def _verdict(
    point: Judged, lost: frozenset[Flag], rule: Rule, pinned: Collection[str], spared: Collection[str]
) -> Verdict:
    left = point.flags - lost
    if left:
        return Verdict(point.point_id, False, f"kept by the {_spelled(left)} schedule", left, lost)
    if point.point_id in pinned:
        return Verdict(point.point_id, False, "kept for changed block tracking", left, lost)
    told = any(isinstance(rule.keep.get(flag), int) for flag in lost)
    if point.point_id in spared and not told:
        return Verdict(point.point_id, False, "the newest restore point of a protected instance", left, lost)
    return Verdict(point.point_id, True, _lapse(rule, lost) if lost else "no schedule keeps it", left, lost)


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
    for point in sorted(points, key=attrgetter("taken_at", "point_id")):
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
