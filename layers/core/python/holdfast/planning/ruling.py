"""Under whose retention the restore points of an instance stand.

The owner judges them all, whoever made them. Without an owner, a policy that would own the instance if it
were enabled goes on ageing them. Only an instance that was certainly looked for, in an account whose place is
known, stands in no policy: absence of evidence makes nothing obsolete. Source: policies.md 1, 3.1, 6.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum

from holdfast.model.configuration import AnyPolicy, Configuration
from holdfast.model.inventory import Instance
from holdfast.model.restore_point import Kind, RestorePoint
from holdfast.model.scope import Account
from holdfast.planning.protection import archive_for, repository_for
from holdfast.planning.selection import Coverage, enters, matches, precedence, select


class Standing(StrEnum):
    """Who judges the restore points of an instance."""

    OWNED = "owned"
    AGEING = "ageing"
    OBSOLETE = "obsolete"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Ruler:
    """The judge of an instance's restore points, and why; ``policy`` for OWNED and AGEING."""

    standing: Standing
    reason: str
    policy: AnyPolicy | None = None


def ruler_of(
    configuration: Configuration,
    instance: Instance | None,
    place: Account,
    unread: Collection[str] = (),
) -> Ruler:
    """The judge of one instance; None for an instance that is gone from an inventory that was read whole.

    ``unread`` are Organizations whose tree could not be walked: an account that was found in no other one
    may lie there.
    """
    if not place.active:
        return Ruler(Standing.UNKNOWN, "the account is closed or suspended")
    homeless = bool(unread) and not place.organization
    found = _selecting(configuration, instance, place, unread if homeless else ()) if instance else None
    if found is not None and found.standing is not Standing.AGEING:
        return found
    if homeless:
        return Ruler(Standing.UNKNOWN, "the account may lie in an Organization that was not read")
    reason = "no policy selects the instance" if instance else "the instance is gone"
    return found or Ruler(Standing.OBSOLETE, reason)


def _selecting(
    configuration: Configuration, instance: Instance, place: Account, maybe: Collection[str]
) -> Ruler | None:
    """The first policy that owns the instance, else the first that selects it; None: no policy does.

    The account may lie in any of the Organizations ``maybe``.
    """
    ageing: Ruler | None = None
    for policy in precedence(configuration):
        may_enter = policy.source.organization in maybe
        if not may_enter and not enters(configuration, policy, place):
            continue
        if matches(policy, instance)[0] is not Coverage.PROTECTED:
            continue
        if may_enter and policy.enabled:
            reason = f"whether the policy {policy.name!r} owns it is not known: its Organization was not read"
            return Ruler(Standing.UNKNOWN, reason)
        if policy.enabled and select(policy, [instance]).protected:
            return Ruler(Standing.OWNED, f"the policy {policy.name!r} owns the instance", policy)
        if ageing is None:
            reason = f"no policy owns the instance; {policy.name!r}, which selects it, ages its points"
            ageing = Ruler(Standing.AGEING, reason, policy)
    return ageing


def judge_of(
    configuration: Configuration, ruler: Ruler, kind: Kind, region: str, chain: Sequence[RestorePoint]
) -> AnyPolicy | None:
    """The policy whose retention judges a chain of an instance in ``region``; None: no policy's does.

    Backups in a repository that is not the judge's own go on by the policy that made them.
    """
    if kind in (Kind.SNAPSHOT, Kind.REPLICA):
        return ruler.policy
    place_of = archive_for if kind is Kind.ARCHIVE else repository_for
    if ruler.policy and place_of(configuration, ruler.policy, region) == chain[-1].repository:
        return ruler.policy
    return configuration.policy(chain[-1].policy)
