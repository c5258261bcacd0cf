"""Restore points that a person wants removed, of one instance, and none but those that were confirmed.

Snapshots and replicas go at once, by the rules of `removal`. Backups are noted and marked: daily retention
(`expire_backups`) deletes them when the mark is a day old, and not at all when the note was taken back.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any, Final

from pydantic import Field

from holdfast.errors import ConfigurationError, ConflictError, HoldfastError, PermanentError, SourceGoneError
from holdfast.model import tags as names
from holdfast.model.ids import client_token
from holdfast.model.inventory import Value
from holdfast.model.restore import InstanceId
from holdfast.model.restore_point import Kind, RestorePoint
from holdfast.model.session import Problem
from holdfast.operations.retention.removal import Doomed, remove_snapshots
from holdfast.operations.services import OnDemandServices, Services
from holdfast.planning.removing import NATIVE, Scope, in_scope, key_of
from holdfast.ports import Spoke, VolumeSnapshot
from holdfast.repository.layout import PointName

log = logging.getLogger(__name__)

SESSION: Final = "removals"
"""The session whose parts hold what people wanted removed."""
NOTED_FOR: Final = timedelta(days=30)
"""A note must outlive the two steps of retention, also where records of sessions are kept for days only."""
MARGIN: Final = 60.0
"""Seconds kept for finishing."""


class RemovePoints(Value):
    """What was confirmed. ``points`` are keys of `planning.removing`; ``take_back``: keep noted backups."""

    instance_id: InstanceId
    scope: Scope
    points: tuple[str, ...] = Field(max_length=5000)
    by: str = Field("", max_length=2048)
    take_back: bool = False


class _Subject(Value):
    """`removal.Subject`: this instance in one place, whoever made the snapshots."""

    account: str
    region: str
    instance_id: str
    session_id: str = SESSION
    policy: str = ""
    point_id: str = ""


def remove_points(request: RemovePoints, services: OnDemandServices) -> dict[str, Any]:
    """Remove, or note, every confirmed point; one that fails is told and stops no other.

    ``more``: keys for another call, because time ran out. A point that is gone already counts as removed.
    """
    known = {key_of(point): point for point in services.catalog.points(request.instance_id)}
    meant = {key_of(point) for point in in_scope(known.values(), request.scope)}
    done: dict[str, Any] = {"removed": [], "noted": [], "kept": [], "left": {}, "more": []}
    for number, key in enumerate(request.points):
        if services.remaining() < MARGIN:
            done["more"] = list(request.points[number:])
            break
        point = known.get(key)
        if point is not None and key not in meant:
            done["left"][key] = f"It does not belong to {request.scope}."
            continue
        try:
            how = "removed" if point is None else _remove(point, request, services)
            done[how].append(key)
        except HoldfastError as error:
            log.error("%s of %s stays: %s", key, request.instance_id, error)
            done["left"][key] = str(error)
    return done


def _remove(point: RestorePoint, request: RemovePoints, services: OnDemandServices) -> str:
    """What became of the point: removed, noted or kept. Raises HoldfastError."""
    if point.kind not in NATIVE:
        return _note(point, request, services)
    if request.take_back:
        raise ConfigurationError("A snapshot is removed at once: there is no note to take back.")
    _remove_set(point, request.by, services)
    return "removed"


def _remove_set(point: RestorePoint, by: str, services: OnDemandServices) -> None:
    """Give the point up, remove its snapshots, forget it. Raises HoldfastError naming what stays and why."""
    spoke = services.spoke_in(point.account, point.region, _role_of(point, services))
    wanted = sorted(point.snapshot_ids.values())
    found = spoke.read_snapshots(wanted)
    _require_free(point, found, services)
    services.catalog.add_point(point.model_copy(update={"complete": False}))
    for one in found:
        if names.BASE in one.tags:  # The next backup reads whole volumes and compares by content.
            spoke.untag_snapshot(one.snapshot_id, [names.BASE])
    subject = _Subject(account=point.account, region=point.region, instance_id=point.instance_id)
    doomed = Doomed(found, f"{by or 'An operator'} had it removed.", by_hand=point.manual)
    problems = remove_snapshots(doomed, subject, spoke, services)
    if not problems:
        services.catalog.remove_point(point)
        return
    if len(spoke.read_snapshots(wanted)) == len(wanted):  # Nothing of it is gone: it is as good as before.
        services.catalog.add_point(point)
    raise _refused(problems, found, spoke)


def _refused(problems: Sequence[Problem], found: Sequence[VolumeSnapshot], spoke: Spoke) -> HoldfastError:
    """What stays and why; a base that stays is marked as one again."""
    for one in found:
        if names.BASE in one.tags:
            try:
                spoke.tag_snapshot(one.snapshot_id, {names.BASE: one.tags[names.BASE]})
            except SourceGoneError:
                log.info("%s is gone", one.snapshot_id)
    told = "; ".join(f"{problem.resource}: {problem.message}" for problem in problems)
    return PermanentError(told, remedy=problems[0].remedy)


def _require_free(point: RestorePoint, found: Sequence[VolumeSnapshot], services: Services) -> None:
    """Raises ConflictError while a backup or copy reads the point, or when its tags are not the point's."""
    now = services.clock.now()
    for one in found:
        if names.is_in_use(one.tags, now):
            raise ConflictError(
                "A backup or a copy may still be reading it.",
                resource=one.snapshot_id,
                remedy="Wait for the session to end, or stop it; then ask again.",
            )
        if one.tags.get(names.POINT) != point.point_id:
            raise ConflictError(
                f"Its tag {names.POINT} is {one.tags.get(names.POINT)!r}, not {point.point_id!r}.",
                resource=one.snapshot_id,
                remedy="Correct its tags, or remove it by hand when nobody needs it.",
            )


