"""Which role Holdfast assumes in an account when a person, not a policy, asks for something there.

Roles come from the configuration alone, never from an event: otherwise whoever may start a restore could make
Holdfast assume any role that trusts it.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from holdfast.errors import ConfigurationError
from holdfast.model.configuration import Configuration
from holdfast.model.regions import partition


class Purpose(StrEnum):
    """What the role is needed for."""

    BACKUP = "backup"
    RESTORE = "restore"


class AssumedRole(NamedTuple):
    """A role to assume."""

    arn: str
    external_id: str


def role_for(configuration: Configuration, account: str, purpose: Purpose, name: str = "") -> AssumedRole:
    """The role for ``account``: the named one, else its role under ``roles``, else its organization's.

    Raises ConfigurationError when there is none, or the named one belongs to another account.
    """
    own = [role for role in configuration.roles if role.account == account and name in ("", role.name)]
    if own:
        return AssumedRole(own[0].arn, own[0].external_id)
    named = [organization for organization in configuration.organizations if name in ("", organization.name)]
    if named:
        organization = named[0]
        role = organization.backup_role_name if purpose is Purpose.BACKUP else organization.restore_role_name
        arn = f"arn:{partition(configuration.hub_region)}:iam::{account}:role/{role}"
        return AssumedRole(arn, organization.external_id)
    raise ConfigurationError(
        f"There is no role{f' {name}' if name else ''} for account {account}.",
        resource=account,
        remedy="Add one under `roles`, or add the account's Organization under `organizations`.",
    )
