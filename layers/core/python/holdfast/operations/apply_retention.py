"""Removes the snapshots of one instance that its policy no longer keeps.

The snapshots' own tags say what there is, the catalog has to agree, planning judges. A restore point that
goes is first given up in the catalog (marked incomplete), so that nobody is offered one while it loses its
volumes; remains of a set that never became whole are given up in one pass and removed in a later one.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import Any

from holdfast.model import tags as names
from holdfast.model.configuration import AnyPolicy, SlaPolicy
from holdfast.model.restore_point import Flag, Kind, RestorePoint
from holdfast.model.session import Problem, State
from holdfast.model.tags import encode_flags
from holdfast.operations.conclude_instance import read_outcome, with_problems, write_outcome
from holdfast.operations.removal import Doomed, remove_snapshots
from holdfast.operations.services import Services
from holdfast.operations.snapshot_sets import by_call, point_of
from holdfast.operations.steps import InstanceStep, find_policy
from holdfast.planning.protection import keeps_base, repository_for, rule_of
from holdfast.planning.retention import Verdict, judge
from holdfast.ports import Spoke, VolumeSnapshot

log = logging.getLogger(__name__)

ABANDONED_AFTER = timedelta(hours=24)
"""A set that is not whole after this time belongs to no session any more."""

Sets = dict[str, list[VolumeSnapshot]]


class ApplyRetention(InstanceStep):
    """An instance's event."""


def apply_retention(request: ApplyRetention, services: Services) -> dict[str, Any]:
    """Judge the snapshots of this instance and policy, and carry the verdicts out."""
    policy = find_policy(services.configuration, request.policy)
    spoke, now = services.spoke(request.policy, request.account, request.region), services.clock.now()
    sets = _sets(request, spoke, services)
    recorded = {point.point_id: point for point in _recorded(request, services)}
    whole, remains, surplus = _sorted(sets, recorded, request, services)
    for point in whole:
        if point.point_id not in recorded:  # The catalog lost it; it is judged from the next pass on.
            services.catalog.add_point(point)
    flags = {point.point_id: _flags(sets[point.point_id]) for point in whole}
    judged = [
        point.model_copy(update={"flags": recorded[point.point_id].flags.union(*told)})
        for point in whole
        if _agrees(point, recorded) and (told := flags[point.point_id])
    ]
    pinned = _pinned(judged, sets, policy, request, services)
    problems = [_in_doubt(point_id) for point_id, told in flags.items() if not told]
    removed = 0
    for verdict in _verdicts(judged, policy, pinned, request, services):
        point = recorded[verdict.point_id]
        if _is_edited(point, flags[point.point_id], verdict):
            problems.append(_in_doubt(point.point_id))
        if verdict.remove and flags[point.point_id] == {point.flags}:
            failed = _remove(point, sets[point.point_id], verdict.reason, policy, request, spoke, services)
            removed += not failed
            problems += failed
        elif verdict.remove:
            log.warning("%s is kept: its flags were edited", point.point_id)
        elif verdict.unassigned:
            _reflag(point, sets[point.point_id], verdict, spoke, services)
        elif not point.complete:  # It was given up, nothing of it is gone, and now it is kept.
            services.catalog.add_point(point.model_copy(update={"complete": True}))
    for snapshots in surplus:
        problems += _remove_surplus(snapshots, request, spoke, services)
    for point_id, snapshots in remains.items():
        problems += _settle(recorded.get(point_id), snapshots, request, spoke, services)
    _forget_gone(recorded.values(), sets, spoke, now, services)
    outcome = read_outcome(request, services)
    if problems and outcome:
        write_outcome(request, with_problems(outcome, problems), services)
    return {"removed": removed, "kept": len(whole) - removed, "problems": len(problems)}


def _verdicts(
    points: list[RestorePoint],
    policy: AnyPolicy,
    pinned: set[str],
    request: InstanceStep,
    services: Services,
) -> Iterator[Verdict]:
    """Verdicts on the chain, and on temporary snapshots beside it: these count as nobody's newest point."""
    now = services.clock.now()
    rule = rule_of(services.configuration, policy, Kind.SNAPSHOT, request.region)
    if not isinstance(policy, SlaPolicy):  # Those of SLA templates are judged when the window has closed.
        yield from judge([point for point in points if not point.temporary], rule, now, pinned=pinned)
    beside = [point for point in points if point.temporary]
    yield from judge(beside, rule, now, pinned=pinned, protected=False)


