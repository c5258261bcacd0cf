"""One account and Region of a retention pass: every chain of snapshots and replicas that lies there.

The inventory says under which policy an instance stands now, and that policy's retention judges the whole
chain, whoever made it. What is not certain is not judged: an account, an Organization or an inventory that
cannot be read makes nothing obsolete.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from pydantic import Field

from holdfast.errors import HoldfastError
from holdfast.model import tags as names
from holdfast.model.configuration import AnyPolicy
from holdfast.model.restore_point import Kind
from holdfast.model.scope import Account
from holdfast.model.session import Problem, State
from holdfast.operations.manual.recover_manual import recover_manual
from holdfast.operations.retention.chain_judges import as_obsolete, by_policy, lift_marks, nothing
from holdfast.operations.retention.retention_in_force import InForce, obsolete_in_force, policy_in_force
from holdfast.operations.retention.retention_pass import Pass, PlaceDone, read_owners, write_owners
from holdfast.operations.retention.rulers import Rulers
from holdfast.operations.retention.snapshot_retention import KINDS, Chain, Judge, Sets, retain, sets_of
from holdfast.operations.services import OnDemandServices
from holdfast.operations.steps import StateError, problem_of
from holdfast.operations.switches import switched
from holdfast.planning.protection import keeps_base
from holdfast.planning.ruling import Ruler, Standing
from holdfast.ports import Spoke, VolumeSnapshot

log = logging.getLogger(__name__)

MARGIN: Final = 120.0
"""Seconds kept for the chain at hand, and for finishing."""
OBSOLETE: Final = ""
"""Stands for the global rule where numbers are told by policy."""
_INSTANCE: Final = re.compile(r"i-[0-9a-f]{8,17}")


class RetainSnapshots(Pass):
    """One account and Region. ``cursor``: the chain after which an earlier invocation stopped.

    ``error``: why earlier tries failed for good; it is written down, and nothing else is done.
    """

    account: str = Field(pattern=r"^\d{12}$")
    region: str
    cursor: str = ""
    error: StateError | None = None


@dataclass(slots=True)
class _Work:
    """An account and Region while it is worked on; ``unknown`` counts instances by why nobody judges them."""

    request: RetainSnapshots
    rulers: Rulers
    spoke: Spoke
    services: OnDemandServices
    done: PlaceDone = field(default_factory=PlaceDone)
    unknown: dict[str, int] = field(default_factory=dict)
    force: dict[tuple[str, Kind, str], InForce] = field(default_factory=dict)


def retain_snapshots(request: RetainSnapshots, services: OnDemandServices) -> dict[str, Any]:
    """Judge chains while time is left; ``cursor`` says where the next invocation goes on.

    Raises HoldfastError when the account cannot be read: then nothing that lies there was judged.
    """
    place = (request.account, request.region)
    if request.error is not None:
        problem = request.error.problem(resource=request.account, severity=State.WARNING)
        told = f"Account {request.account} was not judged in {request.region}: {problem.message}"
        update = {"message": told, "resource": request.account}
        return _told(request, problem.model_copy(update=update), services)
    plan = services.work.read(request.plan_key)
    accounts = {number: Account.model_validate(body) for number, body in plan["accounts"].items()}
    rulers = Rulers(switched(services), accounts, plan["access"], plan["unread"], services)
    if not rulers.account(request.account).active:
        return _told(request, _closed(request), services)
    work = _Work(request, rulers, rulers.spoke(place), services)
    rulers.inventory(place)
    listing = work.spoke.find_snapshots({names.INSTALLATION: services.settings.installation})
    if not request.cursor:
        _note_owners(work)
        role = plan["access"].get(request.account, "")
        work.done.recovered += recover_manual(listing, *place, role, work.spoke, services)
    cursor = _go_through(listing, services.work.read(request.known_key(*place)), work)
    work.done.problems += _not_judged(work)
    now = services.clock.now()
    work.done.write(request, *place, request.cursor, services.catalog, now)
    return {"done": not cursor, "cursor": cursor, "removed": work.done.removed}


def _go_through(listing: Sequence[VolumeSnapshot], known: Iterable[Sequence[str]], work: _Work) -> str:
    """Judge one chain after the other; the cursor when time is running out, empty at the end."""
    by_instance: dict[str, list[VolumeSnapshot]] = {}
    for one in listing:
        by_instance.setdefault(one.tags.get(names.INSTANCE, ""), []).append(one)
    chains = {(instance_id, Kind(kind)) for instance_id, kind in known}
    chains |= {(instance_id, kind) for instance_id in by_instance for kind in KINDS}
    cursor = work.request.cursor
    for instance_id, kind in sorted(chains):
        here = f"{instance_id} {kind.value}"
        if here <= work.request.cursor or not _INSTANCE.fullmatch(instance_id):
            continue
        if cursor != work.request.cursor and work.services.remaining() < MARGIN:
            return cursor
        chain = Chain(kind, work.request.account, work.request.region, instance_id, work.request.pass_id)
        try:
            _retain(chain, sets_of(by_instance.get(instance_id, ()), chain), work)
        except HoldfastError as error:
            log.error("%s: %s", instance_id, error)
            work.done.problems.append(problem_of(error, resource=instance_id, severity=State.WARNING))
        cursor = here
    return ""


def _retain(chain: Chain, sets: Sets, work: _Work) -> None:
    """Judge one chain by whoever is its judge now."""
    if not sets and not _is_recorded(chain, work):
        return
    ruler, region = work.rulers.of_chain(chain, sets)
    if work.request.policy and (ruler.policy is None or ruler.policy.name != work.request.policy):
        return
    if ruler.standing is Standing.UNKNOWN:
        work.unknown[ruler.reason] = work.unknown.get(ruler.reason, 0) + 1
    held: set[str] = set()
    judge, releases = _judge(ruler, chain, region, held, work)
    marked = {point_id: list(snapshots) for point_id, snapshots in sets.items()}
    done = retain(chain, sets, judge, work.spoke, work.services, releases_bases=releases, look_again=True)
    work.done.instances += 1
    work.done.kept += done.kept
    work.done.removed += done.removed
    work.done.obsolete += done.removed if ruler.standing is Standing.OBSOLETE else 0
    work.done.recovered += done.recovered
    work.done.problems += done.problems
    if held:
        name = ruler.policy.name if ruler.policy else OBSOLETE
        work.done.held[name] = work.done.held.get(name, 0) + len(held)
    if ruler.policy is not None and chain.kind is Kind.SNAPSHOT:
        lift_marks(chain, marked, work.spoke, work.services)


def _is_recorded(chain: Chain, work: _Work) -> bool:
    """Whether the catalog knows a point of a chain that the account does not show any more."""
    return any(
        (point.account, point.region) == (chain.account, chain.region)
        for point in work.services.catalog.points(chain.instance_id, chain.kind)
    )


def _judge(ruler: Ruler, chain: Chain, region: str, held: set[str], work: _Work) -> tuple[Judge, bool]:
    """What judges a chain, and whether marks of bases on it protect nothing any more."""
    if ruler.standing is Standing.UNKNOWN:
        return nothing, False
    if ruler.policy is None:
        force = _in_force(None, chain.kind, region, work)
        return as_obsolete(force, held.update, work.services), True
    force = _in_force(ruler.policy, chain.kind, region, work)
    judge = by_policy(ruler.policy, region, force, held.update, chain, work.services)
    return judge, not keeps_base(work.services.configuration, ruler.policy)


def _in_force(policy: AnyPolicy | None, kind: Kind, region: str, work: _Work) -> InForce:
    """What is in force, read once in an invocation."""
    key = (policy.name if policy else OBSOLETE, kind, region)
    if key not in work.force:
        services = work.services
        found = policy_in_force(policy, kind, region, services) if policy else obsolete_in_force(services)
        work.force[key] = found
    return work.force[key]


def _note_owners(work: _Work) -> None:
    """Remember under which policy instances stand, for whoever cannot look; what is unknown stays noted."""
    place = (work.request.account, work.request.region)
    before = read_owners(*place, work.services.catalog)
    owners: dict[str, str] = {}
    for instance_id in work.rulers.inventory(place):
        ruler = work.rulers.of_instance(instance_id, place)
        if ruler.policy is not None:
            owners[instance_id] = ruler.policy.name
        elif ruler.standing is Standing.UNKNOWN and instance_id in before:
            owners[instance_id] = before[instance_id]
    write_owners(*place, owners, work.services.catalog, work.services.clock.now())


def _not_judged(work: _Work) -> list[Problem]:
    return [
        Problem(
            code="NotJudged",
            message=f"Snapshots of {count} instances were not judged, and none was removed: {reason}.",
            resource=work.request.account,
            remedy="Correct what is named; the next pass judges them.",
            severity=State.WARNING,
        )
        for reason, count in sorted(work.unknown.items())
    ]


def _closed(request: RetainSnapshots) -> Problem:
    return Problem(
        code="AccountClosed",
        message=f"Account {request.account} is closed or suspended: nothing of it was judged.",
        resource=request.account,
        remedy="Its snapshots go with the account; remove its restore points by hand when it is gone.",
        severity=State.WARNING,
    )


def _told(request: RetainSnapshots, problem: Problem, services: OnDemandServices) -> dict[str, Any]:
    """Nothing was done here, and why."""
    done = PlaceDone(problems=[problem])
    now = services.clock.now()
    done.write(request, request.account, request.region, f"{request.cursor} failed", services.catalog, now)
    return {"done": True, "cursor": "", "removed": 0}
