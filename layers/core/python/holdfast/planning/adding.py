"""Which policies an instance can be added to: those that already reach it.

An instance is never added to a policy that would not find it, or that an exclusion keeps from it. Source:
policies.md 9 (P77); policies of Organizations are offered too, where the reference product cannot.
"""

from __future__ import annotations

from dataclasses import dataclass

from holdfast.model.configuration import AnyPolicy, Configuration
from holdfast.model.scope import Account
from holdfast.planning.selection import enters


@dataclass(frozen=True, slots=True)
class Placed:
    """An instance, and where it is. ``place``: where its account lies in an Organization, as far as known."""

    instance_id: str
    account: str
    region: str
    place: Account | None = None


def why_not(configuration: Configuration, policy: AnyPolicy, placed: Placed) -> str:
    """Why the instance cannot be added to the policy; empty when it can."""
    selection = policy.selection
    if placed.region not in policy.regions:
        return f"the Region {placed.region} is not in the policy"
    if policy.source.organization and placed.place is None:
        return f"no session of the policy has entered the account {placed.account} yet"
    if not enters(configuration, policy, placed.place or Account(account=placed.account)):
        return f"the policy does not enter the account {placed.account}"
    if placed.instance_id in selection.exclude_instances:
        return "the instance is excluded by exclude_instances, and exclusions win"
    if selection.all:
        return "the policy selects every instance already"
    return "the instance is listed already" if placed.instance_id in selection.instances else ""


def eligible(configuration: Configuration, placed: Placed) -> tuple[str, ...]:
    """Names of the policies that the instance can be added to."""
    every: tuple[AnyPolicy, ...] = (*configuration.sla_policies, *configuration.policies)
    return tuple(policy.name for policy in every if not why_not(configuration, policy, placed))
