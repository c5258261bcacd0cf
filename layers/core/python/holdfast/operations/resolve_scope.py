"""The accounts and Regions that a session has to look at.

Whoever is left out is written down with the reason: a report must add up to the Organization.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from holdfast.model.configuration import SchedulePolicy
from holdfast.model.scope import Account
from holdfast.operations.services import Services
from holdfast.operations.steps import SCOPE, Step, schedule_policy
from holdfast.planning.selection import scope
from holdfast.ports import OrganizationTree


class ResolveScope(Step):
    """The session's event."""


def resolve_scope(request: ResolveScope, services: Services) -> dict[str, Any]:
    """Write the session's scope. Raises AccessDeniedError when the Organization cannot be read."""
    policy = schedule_policy(services.configuration, request.policy)
    members = {account.account: account for account in _members(policy, services)}
    resolved = scope(services.configuration, policy, members.values())
    regions = sorted(set(policy.regions))
    services.catalog.write_part(
        request.session_id,
        SCOPE,
        {
            "regions": regions,
            "accounts": [
                members.get(target.account, Account(account=target.account)).model_dump()
                for target in resolved.targets
            ],
            "left_out": [{"account": one.account, "reason": one.reason} for one in resolved.left_out],
        },
        at=services.clock.now(),
    )
    return {"regions": regions if resolved.targets else [], "accounts": len(resolved.targets)}


def _members(policy: SchedulePolicy, services: Services) -> Iterator[Account]:
    """Every account of the policy's Organization; none for a policy of one account."""
    name = policy.source.organization
    if name:
        tree = services.organization(name)
        for root in tree.roots():
            yield from _walk(tree, name, root, ())


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
