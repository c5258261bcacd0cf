"""Whose and which instances a policy protects, with a reason for each one that exists.

Every instance of the inventory gets exactly one verdict: coverage reports add these up to the inventory, so a
verdict may be wrong but never missing. Exclusions win over every inclusion. Source: policies.md 1 and 2.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from holdfast.errors import ConfigurationError
from holdfast.model.configuration import AnyPolicy, Configuration, Organization, Role, Tag
from holdfast.model.inventory import AttachedVolume, Instance
from holdfast.model.scope import Account, VolumeExclusion

GONE = frozenset({"terminated", "shutting-down"})


class Coverage(StrEnum):
    """What a policy does with an instance."""

    PROTECTED = "protected"
    EXCLUDED = "excluded"
    NOT_SELECTED = "not selected"


@dataclass(frozen=True, slots=True)
class ExcludedVolume:
    """A volume that is left out, and why."""

    volume_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What happens to one instance, and why."""

    instance: Instance
    coverage: Coverage
    reason: str
    excluded_volumes: tuple[ExcludedVolume, ...] = ()

    @property
    def volumes(self) -> tuple[AttachedVolume, ...]:
        """The volumes that snapshots and backups take."""
        left_out = {volume.volume_id for volume in self.excluded_volumes}
        return tuple(volume for volume in self.instance.volumes if volume.volume_id not in left_out)


@dataclass(frozen=True, slots=True)
class Selection:
    """A verdict for every instance, ordered by account, Region and instance id."""

    verdicts: tuple[Verdict, ...]

    def with_coverage(self, coverage: Coverage) -> tuple[Verdict, ...]:
        """The verdicts of one kind."""
        return tuple(verdict for verdict in self.verdicts if verdict.coverage is coverage)

    @property
    def protected(self) -> tuple[Verdict, ...]:
        return self.with_coverage(Coverage.PROTECTED)


@dataclass(frozen=True, slots=True)
class Target:
    """An account to protect and the role that is assumed in it."""

    account: str
    role_arn: str
    external_id: str = ""
    account_name: str = ""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """An account of the Organization that the policy does not enter, and why."""

    account: str
    reason: str


@dataclass(frozen=True, slots=True)
class Scope:
    """The accounts of a policy, ordered by account id: those to enter, and the others with reasons."""

    targets: tuple[Target, ...]
    left_out: tuple[LeftOut, ...] = ()


def find_role(configuration: Configuration, name: str) -> Role:
    """The role with this name. Raises ConfigurationError."""
    for role in configuration.roles:
        if role.name == name:
            return role
    raise ConfigurationError(f"There is no role {name!r}.", resource="roles", remedy="Add it under `roles`.")


def find_organization(configuration: Configuration, name: str) -> Organization:
    """The organization with this name. Raises ConfigurationError."""
    for organization in configuration.organizations:
        if organization.name == name:
            return organization
    raise ConfigurationError(
        f"There is no organization {name!r}.",
        resource="organizations",
        remedy="Add it under `organizations`.",
    )


def _why_outside(policy: AnyPolicy, account: Account) -> str:
    """Why an account of the policy's Organization is not entered; empty when it is."""
    source = policy.source
    if account.account in source.exclude_accounts:
        return "the account is excluded by exclude_accounts"
    for unit in account.units:
        if unit in source.exclude_units:
            return f"the account lies in the excluded unit {unit}"
    if source.units and not set(source.units) & set(account.units):
        return "the account lies in none of the chosen units"
    return "" if account.active else "the account is not active"


def scope(configuration: Configuration, policy: AnyPolicy, accounts: Iterable[Account] = ()) -> Scope:
    """The accounts of ``policy``. ``accounts`` lists the Organization; an account source needs none.

    Raises ConfigurationError for a role or organization that is not configured.
    """
    if not policy.source.organization:
        role = find_role(configuration, policy.source.role)
        return Scope((Target(role.account, role.arn, role.external_id, role.name),))
    organization = find_organization(configuration, policy.source.organization)
    partition = organization.management_role.split(":")[1]
    targets, left_out = [], []
    for account in sorted(accounts, key=lambda account: account.account):
        if account.organization not in ("", organization.name):
            continue
        if reason := _why_outside(policy, account):
            left_out.append(LeftOut(account.account, reason))
            continue
        arn = f"arn:{partition}:iam::{account.account}:role/{organization.backup_role_name}"
        targets.append(Target(account.account, arn, organization.external_id, account.name))
    return Scope(tuple(targets), tuple(left_out))


def targets(
    configuration: Configuration, policy: AnyPolicy, accounts: Iterable[Account] = ()
) -> tuple[Target, ...]:
    """The accounts that ``policy`` enters, with role and external id."""
    return scope(configuration, policy, accounts).targets


def precedence(configuration: Configuration) -> tuple[AnyPolicy, ...]:
    """All policies, the owner of a contested instance first: SLA-based, then priority, then creation."""
    return (
        *sorted(configuration.sla_policies, key=lambda policy: policy.priority),
        *sorted(configuration.policies, key=lambda policy: policy.priority),
    )


