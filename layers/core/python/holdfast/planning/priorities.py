"""The order of policies of one kind, changed with as few new numbers as possible.

Equal numbers are ordered by creation, so a place between two policies may need no number of its own; policies
are numbered anew only when there is none left between the neighbours. Source: policies.md 1, P36.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeVar

from holdfast.errors import ConfigurationError
from holdfast.model.configuration import Policy

HIGHEST: Final = 100_000
P = TypeVar("P", bound=Policy)


def ordered(policies: Sequence[P]) -> tuple[P, ...]:
    """The policies in their order of precedence; ``policies`` are in the order of their creation."""
    return tuple(sorted(policies, key=lambda policy: policy.priority))


def moved(policies: Sequence[Policy], name: str, place: int) -> dict[str, int]:
    """New priorities after which ``name`` stands at ``place`` (0 is first) and the others as before.

    Raises ConfigurationError when there are more policies than numbers.
    """
    created = {policy.name: number for number, policy in enumerate(policies)}
    others = [policy for policy in ordered(policies) if policy.name != name]
    own = next(policy for policy in policies if policy.name == name)
    place = max(0, min(place, len(others)))
    before = others[place - 1] if place else None
    after = others[place] if place < len(others) else None
    low, high = before.priority if before else 0, after.priority if after else HIGHEST + 1
    first = low if before and created[before.name] < created[name] else low + 1
    last = high if after and created[name] < created[after.name] else high - 1
    if first <= own.priority <= last:
        return {}
    if after is None and first + 10 <= last:
        return {name: first + 10}
    if first <= last:
        return {name: (first + last) // 2}
    return _anew([*others[:place], own, *others[place:]])


def _anew(wanted: Sequence[Policy]) -> dict[str, int]:
    """Numbers with room between them, for those whose number changes."""
    step = min(10, HIGHEST // len(wanted))
    if not step:
        raise ConfigurationError(f"There are more than {HIGHEST} policies.", resource="policies")
    numbers = {policy.name: step * (number + 1) for number, policy in enumerate(wanted)}
    return {policy.name: numbers[policy.name] for policy in wanted if numbers[policy.name] != policy.priority}
