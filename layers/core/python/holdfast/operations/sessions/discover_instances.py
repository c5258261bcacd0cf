"""The instances of one Region that a session protects, in every account of its scope.

An account that cannot be reached is a named problem of the session and never stops the others. A retry looks
at what failed only: instances by their outcome, accounts whose problem was a passing one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from holdfast.errors import HoldfastError, ThrottledError, UnavailableError
from holdfast.model.inventory import Instance
from holdfast.model.scope import Account
from holdfast.model.session import Outcome, Problem, State
from holdfast.operations.services import Services
from holdfast.operations.steps import SCOPE, RegionStep, find_policy, outcome_part
from holdfast.operations.switches import switched
from holdfast.planning.selection import Coverage, rivals, select

ACCOUNTS_AT_ONCE = 8
PASSING = frozenset({ThrottledError.code, UnavailableError.code})
"""Codes of account problems that a retry may cure."""


class DiscoverInstances(RegionStep):
    """A Region's event."""


def discover_instances(request: DiscoverInstances, services: Services) -> dict[str, Any]:
    """Write the list of instances to protect, and the Region's account problems."""
    told = services.catalog.read_part(request.session_id, SCOPE) or {"accounts": []}
    accounts = [Account.model_validate(account) for account in told["accounts"]]
    region = _last_attempt(request, services)
    outcomes = _outcomes(request, services)
    standing: list[Problem] = []
    coverage: dict[str, int] = {}
    items = [_item(one) for one in outcomes if one.state is State.FAILED]
    if region and not region.get("lost"):  # A retry: what was found is known, only passing problems are not.
        problems = [Problem.model_validate(problem) for problem in region["problems"]]
        again = {problem.resource for problem in problems if problem.code in PASSING}
        standing = [problem for problem in problems if problem.resource not in again]
        accounts = [account for account in accounts if account.account in again]
        coverage = dict(region.get("coverage", {}))
    found, problems = _in_all(accounts, lambda account: _inventory(account.account, request, services))
    verdicts = _judged(found, accounts, request, services)
    for kind, _ in verdicts:
        coverage[kind.value] = coverage.get(kind.value, 0) + 1
    known = {one.instance_id for one in outcomes}
    items += [
        _item(instance)
        for kind, instance in verdicts
        if kind is Coverage.PROTECTED and instance.instance_id not in known
    ]
    items_key = f"{request.work_prefix}/instances.json"
    services.work.write(items_key, items)
    services.catalog.write_part(
        request.session_id,
        request.region_part,
        {
            "attempt": request.attempt,
            "ended": False,
            "state": State.RUNNING,
            "selected": len(items),
            "coverage": coverage,
            "last_attempt": region,
            "problems": [problem.model_dump(mode="json") for problem in (*standing, *problems)],
        },
        at=services.clock.now(),
    )
    return {"count": len(items), "items_key": items_key, "unreachable": len(standing) + len(problems)}


def _last_attempt(request: RegionStep, services: Services) -> dict[str, Any]:
    """The Region's record as the attempt before this one left it, also when this step is repeated."""
    region = services.catalog.read_part(request.session_id, request.region_part) or {}
    if region.get("attempt") == request.attempt and not region.get("ended"):
        region = region["last_attempt"]
    return {key: value for key, value in region.items() if key != "last_attempt"}


def _item(one: Instance | Outcome) -> dict[str, str]:
    name = one.name if isinstance(one, Instance) else one.instance_name
    return {"account": one.account, "instance_id": one.instance_id, "instance_name": name}


def _outcomes(request: RegionStep, services: Services) -> list[Outcome]:
    """How instances of this Region ended in earlier attempts."""
    return [
        Outcome.model_validate(body["outcome"])
        for _, body in services.catalog.parts(request.session_id, outcome_part(request.region))
    ]


def _inventory(account: str, request: RegionStep, services: Services) -> list[Instance]:
    return list(services.spoke(request.policy, account, request.region).instances())


def _in_all(
    accounts: Iterable[Account], look: Callable[[Account], list[Instance]]
) -> tuple[list[Instance], list[Problem]]:
    """What ``look`` finds in every account; an account that fails becomes a problem that names it."""

    def one(account: Account) -> list[Instance] | Problem:
        try:
            return look(account)
        except HoldfastError as error:
            named = f"{account.account} ({account.name})" if account.name else account.account
            return Problem(
                code=error.code,
                message=f"Account {named} could not be looked at: {error.message}",
                resource=account.account,
                remedy=error.remedy,
                severity=State.WARNING,
            )

    found: list[Instance] = []
    problems: list[Problem] = []
    with ThreadPoolExecutor(ACCOUNTS_AT_ONCE) as pool:
        for result in pool.map(one, accounts):
            if isinstance(result, Problem):
                problems.append(result)
            else:
                found += result
    return found, problems


def _judged(
    found: list[Instance], accounts: Iterable[Account], request: RegionStep, services: Services
) -> list[tuple[Coverage, Instance]]:
    """What the policy does with each instance; instances of policies that come first are theirs."""
    configuration = switched(services)
    policy = find_policy(configuration, request.policy)
    first = {account.account: rivals(configuration, policy, account) for account in accounts}
    return [(verdict.coverage, verdict.instance) for verdict in select(policy, found, first).verdicts]
