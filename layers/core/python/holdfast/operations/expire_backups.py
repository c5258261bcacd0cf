"""Image-level backups whose time is over leave their repository, in two steps a day apart.

A run judges every restore point anew and notes what has expired; only what a note of at least a day ago names
and this run judges expired again is deleted. What a person wants gone (`remove_points`) counts as expired. A
repository that cannot be judged as a whole is left as it is.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from itertools import groupby
from typing import Any

from pydantic import BaseModel, ConfigDict

from holdfast.errors import DamagedError, HoldfastError, NotFoundError, PermanentError
from holdfast.model.restore_point import Kind, RestorePoint
from holdfast.operations.remove_points import forget_note, noted
from holdfast.operations.services import Services
from holdfast.planning.protection import rule_of
from holdfast.planning.retention import Verdict, judge
from holdfast.repository.layout import PointName
from holdfast.repository.manifest import restore_point
from holdfast.repository.repository import Repository

log = logging.getLogger(__name__)

MARGIN = 60.0
"""Seconds kept for finishing."""


class ExpireBackups(BaseModel):
    """``repository`` empty: all of them. ``dry_run`` judges and changes nothing."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    repository: str = ""
    dry_run: bool = False


def expire_backups(request: ExpireBackups, services: Services) -> dict[str, Any]:
    """One retention run. Raises PermanentError when a repository could not be judged; the others are done."""
    done = {"judged": 0, "expired": 0, "noted": 0, "removed": 0}
    failed: list[str] = []
    for configured in services.configuration.repositories:
        if request.repository in ("", configured.name):
            try:
                for key, count in _expire(configured.name, request, services).items():
                    done[key] += count
            except HoldfastError as error:
                log.error("repository %s: %s", configured.name, error)
                failed.append(f"{configured.name}: {error}")
    if failed:
        raise PermanentError(
            f"Retention could not run in {len(failed)} of the repositories: {'; '.join(failed)}",
            resource=failed[0].partition(":")[0],
            remedy="Correct what is named and invoke this function again.",
        )
    return done


def _expire(name: str, request: ExpireBackups, services: Services) -> dict[str, int]:
    try:
        repository = services.repository(name)
    except NotFoundError:
        return {}  # Nothing was ever backed up there.
    points = _points(name, repository, services)
    verdicts = _verdicts(points, services)
    wanted_gone = set(noted(name, services))
    expired = {name_of(point): point for point, one in verdicts if one.remove}
    expired |= {name_of(point): point for point in points if name_of(point) in wanted_gone}
    for point, verdict in verdicts:
        if verdict.remove:
            log.info("%s of %s expired: %s", point.point_id, point.instance_id, verdict.reason)
    counts = {"judged": len(verdicts), "expired": len(expired)}
    if request.dry_run:
        return counts
    cycle = repository.expire_points(
        expired, services.clock.now(), ids=services.ids, installation=services.settings.installation
    )
    for gone in cycle.deleted:
        _forget(expired[gone], services)
        forget_note(expired[gone], services)
    return {**counts, "noted": len(cycle.marked), "removed": len(cycle.deleted)}


def name_of(point: RestorePoint) -> PointName:
    return PointName(point.instance_id, point.point_id)


def _forget(point: RestorePoint, services: Services) -> None:
    """Take a backup out of the catalog under every name that its repository ever had."""
    services.catalog.remove_point(point)
    for listed in list(services.catalog.points(point.instance_id, Kind.BACKUP)):
        if listed.point_id == point.point_id:
            services.catalog.remove_point(listed)


def _points(name: str, repository: Repository, services: Services) -> list[RestorePoint]:
    """Every restore point that the repository holds: from the catalog, else from its manifest."""
    points: list[RestorePoint] = []
    for instance_id, listed in groupby(repository.list_points(), key=lambda point: point.instance_id):
        if services.remaining() < MARGIN:
            raise PermanentError(
                "There are too many restore points to judge in one run.",
                resource=name,
                remedy="Give this function more time, or use more repositories.",
            )
        known = {
            point.point_id: point
            for point in services.catalog.points(instance_id, Kind.BACKUP)
            if point.repository == name
        }
        for one in listed:
            found = known.get(one.point_id) or _recovered(one, name, repository, services)
            if found is not None:
                points.append(found)
    return points


def _recovered(one: PointName, name: str, repository: Repository, services: Services) -> RestorePoint | None:
    """A restore point that the catalog has lost; one that cannot be read is never judged, so it stays."""
    try:
        manifest = repository.read_point(one)
    except (DamagedError, NotFoundError) as error:
        log.error("%s is not judged: %s", one.key, error)
        return None
    found = restore_point(manifest, name)
    services.catalog.add_point(found, manifest.configuration)
    return found


def _verdicts(points: Iterable[RestorePoint], services: Services) -> list[tuple[RestorePoint, Verdict]]:
    """Verdicts chain by chain. Points of a policy that is gone from the configuration are not judged."""
    now = services.clock.now()
    verdicts: list[tuple[RestorePoint, Verdict]] = []
    ordered = sorted(points, key=lambda point: (point.instance_id, point.policy))
    for (_, name), chain in groupby(ordered, key=lambda point: (point.instance_id, point.policy)):
        policy = services.configuration.policy(name)
        if policy is None:
            continue
        members = {point.point_id: point for point in chain}
        region = next(iter(members.values())).region
        rule = rule_of(services.configuration, policy, Kind.BACKUP, region)
        judged = judge(members.values(), rule, now)
        verdicts += [(members[verdict.point_id], verdict) for verdict in judged]
    return verdicts
