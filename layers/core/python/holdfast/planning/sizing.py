"""How much runs at the same time, by how much there is to move.

The thresholds are those of the reference's worker sizes, so that a person who knows them finds them again;
here they choose a number of movers, not a machine. Source: policies.md 2 (workers), 6 (RT-9, RT-11).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Profile:
    """Segments of one instance that move at the same time.

    ``instance_type`` is the reference's worker of this size.
    """

    name: str
    movers: int
    instance_type: str


SMALL: Final = Profile("small", 16, "c5.large")
MEDIUM: Final = Profile("medium", 64, "c5.2xlarge")
LARGE: Final = Profile("large", 128, "c5.4xlarge")

_REMOVAL: Final = ((3, "c5.large"), (6, "c5.xlarge"), (12, "c5.2xlarge"))


def profile(total_gib: int) -> Profile:
    """The profile of an instance by the total size of its volumes in GiB."""
    if total_gib < 1024:
        return SMALL
    return MEDIUM if total_gib <= 16_384 else LARGE


def parallel_chains(memory_gib: int) -> int:
    """Chains whose retention runs at the same time, by the reference controller's memory in GiB."""
    if memory_gib < 9:
        return 32
    return 64 if memory_gib <= 32 else 128


def removal_worker(removed_tib: int) -> str:
    """The reference's worker for removing this many TiB of backups, as the cost comparison counts it."""
    return next((name for limit, name in _REMOVAL if removed_tib < limit), "c5.4xlarge")
