"""What removing restore points does to a chain of backups.

Every point stands alone (its manifest refers to all its blocks), so nothing is rewritten: the oldest point
left is by definition the full one, and a block goes when no point refers to it. Source: policies.md 6
(transform).
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Link:
    """One point of a chain.

    When, whether it is the full one, and the block versions it added (index -> version).
    """

    taken: Hashable
    full: bool
    blocks: Mapping[int, Hashable] = field(default_factory=dict, hash=False)


def contents(chain: Sequence[Link]) -> dict[Hashable, dict[int, Hashable]]:
    """What each point restores: block index -> version."""
    found: dict[Hashable, dict[int, Hashable]] = {}
    state: dict[int, Hashable] = {}
    for link in chain:
        state = dict(link.blocks) if link.full else {**state, **link.blocks}
        found[link.taken] = state
    return found


def remove(
    chain: Sequence[Link], outdated: Collection[Hashable]
) -> tuple[tuple[Link, ...], frozenset[Hashable]]:
    """The chain without some points, and the block versions that no point refers to any more."""
    restored = contents(chain)
    left: list[Link] = []
    before: dict[int, Hashable] = {}
    for link in chain:
        if link.taken in outdated:
            continue
        now = restored[link.taken]
        added = {index: version for index, version in now.items() if before.get(index) != version}
        left.append(Link(link.taken, not left, added))
        before = now
    needed = {version for link in left for version in restored[link.taken].values()}
    held = {version for state in restored.values() for version in state.values()}
    return tuple(left), frozenset(held - needed)
