"""Image-level backups whose time is over leave their repository, in two steps a day apart.

The policy under which an instance stands judges all its backups that are in its repository; others are judged
by the policy that made them. Backups of a policy that is gone are kept until somebody removes them by hand.

A run judges every restore point anew and notes what has expired; only what a note of at least a day ago names
and this run judges expired again is deleted. What a person wants gone (`remove_points`) counts as expired. A
repository that cannot be judged as a whole is left as it is.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from pydantic import BaseModel, ConfigDict

from holdfast.errors import DamagedError, HoldfastError, NotFoundError, PermanentError
from holdfast.model.configuration import AnyPolicy
from holdfast.model.restore_point import Kind, RestorePoint
from holdfast.operations.retention.remove_points import forget_note, noted
from holdfast.operations.retention.retention_in_force import InForce, policy_in_force
from holdfast.operations.retention.retention_pass import all_owners
from holdfast.operations.services import Services
from holdfast.planning.confirmation import agreed
from holdfast.planning.protection import repository_for, rule_of
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
    done: dict[str, Any] = {"judged": 0, "expired": 0, "noted": 0, "removed": 0, "held": {}, "unowned": {}}
    failed: list[str] = []
    for configured in services.configuration.repositories:
        if request.repository in ("", configured.name):
            try:
                counts, judged = _expire(configured.name, request, services)
                done |= {key: done[key] + count for key, count in counts.items()}
                done["held"] = dict(judged.held + Counter(done["held"]))
                done["unowned"] = dict(judged.unowned + Counter(done["unowned"]))
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


def _expire(name: str, request: ExpireBackups, services: Services) -> tuple[dict[str, int], _Judged]:
    try:
        repository = services.repository(name)
    except NotFoundError:
        return {}, _Judged()  # Nothing was ever backed up there.
    points = _points(name, repository, services)
    judged = _judge(name, points, services)
    wanted_gone = set(noted(name, services))
    expired = {name_of(point): point for point, one in judged.verdicts if one.remove}
    expired |= {name_of(point): point for point in points if name_of(point) in wanted_gone}
    for point, verdict in judged.verdicts:
        if verdict.remove:
            log.info("%s of %s expired: %s", point.point_id, point.instance_id, verdict.reason)
    counts = {"judged": len(judged.verdicts), "expired": len(expired)}
    if request.dry_run:
        return counts, judged
    cycle = repository.expire_points(
        expired, services.clock.now(), ids=services.ids, installation=services.settings.installation
    )
    for gone in cycle.deleted:
        _forget(expired[gone], services)
        forget_note(expired[gone], services)
    return {**counts, "noted": len(cycle.marked), "removed": len(cycle.deleted)}, judged


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


@dataclass(slots=True)
class _Judged:
    """Verdicts on a repository. ``held``, by policy: points that only an unconfirmed retention removes;
    ``unowned``, by the name of their policy: points that nobody judges.
    """

    verdicts: list[tuple[RestorePoint, Verdict]] = field(default_factory=list)
    force: dict[tuple[str, str], InForce] = field(default_factory=dict)
    held: Counter[str] = field(default_factory=Counter)
    unowned: Counter[str] = field(default_factory=Counter)


def _judge(name: str, points: Iterable[RestorePoint], services: Services) -> _Judged:
    """Verdicts chain by chain, each by the policy that judges it now."""
    found = _Judged()
    owners = all_owners(services.catalog)
    ordered = sorted(points, key=lambda point: (point.instance_id, point.policy))
    for instance_id, listed in groupby(ordered, key=lambda point: point.instance_id):
        of_instance = list(listed)
        owner = services.configuration.policy(owners.get(instance_id, ""))
        region = of_instance[0].region
        if owner is not None and repository_for(services.configuration, owner, region) == name:
            _judge_chain(of_instance, owner, found, services)
            continue
        for maker, chain in groupby(of_instance, key=lambda point: point.policy):
            policy = services.configuration.policy(maker)
            if policy is None:
                found.unowned[maker] += len(list(chain))
            else:
                _judge_chain(chain, policy, found, services)
    return found


def _judge_chain(
    chain: Iterable[RestorePoint], policy: AnyPolicy, found: _Judged, services: Services
) -> None:
    members = {point.point_id: point for point in chain}
    region, now = next(iter(members.values())).region, services.clock.now()
    key = (policy.name, region)
    if key not in found.force:
        found.force[key] = policy_in_force(policy, Kind.BACKUP, region, services)
    rules = found.force[key].rules(rule_of(services.configuration, policy, Kind.BACKUP, region))
    verdicts, spared = agreed([judge(members.values(), rule, now) for rule in rules])
    found.verdicts += [(members[verdict.point_id], verdict) for verdict in verdicts]
    if spared:
        found.held[policy.name] += len(spared)
