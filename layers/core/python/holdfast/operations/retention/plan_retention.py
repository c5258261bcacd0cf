"""Where a retention pass has to look: every account and Region that may hold our snapshots.

Scopes of policies, enabled or not, and what the catalog knows: an account that left every scope is looked at
for as long as there is a restore point of it. What could not be found out is told with the plan, so that
nothing is taken for obsolete because of it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from holdfast.errors import HoldfastError
from holdfast.model.configuration import AnyPolicy, Configuration
from holdfast.model.restore_point import Kind
from holdfast.model.scope import Account
from holdfast.model.session import Session
from holdfast.operations.retention.retention_in_force import obsolete_in_force
from holdfast.operations.retention.retention_pass import Pass
from holdfast.operations.services import Services
from holdfast.operations.sessions.resolve_scope import accounts_of
from holdfast.operations.steps import find_policy
from holdfast.planning.selection import enters, find_role, scope

log = logging.getLogger(__name__)

BEGINNING: Final = datetime(2020, 1, 1, tzinfo=UTC)
"""No restore point is older."""
Place = tuple[str, str]
"""Account and Region."""


class PlanRetention(Pass):
    """The pass's event."""


def plan_retention(request: PlanRetention, services: Services) -> dict[str, Any]:
    """Write the list of accounts and Regions, and what they all need. Raises ConfigurationError."""
    configuration, now = services.configuration, services.clock.now()
    chosen = [find_policy(configuration, request.policy)] if request.policy else _all(configuration)
    accounts, unread = _accounts(services)
    places = {place for policy in chosen for place in _places(configuration, policy, accounts.values())}
    known = {} if request.policy else _known(services)
    own = {role.account for role in configuration.roles}
    if any(account not in accounts and account not in own for account, _ in known):
        # An account that is moved while its Organization is walked may not show: only who is twice not to be
        # seen has left.
        again, more = _accounts(services)
        accounts, unread = again | accounts, more | unread
    for place in places | known.keys():
        services.work.write(request.known_key(*place), sorted(known.get(place, ())))
    found = sorted(places | known.keys())
    services.work.write(
        request.plan_key,
        {
            "accounts": {account: one.model_dump() for account, one in sorted(accounts.items())},
            "access": {
                account: access(configuration, accounts.get(account) or Account(account=account))
                for account in sorted({account for account, _ in found} | accounts.keys())
            },
            "unread": unread,
        },
    )
    obsolete_in_force(services)  # A rule that waits can be confirmed before the first snapshot is concerned.
    services.work.write(request.items_key, [{"account": each, "region": region} for each, region in found])
    services.catalog.begin_session(
        Session(
            session_id=request.pass_id, policy="", slot=now, started_at=now, counts={"places": len(found)}
        )
    )
    return {"items_key": request.items_key, "places": len(found)}


def access(configuration: Configuration, account: Account) -> str:
    """The name of the role or Organization by which an account is entered; empty: whichever fits."""
    policies = _all(configuration)
    sources = {policy.source.role for policy in policies}
    targets = {target.role for policy in policies for target in policy.replication}
    own = [role.name for role in configuration.roles if role.account == account.account]
    wanted = [name for chosen in (sources, targets) for name in own if name in chosen]
    return next(iter(wanted), account.organization)


def _all(configuration: Configuration) -> list[AnyPolicy]:
    return [*configuration.policies, *configuration.sla_policies]


def _accounts(services: Services) -> tuple[dict[str, Account], dict[str, str]]:
    """Where accounts lie in which Organization, and why an Organization could not be read."""
    found: dict[str, Account] = {}
    unread: dict[str, str] = {}
    for organization in services.configuration.organizations:
        try:
            found |= {one.account: one for one in accounts_of(organization.name, services)}
        except HoldfastError as error:
            log.error("the Organization %s cannot be read: %s", organization.name, error)
            unread[organization.name] = error.message
    return found, unread


def _places(configuration: Configuration, policy: AnyPolicy, accounts: Iterable[Account]) -> Iterator[Place]:
    """Where instances of a policy are, and where their replicas go."""
    inside = [one for one in accounts if policy.source.organization and enters(configuration, policy, one)]
    for target in scope(configuration, policy, inside).targets:
        yield from ((target.account, region) for region in policy.regions)
        for replica in policy.replication:
            account = find_role(configuration, replica.role).account if replica.role else target.account
            yield account, replica.region


def _known(services: Services) -> dict[Place, set[tuple[str, str]]]:
    """Instances with the kinds of their snapshots and replicas, by the place where those are."""
    found: dict[Place, set[tuple[str, str]]] = {}
    until = services.clock.now() + timedelta(days=1)
    for point in services.catalog.points_between(BEGINNING, until):
        if point.kind in (Kind.SNAPSHOT, Kind.REPLICA):
            place = (point.account, point.region)
            found.setdefault(place, set()).add((point.instance_id, point.kind.value))
    return found
