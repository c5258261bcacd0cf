"""Which accounts are ours, where a person or an event names one by its number.

A role name that is the same in every account of an Organization may exist in any account of the world: before
something is shared with an account, the configuration or the last inventory has to know it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdfast.errors import ConfigurationError

if TYPE_CHECKING:
    from holdfast.operations.services import Services


def require_known(account: str, services: Services) -> None:
    """Raises ConfigurationError for an account that is neither configured nor in an Organization of ours."""
    from holdfast.operations.coverage.coverage_ledger import read_known

    configuration = services.configuration
    if not configuration.organizations:
        return  # Without one, no account can be entered at all that is not under `roles`.
    if account in {configuration.backup_account, *(role.account for role in configuration.roles)}:
        return
    if account in (read_known(services.catalog, account).accounts or {}):
        return
    raise ConfigurationError(
        f"Account {account} is not under `roles`, and no Organization is known to have it.",
        resource=account,
        remedy="Add a role of it under `roles`. An account that has just joined the Organization is known "
        "after `holdfast coverage --live`.",
    )
