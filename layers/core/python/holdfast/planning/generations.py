"""How long the objects of an immutable repository are locked.

All blocks of a generation become deletable together, so that a later backup that still refers to them
needs no renewal before the next generation opens. Locks are only ever extended. Source: policies.md 6;
infrastructure.md 5.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from holdfast.model.restore_point import Flag
from holdfast.model.schedules import Keep
from holdfast.planning.calendar import kept_until

GENERATION: Final = timedelta(days=25)


@dataclass(frozen=True, slots=True)
class Generation:
    """Backups of one chain and schedule type that are locked until the same day."""

    flag: Flag
    number: int
    started_at: datetime
    keep: Keep


@dataclass(frozen=True, slots=True)
class Lock:
    """What a backup writes and extends.

    ``until`` is the retain-until date of its own objects, and, when ``extend_inherited``, of every older
    object that it still refers to. ``removed_at`` is when the restore point itself is no longer kept.
    """

    generation: Generation
    until: datetime
    removed_at: datetime
    extend_inherited: bool


def lock(created_at: datetime, keep: Keep, flag: Flag, current: Generation | None, zone: ZoneInfo) -> Lock:
    """The lock of a backup made at ``created_at``. A changed retention opens a generation; old locks stay."""
    age = created_at - current.started_at if current else timedelta()
    opens = current is None or age >= GENERATION or current.keep != keep or current.flag is not flag
    generation = (
        Generation(flag, current.number + 1 if current else 1, created_at, keep)
        if opens or current is None
        else current
    )
    removed_at = kept_until(created_at, keep, zone)
    until = removed_at + GENERATION - (timedelta() if opens else timedelta(days=age.days))
    return Lock(generation, until, removed_at, extend_inherited=opens and current is not None)


def extended(existing: datetime | None, wanted: datetime) -> datetime | None:
    """The retain-until date to set, or None when the existing one is late enough."""
    return wanted if existing is None or wanted > existing else None


def deletable_at(locked_until: datetime) -> datetime:
    """When an object that nothing refers to may be deleted: the day after its lock expired."""
    return locked_until + timedelta(days=1)