def enters(configuration: Configuration, policy: AnyPolicy, place: Account) -> bool:
    """Whether ``policy`` enters an account; ``place`` says where the account lies in which Organization."""
    if policy.source.organization:
        return place.organization == policy.source.organization and not _why_outside(policy, place)
    return find_role(configuration, policy.source.role).account == place.account


def rivals(configuration: Configuration, policy: AnyPolicy, account: Account | str) -> tuple[AnyPolicy, ...]:
    """Enabled policies that come before ``policy`` and enter ``account``; pass them to :func:`select`.

    A plain account id belongs to no Organization; an ``Account`` says where in its Organization it lies.
    """
    place = Account(account=account) if isinstance(account, str) else account
    found: list[AnyPolicy] = []
    for other in precedence(configuration):
        if other.name == policy.name:
            break
        if other.enabled and enters(configuration, other, place):
            found.append(other)
    return tuple(found)


def _matching(tags: Sequence[Tag], have: Mapping[str, str]) -> list[Tag]:
    return [tag for tag in tags if tag.key in have and tag.value in ("", have[tag.key])]


def _spelled(tag: Tag) -> str:
    return f"{tag.key}={tag.value}" if tag.value else tag.key


def _why_selected(policy: AnyPolicy, instance: Instance) -> str:
    """Why the policy's resources include the instance; empty when they do not."""
    chosen = policy.selection
    if chosen.all:
        return "all instances are selected"
    if instance.instance_id in chosen.instances:
        return "the instance is listed"
    found = _matching(chosen.tags, instance.tags)
    if found and (chosen.tags_match == "any" or len(found) == len(chosen.tags)):
        return f"the tag {' and '.join(_spelled(tag) for tag in found)} is selected"
    return ""


def _why_excluded(policy: AnyPolicy, instance: Instance) -> str:
    if instance.instance_id in policy.selection.exclude_instances:
        return "the instance is excluded by exclude_instances"
    for tag in _matching(policy.selection.exclude_tags, instance.tags):
        return f"the instance has the excluded tag {_spelled(tag)}"
    return ""


def excluded_volumes(exclusion: VolumeExclusion, instance: Instance) -> tuple[ExcludedVolume, ...]:
    """The volumes of an instance that are left out, with reasons."""
    found = []
    for volume in instance.volumes:
        if exclusion.system_volumes and volume.root:
            found.append(ExcludedVolume(volume.volume_id, "system volumes are excluded"))
        elif volume.volume_id in exclusion.volumes:
            found.append(ExcludedVolume(volume.volume_id, "the volume is listed in exclude_volumes"))
        elif tags := _matching(exclusion.tags, volume.tags):
            found.append(
                ExcludedVolume(volume.volume_id, f"the volume has the excluded tag {_spelled(tags[0])}")
            )
    return tuple(found)


def matches(policy: AnyPolicy, instance: Instance) -> tuple[Coverage, str]:
    """What ``policy`` alone says about an instance of an account that it enters."""
    if instance.region not in policy.regions:
        return Coverage.NOT_SELECTED, f"the Region {instance.region} is not in the policy"
    if instance.state in GONE:
        return Coverage.NOT_SELECTED, f"the instance is {instance.state}"
    if reason := _why_excluded(policy, instance):
        return Coverage.EXCLUDED, reason
    if reason := _why_selected(policy, instance):
        return Coverage.PROTECTED, reason
    return Coverage.NOT_SELECTED, "neither its id nor its tags are selected"


def _judge(policy: AnyPolicy, instance: Instance, before: Sequence[AnyPolicy]) -> Verdict:
    coverage, reason = matches(policy, instance)
    if coverage is not Coverage.PROTECTED:
        return Verdict(instance, coverage, reason)
    for other in before:
        if matches(other, instance)[0] is Coverage.PROTECTED:
            return Verdict(instance, Coverage.NOT_SELECTED, f"the policy {other.name!r} owns the instance")
    if not instance.volumes:
        return Verdict(instance, Coverage.EXCLUDED, "the instance has no EBS volume")
    left_out = excluded_volumes(policy.exclude_volumes, instance)
    if len(left_out) == len(instance.volumes):
        return Verdict(instance, Coverage.EXCLUDED, "all its volumes are excluded", left_out)
    return Verdict(instance, coverage, reason, left_out)


def select(
    policy: AnyPolicy, instances: Iterable[Instance], rivals: Mapping[str, Sequence[AnyPolicy]] | None = None
) -> Selection:
    """A verdict for every instance. ``rivals`` holds, per account id, the policies that come first there."""
    ordered = sorted(
        instances, key=lambda instance: (instance.account, instance.region, instance.instance_id)
    )
    before = rivals or {}
    return Selection(
        tuple(_judge(policy, instance, before.get(instance.account, ())) for instance in ordered)
    )