def _role_of(point: RestorePoint, services: Services) -> str:
    """The name of the role or organization by which the point's policy enters its account; empty: any."""
    policy = services.configuration.policy(point.policy)
    if policy is None:
        return ""
    if point.kind is Kind.REPLICA:
        accounts = {role.name: role.account for role in services.configuration.roles}
        targets = [one.role for one in policy.replication if one.region == point.region]
        found = [role for role in targets if accounts.get(role) == point.account]
        return found[0] if found else ""
    return policy.source.role or policy.source.organization


def _note(point: RestorePoint, request: RemovePoints, services: Services) -> str:
    """The first of two steps: write down who wants it gone, and mark it. Raises HoldfastError."""
    part = note_part(point)
    if request.take_back:
        services.catalog.remove_part(SESSION, part)
        return "kept"
    configured = {one.name: one for one in services.configuration.repositories}.get(point.repository)
    if configured is None:
        raise ConfigurationError(
            f"The repository {point.repository!r} is not in the configuration.",
            resource=point.point_id,
            remedy="Add it again, or delete its bucket when nobody needs it.",
        )
    if configured.immutable:
        raise ConflictError(
            f"The repository {point.repository!r} is immutable: nothing leaves it before its time.",
            resource=point.point_id,
            remedy="Retention removes it when its lock has ended.",
        )
    now = services.clock.now()
    body = {"repository": point.repository, "by": request.by, "at": now.isoformat()}
    services.catalog.write_part(SESSION, part, body, at=now + NOTED_FOR, new=True)
    services.repository(point.repository).mark_points(
        [PointName(point.instance_id, point.point_id)],
        now,
        ids=services.ids,
        installation=services.settings.installation,
    )
    return "noted"


def note_part(point: RestorePoint) -> str:
    """The part that says: a person wants this backup gone."""
    where = client_token(point.repository)[:12]
    return f"backup/{point.instance_id}/{point.point_id}/{where}"


def noted(repository: str, services: Services) -> Iterator[PointName]:
    """The backups in a repository that people want gone."""
    for part, body in services.catalog.parts(SESSION, "backup/"):
        if body["repository"] == repository:
            _, instance_id, point_id, _ = part.split("/")
            yield PointName(instance_id, point_id)


def forget_note(point: RestorePoint, services: Services) -> None:
    """The backup is gone, and so is the wish."""
    services.catalog.remove_part(SESSION, note_part(point))
