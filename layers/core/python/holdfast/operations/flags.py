"""The flags of what a session makes of one instance.

Flags of schedules are known when a slot is; flags of an SLA template are earned: the first restore point of a
weekly or monthly day that succeeds carries them, so they are asked for where a product is made. Source:
policies.md 3.1, 4.
"""

from __future__ import annotations

from datetime import date, datetime
from zoneinfo import ZoneInfo

from holdfast.model.configuration import SlaPolicy, SlaTemplate
from holdfast.model.ids import slot_of
from holdfast.model.restore_point import Flag, Kind
from holdfast.operations.services import Services
from holdfast.operations.steps import InstanceStep, find_policy
from holdfast.planning.protection import template_of, zone_of
from holdfast.planning.sla import earned_flags, is_open


def flags_due(step: InstanceStep, kind: Kind, services: Services) -> frozenset[Flag]:
    """The flags of the snapshot or backup that this step makes; none for a temporary snapshot."""
    policy = find_policy(services.configuration, step.policy)
    if not isinstance(policy, SlaPolicy):
        return step.flags(kind)
    template, zone = (
        template_of(services.configuration, policy),
        zone_of(services.configuration, policy, step.region),
    )
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


def window_day(template: SlaTemplate, kind: Kind, at: datetime, zone: ZoneInfo) -> date | None:
    """The local date on which the window of ``kind`` that is open at ``at`` opened; None outside of it."""
    window = template.snapshot_window if kind is Kind.SNAPSHOT else template.backup_window
    return is_open(window, zone, at)
