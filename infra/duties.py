"""Which roles Holdfast assumes in which account, and what for.

The same answer renders three things that must agree: the roles in the spoke stacks, their trust policies, and
the right of the functions to assume them. It follows how roles are chosen at run time (`planning.roles`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby

from holdfast.model.configuration import Configuration, Organization


class Duty(StrEnum):
    """What a spoke role is for."""

    BACKUP = "backup"
    RESTORE = "restore"
    ORGANIZATION = "organization"


@dataclass(frozen=True, slots=True, order=True)
class SpokeRole:
    """One role in one account. ``path`` starts and ends with a slash.

    No external id means that none is asked for. ``in_organization`` roles ask that the caller belongs to the
    Organization.
    """

    account: str
    path: str
    name: str
    duties: tuple[Duty, ...]
    external_ids: tuple[str, ...] = ()
    in_organization: bool = False


def _split(arn: str) -> tuple[str, str, str]:
    """Account, path and name of a role ARN."""
    account, resource = arn.split(":")[4], arn.split(":", 5)[5]
    path, _, name = resource.removeprefix("role").rpartition("/")
    return account, f"{path}/", name


def _some(external_id: str) -> tuple[str, ...]:
    return (external_id,) if external_id else ()


def member_roles(organization: Organization, account: str = "") -> tuple[SpokeRole, ...]:
    """The roles of every member account of an Organization."""
    names = {Duty.BACKUP: organization.backup_role_name, Duty.RESTORE: organization.restore_role_name}
    return tuple(
        SpokeRole(account, "/", name, (duty,), _some(organization.external_id), True)
        for duty, name in names.items()
    )


def _configured(configuration: Configuration) -> Iterator[SpokeRole]:
    """Roles configured one by one. The first of an account also restores; others restore by their name."""
    sources = {policy.source.role for policy in (*configuration.policies, *configuration.sla_policies)}
    first: set[str] = set()
    for role in configuration.roles:
        account, path, name = _split(role.arn)
        named_so = "restore" in name.lower()
        duties = [Duty.BACKUP] if role.name in sources or not named_so else []
        if named_so or account not in first:
            duties.append(Duty.RESTORE)
        first.add(account)
        yield SpokeRole(account, path, name, tuple(duties), _some(role.external_id))


def _of_management(organization: Organization) -> Iterator[SpokeRole]:
    account, path, name = _split(organization.management_role)
    yield SpokeRole(account, path, name, (Duty.ORGANIZATION,), _some(organization.external_id), True)
    yield from member_roles(organization, account)


def _merged(same: list[SpokeRole]) -> SpokeRole:
    """One role that several entries of the configuration name."""
    first = same[0]
    ids = {external_id for role in same for external_id in role.external_ids}
    return SpokeRole(
        first.account,
        first.path,
        first.name,
        tuple(duty for duty in Duty if any(duty in role.duties for role in same)),
        tuple(sorted(ids)) if all(role.external_ids for role in same) else (),
        all(role.in_organization for role in same),
    )


def spoke_roles(configuration: Configuration) -> tuple[SpokeRole, ...]:
    """Every role that a plain spoke stack makes, sorted."""
    roles = [*_configured(configuration)]
    for organization in configuration.organizations:
        roles += _of_management(organization)
    grouped = groupby(sorted(roles), key=lambda role: (role.account, role.path, role.name))
    return tuple(_merged(list(same)) for _, same in grouped)


def assumable(configuration: Configuration, duty: Duty, partition: str) -> tuple[str, ...]:
    """ARNs of the roles of one duty; an Organization's role is a pattern over accounts."""
    fixed = {
        f"arn:{partition}:iam::{role.account}:role{role.path}{role.name}"
        for role in spoke_roles(configuration)
        if duty in role.duties
    }
    anywhere = {
        f"arn:{partition}:iam::*:role/{role.name}"
        for organization in configuration.organizations
        for role in member_roles(organization)
        if duty in role.duties
    }
    return tuple(sorted(fixed | anywhere))