def _sets(request: InstanceStep, spoke: Spoke, services: Services) -> Sets:
    """Our snapshots of this instance, made by this policy, by restore point."""
    wanted = {
        names.INSTALLATION: services.settings.installation,
        names.POLICY: request.policy,
        names.INSTANCE: request.instance_id,
    }
    sets: Sets = {}
    for one in spoke.find_snapshots(wanted):
        if one.tags.get(names.KIND) in (Kind.SNAPSHOT, names.MANUAL, names.TEMPORARY) and one.tags.get(
            names.POINT
        ):
            sets.setdefault(one.tags[names.POINT], []).append(one)
    return sets


def _recorded(request: InstanceStep, services: Services) -> Iterable[RestorePoint]:
    """What the catalog knows of the same chain."""
    for point in services.catalog.points(request.instance_id, Kind.SNAPSHOT):
        if (point.account, point.region, point.policy) == (request.account, request.region, request.policy):
            yield point


def _sorted(
    sets: Sets, recorded: dict[str, RestorePoint], request: InstanceStep, services: Services
) -> tuple[list[RestorePoint], Sets, list[list[VolumeSnapshot]]]:
    """Whole restore points, what is left of others, and sets that were made beside a whole one.

    Of several whole sets the one that the catalog knows is the restore point; ``sets`` is left with that one.
    """
    whole: list[RestorePoint] = []
    remains: Sets = {}
    surplus: list[list[VolumeSnapshot]] = []
    for point_id, snapshots in sorted(sets.items()):
        found = [(point, made) for made in by_call(snapshots) if (point := _read(made, request, services))]
        if not found:
            remains[point_id] = snapshots
            continue
        known = recorded[point_id].snapshot_ids if point_id in recorded else None
        point, sets[point_id] = next((one for one in found if one[0].snapshot_ids == known), found[0])
        whole.append(point)
        surplus += [made for made in by_call(snapshots) if made != sets[point_id]]
    return whole, remains, surplus


def _read(made: list[VolumeSnapshot], request: InstanceStep, services: Services) -> RestorePoint | None:
    return point_of(
        made,
        installation=services.settings.installation,
        account=request.account,
        region=request.region,
    )


def _agrees(point: RestorePoint, recorded: dict[str, RestorePoint]) -> bool:
    """Whether the catalog knows the point as made of the very same snapshots."""
    known = recorded.get(point.point_id)
    return known is not None and known.snapshot_ids == point.snapshot_ids


def _pinned(
    points: Iterable[RestorePoint],
    sets: Sets,
    policy: AnyPolicy,
    request: InstanceStep,
    services: Services,
) -> set[str]:
    """Points that a backup reads, or that the next one compares with: by tag, and by the newest backup."""
    now = services.clock.now()
    read = {
        point_id for point_id, found in sets.items() if any(names.is_in_use(one.tags, now) for one in found)
    }
    if not keeps_base(services.configuration, policy):
        return read
    repository = repository_for(services.configuration, policy, request.region)
    backups = [
        point
        for point in services.catalog.points(request.instance_id, Kind.BACKUP)
        if point.repository == repository and point.complete
    ]
    needed = set(backups[-1].snapshot_ids.values()) if backups else set()
    return read | {
        point.point_id
        for point in points
        if needed & set(point.snapshot_ids.values())
        or any(names.BASE in one.tags for one in sets[point.point_id])
    }


def _remove(
    point: RestorePoint,
    snapshots: list[VolumeSnapshot],
    reason: str,
    policy: AnyPolicy,
    request: InstanceStep,
    spoke: Spoke,
    services: Services,
) -> list[Problem]:
    """Give a restore point up, then remove its snapshots, then forget it."""
    services.catalog.add_point(point.model_copy(update={"complete": False}))
    if not keeps_base(services.configuration, policy):
        for one in snapshots:
            if names.BASE in one.tags:
                spoke.untag_snapshot(one.snapshot_id, [names.BASE])
    problems = remove_snapshots(Doomed(snapshots, reason), request, spoke, services)
    if not problems:
        services.catalog.remove_point(point)
    log.info("%s: restore point %s removed: %s", request.instance_id, point.point_id, reason)
    return problems


def _flags(snapshots: list[VolumeSnapshot]) -> set[frozenset[Flag]]:
    """What the tags of a set say about its flags; nothing when one of them cannot be read."""
    told = [names.read_flags(one.tags) for one in snapshots]
    return set() if None in told else {flags for flags in told if flags is not None}


