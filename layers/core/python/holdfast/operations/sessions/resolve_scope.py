"""The accounts and Regions that a session has to look at.

Whoever is left out is written down with the reason: a report must add up to the Organization.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

from holdfast.errors import PermanentError
from holdfast.model.configuration import AnyPolicy, Configuration
from holdfast.model.scope import Account
from holdfast.operations.services import Services
from holdfast.operations.steps import SCOPE, Step, find_policy
from holdfast.operations.switches import switched
from holdfast.planning.selection import precedence, scope
from holdfast.ports import OrganizationTree

log = logging.getLogger(__name__)


class ResolveScope(Step):
    """The session's event."""


def resolve_scope(request: ResolveScope, services: Services) -> dict[str, Any]:
    """Write the session's scope. Raises AccessDeniedError when the Organization cannot be read."""
    policy = find_policy(services.configuration, request.policy)
    members = {account.account: account for account in _members(policy, services)}
    resolved = scope(services.configuration, policy, members.values())
    regions = sorted(set(policy.regions) & set(request.only_regions or policy.regions))
    services.catalog.write_part(
        request.session_id,
        SCOPE,
        {
            "regions": regions,
            "accounts": [
                (members.get(target.account) or _place(target.account, policy, services)).model_dump()
                for target in resolved.targets
            ],
            "left_out": [{"account": one.account, "reason": one.reason} for one in resolved.left_out],
        },
        at=services.clock.now(),
    )
    return {"regions": regions if resolved.targets else [], "accounts": len(resolved.targets)}


def _members(policy: AnyPolicy, services: Services) -> Iterator[Account]:
    """Every account of the policy's Organization; none for a policy of one account."""
    if policy.source.organization:
        yield from accounts_of(policy.source.organization, services)


def _place(account: str, policy: AnyPolicy, services: Services) -> Account:
    """Where an account of a role lies, as far as a policy of an Organization comes first and may own it.

    An Organization that cannot be read takes no account from this policy: two copies are better than none.
    """
    for name in _organizations_before(switched(services), policy):
        try:
            found = next((one for one in accounts_of(name, services) if one.account == account), None)
        except PermanentError as error:
            log.warning("whether %s lies in the Organization %s is not known: %s", account, name, error)
            continue
        if found:
            return found
    return Account(account=account)


def _organizations_before(configuration: Configuration, policy: AnyPolicy) -> list[str]:
    """Organizations of the enabled policies that come before ``policy``."""
    names: list[str] = []
    for other in precedence(configuration):
        if other.name == policy.name:
            break
        if other.enabled and other.source.organization:
            names.append(other.source.organization)
    return list(dict.fromkeys(names))


def accounts_of(organization: str, services: Services) -> Iterator[Account]:
    """Every account of an Organization, with the units above it. Raises AccessDeniedError."""
    tree = services.organization(organization)
    for root in tree.roots():
        yield from _walk(tree, organization, root, ())


def _walk(tree: OrganizationTree, organization: str, unit: str, above: tuple[str, ...]) -> Iterator[Account]:
    path = (*above, unit)
    for member in tree.accounts(unit):
        yield Account(
            account=member.account,
            name=member.name,
            organization=organization,
            units=path,
            active=member.state == "ACTIVE",
        )
    for child in tree.units(unit):
        yield from _walk(tree, organization, child, path)
