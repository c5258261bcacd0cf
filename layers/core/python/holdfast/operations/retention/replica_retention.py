"""Removes the replicas of one instance that its policy no longer keeps, wherever they lie.

Every place is a chain of its own: what an earlier replication target holds is judged there, and never counts
against the replicas of the present one.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Protocol

from holdfast.errors import HoldfastError
from holdfast.model.configuration import AnyPolicy, Policy
from holdfast.model.restore_point import Kind, RestorePoint
from holdfast.model.session import State
from holdfast.operations.retention.retention_in_force import policy_in_force
from holdfast.operations.retention.snapshot_retention import (
    Chain,
    Retained,
    Sets,
    find_sets,
    points_in_use,
    retain,
)
from holdfast.operations.services import OnDemandServices
from holdfast.operations.steps import problem_of
from holdfast.planning.confirmation import agreed
from holdfast.planning.protection import rule_of
from holdfast.planning.replication import mapping
from holdfast.planning.retention import Verdict, judge
from holdfast.ports import Spoke

log = logging.getLogger(__name__)


class Subject(Protocol):
    """An instance in its own place, and the session under which verdicts are written down."""

    @property
    def session_id(self) -> str: ...
    @property
    def account(self) -> str: ...
    @property
    def region(self) -> str: ...
    @property
    def instance_id(self) -> str: ...
    @property
    def instance_name(self) -> str: ...


def retain_replicas(
    policy: AnyPolicy, subject: Subject, held: set[str], services: OnDemandServices
) -> Retained:
    """Judge the replicas that ``policy`` made of an instance, place by place, and carry the verdicts out.

    What only a retention removes that nobody has confirmed stays, and is added to ``held``. A place that
    nobody can enter is told, and does not keep the others.
    """
    force = policy_in_force(policy, Kind.REPLICA, subject.region, services)
    rules = force.rules(rule_of(services.configuration, policy, Kind.REPLICA, subject.region))

    def judged(points: list[RestorePoint], sets: Sets) -> tuple[Verdict, ...]:
        now = services.clock.now()
        pinned = points_in_use(sets, now)
        verdicts, only_first = agreed([judge(points, rule, now, pinned=pinned) for rule in rules])
        held.update(f"{Kind.REPLICA.value}/{point_id}" for point_id in only_first)
        return verdicts

    done = Retained()
    for account, region in sorted(set(_places(policy, subject, services))):
        chain = Chain(
            Kind.REPLICA,
            account,
            region,
            subject.instance_id,
            subject.session_id,
            instance_name=subject.instance_name,
            policy=policy.name,
        )
        try:
            spoke = spoke_of_replicas(policy, account, region, services)
            part = retain(chain, find_sets(chain, spoke, services), judged, spoke, services)
        except HoldfastError as error:
            log.warning("%s: replicas in %s, %s stay: %s", subject.instance_id, account, region, error)
            done.problems.append(problem_of(error, resource=account, severity=State.WARNING))
            continue
        done.removed += part.removed
        done.kept += part.kept
        done.problems += part.problems
    return done


def spoke_of_replicas(policy: Policy | None, account: str, region: str, services: OnDemandServices) -> Spoke:
    """EC2 where replicas lie, under the role that the policy names for it, else under the account's first.

    Raises ConfigurationError when the configuration has no role there any more.
    """
    roles = {role.name: role.account for role in services.configuration.roles}
    named = [*(target.role for target in policy.replication), policy.source.role] if policy else []
    fitting = next((name for name in named if roles.get(name) == account), "")
    inside = policy.source.organization if policy and account not in roles.values() else ""
    return services.spoke_in(account, region, fitting or inside)


def _places(policy: AnyPolicy, subject: Subject, services: OnDemandServices) -> Iterator[tuple[str, str]]:
    """Accounts and Regions with replicas that the policy made, and the one where it makes them now."""
    target = mapping(policy, subject.region)
    if target is not None:
        roles = {role.name: role.account for role in services.configuration.roles}
        yield roles.get(target.role, subject.account), target.region
    for point in services.catalog.points(subject.instance_id, Kind.REPLICA):
        if point.policy == policy.name:
            yield point.account, point.region