def _is_edited(point: RestorePoint, told: set[frozenset[Flag]], verdict: Verdict) -> bool:
    """Whether the tags differ from the record, and not because taking flags off broke off halfway."""
    reflagged = verdict.unassigned and not verdict.remove
    return told != {point.flags} and not (reflagged and told <= {point.flags, verdict.flags})


def _settle(
    point: RestorePoint | None,
    snapshots: list[VolumeSnapshot],
    request: InstanceStep,
    spoke: Spoke,
    services: Services,
) -> list[Problem]:
    """Remains go when they were given up in an earlier pass; they are given up when nobody needs them."""
    if point is not None:
        return _clear(point, snapshots, request, spoke, services)
    if _is_abandoned(snapshots, services.clock.now()):
        services.catalog.add_point(_given_up(snapshots, request))
    return []


def _in_doubt(point_id: str) -> Problem:
    """Flags decide over what is removed: when they cannot be trusted, nothing is."""
    return Problem(
        code="FlagsChanged",
        message=f"The tag {names.FLAGS} of its snapshots is missing or differs from the catalog; it is kept.",
        resource=point_id,
        remedy="Put the tag right, or remove the snapshots by hand when nobody needs them.",
        severity=State.WARNING,
    )


def _remove_surplus(
    snapshots: list[VolumeSnapshot], request: InstanceStep, spoke: Spoke, services: Services
) -> list[Problem]:
    """Remove a set that was made beside a whole one, once no session can be working on it any more.

    Only a set that one of our calls marked as its own: whatever else carries our tags is left alone.
    """
    marked = all(names.SET in one.tags and names.BASE not in one.tags for one in snapshots)
    if not marked or not _is_abandoned(snapshots, services.clock.now()):
        return []
    return remove_snapshots(Doomed(snapshots, "Another set is this restore point."), request, spoke, services)


def _reflag(
    point: RestorePoint,
    snapshots: list[VolumeSnapshot],
    verdict: Verdict,
    spoke: Spoke,
    services: Services,
) -> None:
    """Write down the flags that are left, on the snapshots first: they are the truth."""
    for one in snapshots:
        spoke.tag_snapshot(one.snapshot_id, {names.FLAGS: encode_flags(verdict.flags)})
    services.catalog.add_point(point.model_copy(update={"flags": verdict.flags, "complete": True}))


def _is_abandoned(snapshots: list[VolumeSnapshot], now: datetime) -> bool:
    """Whether a set that is not whole is too old for any session or backup to be working on it."""
    pending = any(one.state == "pending" or names.is_in_use(one.tags, now) for one in snapshots)
    return not pending and now - max(one.started_at for one in snapshots) > ABANDONED_AFTER


def _given_up(snapshots: list[VolumeSnapshot], request: InstanceStep) -> RestorePoint:
    """A record of remains: nobody is offered it, and the next pass removes what it names."""
    first = min(snapshots, key=lambda one: one.started_at)
    return RestorePoint(
        point_id=first.tags[names.POINT],
        kind=Kind.SNAPSHOT,
        account=request.account,
        region=request.region,
        instance_id=request.instance_id,
        instance_name=request.instance_name,
        taken_at=first.started_at,
        session_id=first.tags.get(names.SESSION, ""),
        policy=request.policy,
        snapshot_ids={one.volume_id: one.snapshot_id for one in snapshots},
        complete=False,
    )


def _clear(
    point: RestorePoint,
    snapshots: list[VolumeSnapshot],
    request: InstanceStep,
    spoke: Spoke,
    services: Services,
) -> list[Problem]:
    """Remove the remains of a point that was given up; one damaged by other hands is left alone."""
    if point.complete:
        return [
            Problem(
                code="Incomplete",
                message="Somebody deleted or changed a snapshot of this restore point; the others are kept.",
                resource=point.point_id,
                remedy="Restore single volumes from what is left, or remove it by hand.",
                severity=State.WARNING,
            )
        ]
    problems = remove_snapshots(
        Doomed(snapshots, "The restore point was given up."), request, spoke, services
    )
    if not problems:
        services.catalog.remove_point(point)
    return problems


def _forget_gone(
    recorded: Iterable[RestorePoint], sets: Sets, spoke: Spoke, now: datetime, services: Services
) -> None:
    """Points whose snapshots somebody else deleted leave the catalog."""
    for point in recorded:
        if point.point_id in sets or now - point.taken_at < ABANDONED_AFTER:
            continue
        if not spoke.read_snapshots(sorted(point.snapshot_ids.values())):
            log.warning("the snapshots of %s were deleted by somebody else", point.point_id)
            services.catalog.remove_point(point)
