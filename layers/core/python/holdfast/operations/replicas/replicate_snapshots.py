"""The replica that a policy wants of a session's snapshots: started, waited for, and only then recorded.

Polled: every step starts what AWS takes now and looks at the rest. A replica of fewer than all volumes is
never recorded, and nothing here can undo the snapshots or the backup of the session.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from holdfast.errors import PermanentError
from holdfast.model import tags as names
from holdfast.model.configuration import AnyPolicy, SlaPolicy
from holdfast.model.ids import client_token
from holdfast.model.inventory import AttachedVolume, Instance
from holdfast.model.restore_point import Flag, Kind, RestorePoint
from holdfast.model.session import Problem
from holdfast.model.tags import encode_flags, slot_tag
from holdfast.operations.replicas.copying import (
    Place,
    Progress,
    Work,
    advance,
    clear_remains,
    finish,
    give_up,
    read_work,
    write_work,
)
from holdfast.operations.services import OnDemandServices
from holdfast.operations.sessions.flags import flags_due
from holdfast.operations.sessions.stop_marks import require_running
from holdfast.operations.sessions.take_snapshots import PATIENCE
from holdfast.operations.steps import SnapshotSet, find_policy
from holdfast.planning.replication import Copy, Refusal, is_default_key, mapping, plan_copy
from holdfast.planning.selection import Target
from holdfast.ports import VolumeSnapshot

log = logging.getLogger(__name__)

LONGEST_WAIT = 300
"""Seconds between two looks at most: a copy takes minutes to hours, and many may queue for a Region."""


class ReplicateSnapshots(SnapshotSet):
    """A complete set of snapshots, and how often it was looked at.

    ``abandon``: replication failed; only what was shared or made for it is taken back.
    """

    polls: int = 0
    abandon: bool = False


def replicate_snapshots(request: ReplicateSnapshots, services: OnDemandServices) -> dict[str, Any]:
    """Start missing copies, look at those under way, and say whether to come again.

    Raises SourceGoneError, PermanentError (a copy ended in error, or the session's time is over),
    StoppedError, AccessDeniedError, KeyUnavailableError, ConfigurationError.
    """
    policy = find_policy(services.configuration, request.policy)
    work = read_work(request.instance_id, request.point_id, services)
    if request.abandon:
        return _answer(request, problems=give_up(work, services) if work else ())
    if _is_recorded(request, services):
        return _answer(
            request, made=True, problems=finish(work, Progress(done=True), services) if work else ()
        )
    require_running(
        request.session_id, services.catalog, "No replica was made.", resource=request.instance_id
    )
    if work is None or work.given_up:
        begun = _begin(request, policy, work, services)
        if not isinstance(begun, Work):
            return _answer(request, due=begun is not None, problems=[begun] if begun else ())
        work = write_work(begun, services)
    work, progress = advance(work, services)
    if progress.done:
        _record(request, work, progress.copies, services)
        problems = finish(work, progress, services)
        problems += clear_remains(
            request.instance_id, services, source=work.source if work.transfer_keys else None
        )
        return _answer(request, made=True, problems=problems)
    if services.clock.now() - request.slot > PATIENCE:
        raise _too_late(work, len(progress.copies), progress.queued)
    since = work.queued_since.isoformat() if work.queued_since else None
    return _answer(request, done=False, copies=progress.copies, queued=progress.queued, queued_since=since)


def _answer(
    request: ReplicateSnapshots,
    *,
    done: bool = True,
    due: bool = True,
    made: bool = False,
    copies: Mapping[str, VolumeSnapshot] | None = None,
    queued: int = 0,
    queued_since: str | None = None,
    problems: Sequence[Problem] = (),
) -> dict[str, Any]:
    return {
        "done": done,
        "due": due,
        "made": made,
        "wait_seconds": 0 if done else min(LONGEST_WAIT, 15 << min(request.polls, 5)),
        "polls": request.polls + 1,
        "copies": {volume_id: one.snapshot_id for volume_id, one in sorted((copies or {}).items())},
        "queued": queued,
        "queued_since": queued_since,
        "problems": [problem.model_dump(mode="json") for problem in problems],
    }


def _too_late(work: Work, made: int, queued: int) -> PermanentError:
    place = f"account {work.target.account}, {work.target.region}"
    waiting = f"; {queued} have waited for a place there since {work.queued_since}" if queued else ""
    return PermanentError(
        f"The session's time is over, and only {made} of {len(work.snapshots)} copies were begun in "
        f"{place}{waiting}.",
        resource=work.instance_id,
        remedy="Spread replicas over more hours, Regions or accounts: AWS copies 20 snapshots into a Region "
        "of an account at a time.",
    )


def _is_recorded(request: ReplicateSnapshots, services: OnDemandServices) -> bool:
    """Whether an earlier step or attempt made the replica of this restore point."""
    return any(
        point.point_id == request.point_id and point.complete
        for point in services.catalog.points(request.instance_id, Kind.REPLICA)
    )


def _begin(
    request: ReplicateSnapshots, policy: AnyPolicy, before: Work | None, services: OnDemandServices
) -> Work | Problem | None:
    """What to copy where; a Problem when that cannot be, None when no replica is due.

    What ``before``, given up by an earlier attempt, asked AWS for may still show.
    """
    flags = flags_due(request, Kind.REPLICA, services)
    if isinstance(policy, SlaPolicy) and not flags:
        return None
    own = Place(
        account=request.account,
        region=request.region,
        role=policy.source.role or policy.source.organization,
    )
    spoke = services.spoke(request.policy, request.account, request.region)
    taken = {one.volume_id: one.snapshot_id for one in request.snapshots}
    seen = {one.snapshot_id: one for one in spoke.read_snapshots(sorted(taken.values()))}
    volumes = tuple(
        AttachedVolume(
            volume_id=one.volume_id,
            device=one.device,
            size_bytes=one.size_bytes,
            encrypted=seen[one.snapshot_id].encrypted,
            kms_key_arn=seen[one.snapshot_id].kms_key_arn,
        )
        for one in request.snapshots
        if one.snapshot_id in seen
    )
    default_keys = _default_keys(policy, own, volumes, services)
    instance = Instance(
        instance_id=request.instance_id, account=request.account, region=request.region, volumes=volumes
    )
    plan = plan_copy(services.configuration, policy, instance, Target(own.account, ""), default_keys)
    if isinstance(plan, Refusal):
        return Problem(
            code="NotReplicated",
            message=f"No replica was made: {plan.reason}.",
            resource=request.instance_id,
            remedy=plan.remedy,
            severity=plan.state,
        )
    there = mapping(policy, request.region)
    role = there.role if there and there.role else own.role
    # The same in every attempt: copies of an earlier one belong to the same set.
    set_id = client_token(request.point_id, plan.target.account, plan.region)[:16]
    return Work(
        point_id=request.point_id,
        instance_id=request.instance_id,
        session_id=request.session_id,
        policy=policy.name,
        source=own,
        target=Place(account=plan.target.account, region=plan.region, role=role),
        snapshots=taken,
        keys=_keys(plan, volumes),
        transfer_keys={
            volume.volume_id: plan.transfer_key_arn
            for volume in volumes
            if plan.transfer_key_arn and is_default_key(volume, default_keys)
        },
        tags=_tags(request, policy, flags, set_id),
        inherit=True,
        begun_at=before.begun_at if before else services.clock.now(),
        tried=before.tried if before else {},
        calls=before.calls if before else {},
    )


def _default_keys(
    policy: AnyPolicy, own: Place, volumes: Sequence[AttachedVolume], services: OnDemandServices
) -> frozenset[str]:
    """The key that AWS manages where the snapshots are; asked only when it matters."""
    target = mapping(policy, own.region)
    roles = {role.name: role.account for role in services.configuration.roles}
    stays = target is None or not target.role or roles.get(target.role) == own.account
    if stays or not any(volume.encrypted for volume in volumes):
        return frozenset()
    return frozenset([services.snapshot_copier(own.account, own.region, own.role).default_key()])


def _keys(plan: Copy, volumes: Sequence[AttachedVolume]) -> dict[str, str]:
    """The key of each copy; a volume without one stays as it is."""
    return {
        volume.volume_id: plan.key_arn
        for volume in volumes
        if plan.key_arn and (volume.encrypted or not plan.encrypted_only)
    }


def _tags(
    request: ReplicateSnapshots, policy: AnyPolicy, flags: frozenset[Flag], set_id: str
) -> dict[str, str]:
    """The tags that all copies of the set have in common; the rest differs from volume to volume."""
    return {
        "Name": f"{request.instance_name or request.instance_id} {request.slot:%Y-%m-%d %H:%M}Z"[:256],
        **policy.tags.custom,
        names.POLICY: policy.name,
        names.SESSION: request.session_id,
        names.SLOT: slot_tag(request.slot),
        names.FLAGS: encode_flags(flags),
        names.SET: set_id,
    }


def _record(
    request: ReplicateSnapshots,
    work: Work,
    copies: Mapping[str, VolumeSnapshot],
    services: OnDemandServices,
) -> None:
    """The replica is a restore point now: every volume of it is completed."""
    flags = names.decode_flags(work.tags[names.FLAGS])
    services.catalog.add_point(
        RestorePoint(
            point_id=request.point_id,
            kind=Kind.REPLICA,
            account=work.target.account,
            region=work.target.region,
            instance_id=request.instance_id,
            instance_name=request.instance_name,
            taken_at=request.taken_at,
            session_id=request.session_id,
            policy=request.policy,
            flags=flags,
            manual=request.manual and not flags,
            snapshot_ids={volume_id: one.snapshot_id for volume_id, one in sorted(copies.items())},
            size_bytes=sum(one.size_bytes for one in copies.values()),
        )
    )
    log.info(
        "%s: replica %s in %s, %s",
        request.instance_id,
        request.point_id,
        work.target.account,
        work.target.region,
    )
