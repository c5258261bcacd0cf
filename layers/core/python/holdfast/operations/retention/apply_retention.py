"""Removes the snapshots and replicas of one instance that its policy no longer keeps, at its session's end.

Only what the session's own policy made is judged here: it is never more than the daily pass over the whole
chain would remove, so both may work on one instance at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from holdfast.model.configuration import AnyPolicy, SlaPolicy
from holdfast.model.restore_point import Kind, RestorePoint
from holdfast.operations.retention.replica_retention import retain_replicas
from holdfast.operations.retention.retention_in_force import policy_in_force
from holdfast.operations.retention.snapshot_retention import (
    Chain,
    Sets,
    find_sets,
    needed_points,
    points_in_use,
    retain,
)
from holdfast.operations.services import OnDemandServices, Services
from holdfast.operations.sessions.conclude_instance import read_outcome, with_problems, write_outcome
from holdfast.operations.steps import InstanceStep, find_policy
from holdfast.planning.confirmation import agreed
from holdfast.planning.protection import keeps_base, repository_for, rule_of
from holdfast.planning.retention import Verdict, judge

HELD = "held/"
"""Prefix of the parts that name points which only a retention removes that nobody has confirmed."""


class ApplyRetention(InstanceStep):
    """An instance's event."""


def apply_retention(request: ApplyRetention, services: OnDemandServices) -> dict[str, Any]:
    """Judge the snapshots of this instance and policy, and carry the verdicts out.

    Replicas too, in a session that makes some; those of SLA templates are judged when the window has closed.
    """
    policy = find_policy(services.configuration, request.policy)
    spoke = services.spoke(request.policy, request.account, request.region)
    chain = Chain(
        Kind.SNAPSHOT,
        request.account,
        request.region,
        request.instance_id,
        request.session_id,
        instance_name=request.instance_name,
        policy=request.policy,
        point_id=request.point_id,
    )
    held: set[str] = set()
    done = retain(
        chain,
        find_sets(chain, spoke, services),
        lambda points, sets: _verdicts(points, sets, policy, chain, held, services),
        spoke,
        services,
        releases_bases=not keeps_base(services.configuration, policy),
    )
    if request.replica_flags is not None and not isinstance(policy, SlaPolicy):
        replicas = retain_replicas(policy, request, held, services)
        done.removed += replicas.removed
        done.kept += replicas.kept
        done.problems += replicas.problems
    if held:
        body = {"points": sorted(held)}
        services.catalog.write_part(
            request.session_id, f"{HELD}{request.instance_id}", body, at=services.clock.now()
        )
    outcome = read_outcome(request, services)
    if done.problems and outcome:
        write_outcome(request, with_problems(outcome, done.problems), services)
    return {"removed": done.removed, "kept": done.kept, "problems": len(done.problems)}


def _verdicts(
    points: list[RestorePoint],
    sets: Sets,
    policy: AnyPolicy,
    chain: Chain,
    held: set[str],
    services: Services,
) -> Iterator[Verdict]:
    """Verdicts on the chain, and on temporary snapshots beside it: these count as nobody's newest point."""
    configuration, now = services.configuration, services.clock.now()
    pinned = points_in_use(sets, now)
    if keeps_base(configuration, policy):
        repository = repository_for(configuration, policy, chain.region)
        pinned.update(needed_points(points, sets, repository, chain, services))
    rule = rule_of(configuration, policy, Kind.SNAPSHOT, chain.region)
    if not isinstance(policy, SlaPolicy):  # Those of SLA templates are judged when the window has closed.
        force = policy_in_force(policy, Kind.SNAPSHOT, chain.region, services)
        inside = [point for point in points if not point.temporary]
        verdicts, only_first = agreed([judge(inside, each, now, pinned=pinned) for each in force.rules(rule)])
        held.update(only_first)
        yield from verdicts
    beside = [point for point in points if point.temporary]
    yield from judge(beside, rule, now, pinned=pinned, protected=False)
