"""Which policy owns an instance, and what every other policy says about it.

All policies are asked in their order of precedence; the first enabled one that protects the instance owns
it. The answer must agree with ``selection.select``, which sessions use policy by policy.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TypeVar

from holdfast.model.configuration import AnyPolicy, Configuration, Policy
from holdfast.model.inventory import Instance
from holdfast.model.scope import Account
from holdfast.planning.selection import Coverage, enters, precedence, select

P = TypeVar("P", bound=Policy)


@dataclass(frozen=True, slots=True)
class Opinion:
    """What one policy says about an instance. ``owns`` is true for at most one."""

    policy: str
    coverage: Coverage
    reason: str
    owns: bool = False


def without(configuration: Configuration, switched_off: Collection[str]) -> Configuration:
    """The configuration in which the policies of these names are disabled: an operator switched them off."""

    def switched(policies: tuple[P, ...]) -> tuple[P, ...]:
        return tuple(
            policy.model_copy(update={"enabled": False}) if policy.name in switched_off else policy
            for policy in policies
        )

    return configuration.model_copy(
        update={
            "policies": switched(configuration.policies),
            "sla_policies": switched(configuration.sla_policies),
        }
    )


def opinions(configuration: Configuration, instance: Instance, place: Account) -> tuple[Opinion, ...]:
    """Every policy's opinion on an instance of the account ``place``, in order of precedence."""
    found: list[Opinion] = []
    owner = ""
    for policy in precedence(configuration):
        if not enters(configuration, policy, place):
            reason = f"the policy does not enter the account {place.account}"
            found.append(Opinion(policy.name, Coverage.NOT_SELECTED, reason))
            continue
        (verdict,) = select(policy, [instance]).verdicts
        if verdict.coverage is not Coverage.PROTECTED:
            found.append(Opinion(policy.name, verdict.coverage, verdict.reason))
        elif not policy.enabled:
            reason = f"the policy is disabled ({verdict.reason})"
            found.append(Opinion(policy.name, Coverage.NOT_SELECTED, reason))
        elif owner:
            found.append(
                Opinion(policy.name, Coverage.NOT_SELECTED, f"the policy {owner!r} owns the instance")
            )
        else:
            owner = policy.name
            found.append(Opinion(policy.name, Coverage.PROTECTED, verdict.reason, owns=True))
    return tuple(found)


def owner_of(configuration: Configuration, instance: Instance, place: Account) -> AnyPolicy | None:
    """The policy that owns an instance, or None."""
    name = next((each.policy for each in opinions(configuration, instance, place) if each.owns), None)
    return configuration.policy(name) if name else None


def uncovered(found: tuple[Opinion, ...]) -> tuple[Coverage, str]:
    """Why nobody owns an instance: an exclusion says more than not being selected."""
    for each in found:
        if each.coverage is Coverage.EXCLUDED:
            return Coverage.EXCLUDED, f"{each.policy}: {each.reason}"
    if not found:
        return Coverage.NOT_SELECTED, "there is no policy"
    return Coverage.NOT_SELECTED, "; ".join(f"{each.policy}: {each.reason}" for each in found)
