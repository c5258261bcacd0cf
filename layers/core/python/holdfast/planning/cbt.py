"""Which snapshot changed block tracking needs, and what the next image-level backup reads.

How a backup is read and what it stores are independent: whatever had to be read, a chain with an older
point stores an increment. Source: policies.md 4 (temporary snapshots), 5; decisions.md (keep 0, temporary
snapshots).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Read(StrEnum):
    """What a backup reads of a volume."""

    ALLOCATED = "allocated blocks"
    CHANGED = "changed blocks"
    ALL_AND_COMPARE = "all allocated blocks, compared with the repository by digest"
    WHOLE = "the whole volume"


class Until(StrEnum):
    """How long the snapshot behind a backup is kept."""

    NEXT_BACKUP_COMPLETES = "until the next backup completes"
    COMPARISON_COMPLETES = "until the next backup has completed the comparison"
    RETENTION = "as retention says"
    THIS_BACKUP_COMPLETES = "until this backup completes"


@dataclass(frozen=True, slots=True)
class Reading:
    """How one backup is made. ``full`` points begin a chain."""

    read: Read
    full: bool
    new_chain: bool = False


@dataclass(frozen=True, slots=True)
class Source:
    """The snapshot behind an SLA-based backup.

    A reused or a temporary one, and what the next backup can read.
    """

    temporary: bool
    keep: Until
    next_read: Read


def reading(
    *,
    first: bool,
    direct_apis: bool = True,
    base_present: bool = True,
    repository_changed: bool = False,
    chain_damaged: bool = False,
) -> Reading:
    """How the next backup of an instance is made."""
    new_chain = not first and (repository_changed or chain_damaged)
    if first or new_chain:
        return Reading(Read.ALLOCATED if direct_apis else Read.WHOLE, full=True, new_chain=new_chain)
    if direct_apis and base_present:
        return Reading(Read.CHANGED, full=False)
    return Reading(Read.ALL_AND_COMPARE, full=False)


def sla_source(*, starts_together: bool, cbt: bool, base_survives: bool = True) -> Source:
    """The snapshot behind a backup of an SLA policy.

    ``starts_together``: the snapshot and the backup schedule start at this moment, so the backup reuses
    the snapshot. ``base_survives``: its retention ends after the next backup starts.
    """
    if cbt:
        keep = Until.NEXT_BACKUP_COMPLETES if starts_together else Until.COMPARISON_COMPLETES
        return Source(not starts_together, keep, Read.CHANGED)
    if starts_together:
        return Source(False, Until.RETENTION, Read.CHANGED if base_survives else Read.ALL_AND_COMPARE)
    return Source(True, Until.THIS_BACKUP_COMPLETES, Read.ALL_AND_COMPARE)
