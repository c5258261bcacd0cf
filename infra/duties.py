"""Which roles Holdfast assumes in which account, and what for.

The same answer renders three things that must agree: the roles in the spoke stacks, their trust policies, and
the right of the functions to assume them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from holdfast.model.configuration import Configuration, Organization


class Duty(StrEnum):
    """What a spoke role is for."""

    BACKUP = "backup"
    RESTORE = "restore"
    ORGANIZATION = "organization"


DEFAULT_NAMES = {Duty.BACKUP: "HoldfastBackup", Duty.RESTORE: "HoldfastRestore"}


@dataclass(frozen=True, slots=True, order=True)
class SpokeRole:
    """One role in one account. ``path`` starts and ends with a slash."""

    account: str
    duty: Duty
    name: str
    path: str = "/"
    external_id: str = ""
    in_organization: bool = False


def _split(arn: str) -> tuple[str, str, str]:
    """Account, path and name of a role ARN."""
    account, resource = arn.split(":")[4], arn.split(":", 5)[5]
    path, _, name = resource.removeprefix("role").rpartition("/")
    return account, f"{path}/", name


def member_roles(organization: Organization) -> tuple[SpokeRole, ...]:
    """The roles of every member account; their account is known only where they are deployed."""
    names = {Duty.BACKUP: organization.backup_role_name, Duty.RESTORE: organization.restore_role_name}
    return tuple(
        SpokeRole("", duty, name, external_id=organization.external_id, in_organization=True)
        for duty, name in names.items()
    )


def spoke_roles(configuration: Configuration) -> tuple[SpokeRole, ...]:
    """Every role that a plain spoke stack makes, sorted.

    A configured role is for backups when a policy works through it, or when its name does not speak of
    restoring; an account with nothing but a backup role gets the standard restore role beside it.
    """
    sources = {policy.source.role for policy in configuration.policies if policy.source.role}
    roles: set[SpokeRole] = set()
    for role in configuration.roles:
        account, path, name = _split(role.arn)
        restores = role.name not in sources and "restore" in name.lower()
        duty = Duty.RESTORE if restores else Duty.BACKUP
        roles.add(SpokeRole(account, duty, name, path, role.external_id))
    for organization in configuration.organizations:
        account, path, name = _split(organization.management_role)
        roles.add(SpokeRole(account, Duty.ORGANIZATION, name, path, organization.external_id, True))
        roles |= {replace(role, account=account) for role in member_roles(organization)}
    for role in sorted(roles):
        beside = {other.duty for other in roles if other.account == role.account}
        if role.duty is Duty.BACKUP and Duty.RESTORE not in beside:
            name = DEFAULT_NAMES[Duty.RESTORE]
            roles.add(SpokeRole(role.account, Duty.RESTORE, name, external_id=role.external_id))
    return tuple(sorted(roles))


def assumable(configuration: Configuration, duty: Duty, partition: str) -> tuple[str, ...]:
    """ARNs of the roles of one duty; an Organization's role is a pattern over accounts."""
    fixed = {
        f"arn:{partition}:iam::{role.account}:role{role.path}{role.name}"
        for role in spoke_roles(configuration)
        if role.duty is duty
    }
    names = {
        Duty.BACKUP: [organization.backup_role_name for organization in configuration.organizations],
        Duty.RESTORE: [organization.restore_role_name for organization in configuration.organizations],
        Duty.ORGANIZATION: [],
    }[duty]
    return tuple(sorted(fixed | {f"arn:{partition}:iam::*:role/{name}" for name in names}))
