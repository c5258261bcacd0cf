"""The flags of what a session makes of one instance.

Flags of schedules are known when a slot is; flags of an SLA template are earned: the first restore point of a
weekly or monthly day that succeeds carries them, so they are asked for where a product is made. Source:
policies.md 3.1, 4.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date, datetime
from zoneinfo import ZoneInfo

from holdfast.model.configuration import SlaPolicy, SlaTemplate
from holdfast.model.ids import slot_of
from holdfast.model.restore_point import Flag, Kind
from holdfast.operations.replicas.copying import works_of
from holdfast.operations.services import Services
from holdfast.operations.steps import InstanceStep, find_policy
from holdfast.planning.protection import template_of, zone_of
from holdfast.planning.sla import day_of_slot, earned_flags, replica_due

_PERIODS: Mapping[str, Flag] = {"day": Flag.DAILY, "week": Flag.WEEKLY, "month": Flag.MONTHLY}


def flags_due(step: InstanceStep, kind: Kind, services: Services) -> frozenset[Flag]:
    """The flags of what this step makes; none for a temporary snapshot, or when no SLA replica is due."""
    policy = find_policy(services.configuration, step.policy)
    if not isinstance(policy, SlaPolicy):
        return step.flags(kind)
    template, zone = (
        template_of(services.configuration, policy),
        zone_of(services.configuration, policy, step.region),
    )
    if kind is Kind.REPLICA:
        return _replica_flags(step, template, zone, services)
    cadences = template.snapshots if kind is Kind.SNAPSHOT else template.backups
    day = window_day(template, kind, step.slot, zone)
    if cadences is None or day is None or (kind is Kind.SNAPSHOT and step.temporary):
        return frozenset()
    taken: set[Flag] = set()
    for point in services.catalog.points(step.instance_id, kind):
        own = point.point_id == step.point_id or point.policy != step.policy or not point.complete
        slot = None if own else slot_of(point.session_id)
        if slot is not None and window_day(template, kind, slot, zone) == day:
            taken |= point.flags
    return earned_flags(cadences, day, taken)


def _replica_flags(
    step: InstanceStep, template: SlaTemplate, zone: ZoneInfo, services: Services
) -> frozenset[Flag]:
    """The flag of the period whose first snapshot this is.

    When the first one could not be replicated, the next one of the same period is.
    """
    day = window_day(template, Kind.SNAPSHOT, step.slot, zone)
    if template.replicas is None or day is None or step.temporary:
        return frozenset()
    earlier = [
        window_day(template, Kind.SNAPSHOT, slot, zone)
        for session_id in _replicated(step, services)
        if (slot := slot_of(session_id)) is not None
    ]
    if not replica_due(template.replicas, day, [one for one in earlier if one is not None]):
        return frozenset()
    return frozenset({_PERIODS[template.replicas.every]})


def _replicated(step: InstanceStep, services: Services) -> Iterator[str]:
    """Other sessions of the policy that made a replica of this instance, or are making one."""
    now = services.clock.now()
    for point in services.catalog.points(step.instance_id, Kind.REPLICA):
        if point.complete and point.policy == step.policy and point.point_id != step.point_id:
            yield point.session_id
    for work in works_of(step.instance_id, services):
        under_way = work.policy == step.policy and not (work.given_up or work.is_dead(now))
        if under_way and work.point_id != step.point_id:
            yield work.session_id


def window_day(template: SlaTemplate, kind: Kind, at: datetime, zone: ZoneInfo) -> date | None:
    """The local date on which the window of ``kind`` opened that ``at`` belongs to; None outside of it."""
    return day_of_slot(template, kind, at, zone)
