"""What a policy owed on one day, instance by instance, from what the day's sessions saw.

Not seeing is no evidence while nobody could look: an instance of an account that was unreachable, and that
the day before knew, still owes everything. Source: policies.md 4.1.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from holdfast.model.configuration import SlaTemplate
from holdfast.model.restore_point import Kind
from holdfast.model.settable import minutes
from holdfast.model.sla import Cadences, Window
from holdfast.model.wall_clock import instant
from holdfast.model.windows import closes_at
from holdfast.planning.compliance import Share, credited, removal
from holdfast.planning.sla import expected, replica_due

RATED = (Kind.SNAPSHOT, Kind.REPLICA, Kind.BACKUP)
"""Products that are rated by the day."""
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Member:
    """An instance in a policy's scope."""

    instance_id: str
    account: str
    region: str
    name: str = ""


@dataclass(frozen=True, slots=True)
class Sight:
    """What one session of the day saw of its Region.

    ``seen`` are ids of instances. ``blind`` are accounts that it could not look at; None: no account at all.
    """

    region: str
    at: datetime
    seen: frozenset[str]
    blind: frozenset[str] | None = frozenset()

    def tells_of(self, member: Member) -> bool:
        """Whether this session can say that the instance was there, or was not."""
        return member.instance_id in self.seen or (
            self.blind is not None and member.account not in self.blind
        )


@dataclass(frozen=True, slots=True)
class Presence:
    """Whether an instance stood in the scope on a day.

    ``joined_at`` None: all day, or it was known before. ``unseen``: slots of sessions that could not look.
    """

    stays: bool
    removed: bool = False
    joined_at: datetime | None = None
    unseen: frozenset[datetime] = frozenset()


def presence(
    member: Member, sights: Iterable[Sight], *, known: bool, opened_at: datetime, closed_at: datetime
) -> Presence:
    """How ``member`` stood in the scope on the day that ``sights`` (of its Region) are of.

    ``known``: the day before knew it. One that left at a moment when nobody looked left as early as it may.
    """
    ordered = sorted((one for one in sights if one.region == member.region), key=lambda one: one.at)
    told = [one for one in ordered if one.tells_of(member)]
    unseen = frozenset(one.at for one in ordered if not one.tells_of(member))
    seen = [one.at for one in told if member.instance_id in one.seen]
    if told and member.instance_id not in told[-1].seen:
        before = seen or [one.at for one in ordered if one.at < told[0].at]
        left_at = before[-1] if before else opened_at - _DAY
        return Presence(stays=False, removed=removal(left_at, opened_at, closed_at), unseen=unseen)
    return Presence(stays=True, joined_at=None if known or not seen else seen[0], unseen=unseen)


def share(member: Member, found: Presence, due: Sequence[datetime], made: int) -> Share:
    """An instance's part in a day of one product."""
    before = credited([at for at in due if at not in found.unseen], found.joined_at)
    return Share(member.instance_id, len(due), made, before, found.removed)


def due_on(template: SlaTemplate, kind: Kind, on: date, zone: ZoneInfo) -> tuple[datetime, ...]:
    """The instants at which ``kind`` is due in the window that opens on ``on``.

    A replica is due with the first snapshot of the first day of its period that has snapshots.
    """
    if kind is Kind.ARCHIVE:
        return ()
    if kind is not Kind.REPLICA:
        return expected(template, kind, on, zone)
    snapshots = expected(template, Kind.SNAPSHOT, on, zone)
    if template.replicas is None or not snapshots:
        return ()
    had = any(
        not replica_due(template.replicas, on, (day,)) and expected(template, Kind.SNAPSHOT, day, zone)
        for day in (on - _DAY * back for back in range(1, 31))
    )
    return () if had else snapshots[:1]


def is_promised(template: SlaTemplate, kind: Kind) -> bool:
    """Whether a template has this product at all."""
    made = {
        Kind.SNAPSHOT: template.snapshots,
        Kind.REPLICA: template.replicas,
        Kind.BACKUP: template.backups,
        Kind.ARCHIVE: template.archives,
    }
    return made[kind] is not None


def _windows(template: SlaTemplate) -> list[Window]:
    pairs: list[tuple[Cadences | None, Window]] = [
        (template.snapshots, template.snapshot_window),
        (template.backups, template.backup_window),
    ]
    return [window for cadences, window in pairs if cadences is not None]


def day_opens_at(template: SlaTemplate, zones: Iterable[ZoneInfo], on: date) -> datetime:
    """When the first window that opens on the local date ``on`` opens in any Region."""
    starts = [minutes(window.start) for window in _windows(template)] or [0]
    return min(instant(on, min(starts), zone) for zone in zones)


def day_closes_at(template: SlaTemplate, zones: Collection[ZoneInfo], on: date) -> datetime:
    """When the last window that opened on the local date ``on`` has closed in all Regions."""
    return max(closes_at(window, zones, on) for window in _windows(template) or [Window()])


def closed_day(template: SlaTemplate, zone: ZoneInfo, at: datetime) -> date:
    """The newest local date whose windows have closed in a Region at ``at``."""
    on = at.astimezone(zone).date()
    while day_closes_at(template, (zone,), on) > at:
        on -= _DAY
    return on
