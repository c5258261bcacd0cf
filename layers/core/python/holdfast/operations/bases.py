"""When the snapshot that a backup of an SLA-based policy was compared with stops being a base.

A temporary one goes when the comparison is over. One that the template keeps stays marked for the retention
pass of the day on which the next backup was made, and is released by the first session of a later day.
Source: policies.md 5, vectors CBT-2 and CBT-3.
"""

from __future__ import annotations

from holdfast.model import tags as names
from holdfast.model.configuration import AnyPolicy, SlaPolicy
from holdfast.model.ids import slot_of
from holdfast.model.restore_point import Kind
from holdfast.operations.flags import window_day
from holdfast.operations.services import Services
from holdfast.operations.snapshot_retention import Sets
from holdfast.operations.steps import InstanceStep
from holdfast.planning.protection import repository_for, template_of, zone_of
from holdfast.ports import Spoke, VolumeSnapshot


def waits_for_the_pass(policy: AnyPolicy, snapshot: VolumeSnapshot) -> bool:
    """Whether the mark of an earlier base stays when a backup has been made."""
    kept = snapshot.tags.get(names.KIND) == Kind.SNAPSHOT.value
    return isinstance(policy, SlaPolicy) and kept


def release_bases(
    sets: Sets, policy: SlaPolicy, step: InstanceStep, spoke: Spoke, services: Services
) -> Sets:
    """Take the mark off former bases, when the newest backup is of an earlier day than this session.

    Returns the sets with the tags that they have then.
    """
    template = template_of(services.configuration, policy)
    zone = zone_of(services.configuration, policy, step.region)
    repository = repository_for(services.configuration, policy, step.region)
    newest = [
        point
        for point in services.catalog.points(step.instance_id, Kind.BACKUP)
        if point.repository == repository and point.complete
    ][-1:]
    slot = slot_of(newest[0].session_id) if newest else None
    if slot is None:
        return sets
    made_on = window_day(template, Kind.BACKUP, slot, zone) or slot.astimezone(zone).date()
    today = window_day(template, Kind.SNAPSHOT, step.slot, zone) or step.slot.astimezone(zone).date()
    if made_on >= today:
        return sets
    needed = set(newest[0].snapshot_ids.values())
    return {
        point_id: [_released(one, spoke) if one.snapshot_id not in needed else one for one in snapshots]
        for point_id, snapshots in sets.items()
    }


def _released(snapshot: VolumeSnapshot, spoke: Spoke) -> VolumeSnapshot:
    if names.BASE not in snapshot.tags:
        return snapshot
    spoke.untag_snapshot(snapshot.snapshot_id, [names.BASE])
    tags = {key: value for key, value in snapshot.tags.items() if key != names.BASE}
    return snapshot._replace(tags=tags)
