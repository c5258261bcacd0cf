"""Verdicts of a retention pass on the chain of one instance, and the marks of bases that it lifts.

What is younger than a day, or is being read, is left to its session. Which snapshots the next backup compares
with is read before anything is judged; only afterwards the mark of those is lifted that no backup needs any
more, so that they go with the pass after this one. Source: policies.md 5; vector CBT-2.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from typing import Final
from zoneinfo import ZoneInfo

from holdfast.errors import SourceGoneError
from holdfast.model import tags as names
from holdfast.model.configuration import AnyPolicy
from holdfast.model.restore_point import Kind, RestorePoint
from holdfast.operations.retention.retention_in_force import InForce
from holdfast.operations.retention.snapshot_retention import Chain, Judge, Sets, needed_points, points_in_use
from holdfast.operations.services import Services
from holdfast.planning.confirmation import agreed
from holdfast.planning.protection import keeps_base, repository_for, rule_of
from holdfast.planning.retention import Rule, Verdict, judge, judge_obsolete
from holdfast.ports import Spoke

log = logging.getLogger(__name__)

SETTLED_AFTER: Final = timedelta(hours=24)
"""Younger sets are their session's."""
Spared = Callable[[Iterable[str]], None]
"""Is told the points that only a retention removes which nobody has confirmed."""


def by_policy(
    policy: AnyPolicy, region: str, force: InForce, spared: Spared, chain: Chain, services: Services
) -> Judge:
    """Verdicts by the retention of the policy under which the instance of ``region`` stands."""
    configuration = services.configuration
    rules = force.rules(rule_of(configuration, policy, chain.kind, region))
    pins = chain.kind is Kind.SNAPSHOT and keeps_base(configuration, policy)
    repository = repository_for(configuration, policy, region) if pins else ""

    def judged(points: list[RestorePoint], sets: Sets) -> Iterator[Verdict]:
        pinned = points_in_use(sets, services.clock.now())
        if pins:
            pinned.update(needed_points(points, sets, repository, chain, services))
        now = services.clock.now()
        inside = [point for point in points if not point.temporary]
        verdicts, held = agreed([judge(inside, rule, now, pinned=pinned) for rule in rules])
        spared(held)
        beside = _temporary(points, rules[0], pinned, services)
        yield from _settled((*verdicts, *beside), sets, services)

    return judged


def as_obsolete(force: InForce, spared: Spared, services: Services) -> Judge:
    """Verdicts by the global rule on restore points whose instance certainly stands in no policy."""
    zone = ZoneInfo(services.configuration.service_time_zone)
    held = [one.obsolete for one in force.held] if force.waiting else []
    rules = [services.configuration.obsolete_snapshots, *held]

    def judged(points: list[RestorePoint], sets: Sets) -> Iterator[Verdict]:
        now, used = services.clock.now(), points_in_use(sets, services.clock.now())
        inside = [point for point in points if not point.temporary and point.point_id not in used]
        verdicts, only_first = agreed(
            [judge_obsolete(inside, rule, now, zone, protected=False) for rule in rules]
        )
        spared(only_first)
        beside = _temporary(points, Rule({}, zone, 0), used, services)
        yield from _settled((*verdicts, *beside), sets, services)

    return judged


def nothing(points: list[RestorePoint], sets: Sets) -> tuple[Verdict, ...]:
    """No verdict: whose the instance is, is not known."""
    return ()


def lift_marks(chain: Chain, sets: Sets, spoke: Spoke, services: Services) -> None:
    """Lift the mark of bases from sets that are older than what the newest backup was made of."""
    marked = [
        (point_id, one) for point_id, snapshots in sets.items() for one in snapshots if names.BASE in one.tags
    ]
    if not marked:
        return
    newest: dict[str, RestorePoint] = {}
    for point in services.catalog.points(chain.instance_id, Kind.BACKUP):
        if point.complete:
            newest[point.repository] = max(point, newest.get(point.repository, point), key=_age)
    for point_id, one in marked:
        backup = newest.get(one.tags[names.BASE])
        if backup is None or backup.point_id <= point_id or one.snapshot_id in backup.snapshot_ids.values():
            continue
        try:
            spoke.untag_snapshot(one.snapshot_id, [names.BASE])
        except SourceGoneError:
            log.info("%s is gone already", one.snapshot_id)


def _age(point: RestorePoint) -> str:
    return point.point_id


def _temporary(
    points: Iterable[RestorePoint], rule: Rule, pinned: set[str], services: Services
) -> tuple[Verdict, ...]:
    """Temporary snapshots belong to no chain: they stay while a backup reads or needs them."""
    beside = [point for point in points if point.temporary]
    return judge(beside, rule, services.clock.now(), pinned=pinned, protected=False)


def _settled(verdicts: Iterable[Verdict], sets: Sets, services: Services) -> Iterator[Verdict]:
    """Verdicts on sets that no session can be working on any more."""
    now = services.clock.now()
    for verdict in verdicts:
        if now - max(one.started_at for one in sets[verdict.point_id]) >= SETTLED_AFTER:
            yield verdict
