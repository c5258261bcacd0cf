"""Manual snapshots that the catalog lost, and the copies of them, come back from their tags.

What no policy made is judged by nobody: only listed again, with the note of the day on which it is due to go.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from holdfast.model import tags as names
from holdfast.model.restore_point import Kind, RestorePoint
from holdfast.operations.manual.manual_snapshot import remember_expiry
from holdfast.operations.services import OnDemandServices
from holdfast.operations.snapshot_sets import by_call, point_of
from holdfast.ports import Spoke, VolumeSnapshot

log = logging.getLogger(__name__)

SETTLED_AFTER: Final = timedelta(hours=24)
"""Younger ones may be about to be recorded."""
_KINDS: Final = {names.MANUAL: Kind.SNAPSHOT, Kind.REPLICA.value: Kind.REPLICA}


def recover_manual(
    listing: Sequence[VolumeSnapshot],
    account: str,
    region: str,
    role: str,
    spoke: Spoke,
    services: OnDemandServices,
) -> int:
    """Add to the catalog what is whole, a day old and not due to go; returns how many restore points."""
    sets: dict[tuple[str, str], list[VolumeSnapshot]] = {}
    for one in listing:
        kind, point = one.tags.get(names.KIND, ""), one.tags.get(names.POINT, "")
        if kind in _KINDS and point and not one.tags.get(names.POLICY):
            sets.setdefault((kind, point), []).append(one)
    recovered = 0
    for (kind, _), snapshots in sorted(sets.items()):
        found = _point(snapshots, _KINDS[kind], account, region, services)
        if found is not None and _is_lost(found, spoke, services):
            services.catalog.add_point(found)
            remember_expiry(found, role, services)
            log.warning("%s of %s is in the catalog again", found.point_id, found.instance_id)
            recovered += 1
    return recovered


def _point(
    snapshots: Sequence[VolumeSnapshot], kind: Kind, account: str, region: str, services: OnDemandServices
) -> RestorePoint | None:
    """The restore point of the first whole set, when no step can be working on it any more."""
    now = services.clock.now()
    for made in by_call(snapshots):
        point = point_of(
            made, installation=services.settings.installation, account=account, region=region, kind=kind
        )
        if point is not None and now - max(one.started_at for one in made) >= SETTLED_AFTER:
            return point.model_copy(update={"manual": True})
    return None


def _is_lost(point: RestorePoint, spoke: Spoke, services: OnDemandServices) -> bool:
    """Whether the catalog does not know the point, and all its snapshots are there now, to stay."""
    if point.keep_until is not None and point.keep_until <= services.clock.now():
        return False
    known = services.catalog.points(point.instance_id, point.kind)
    if any((one.point_id, one.account, one.region) == _identity(point) for one in known):
        return False
    there = spoke.read_snapshots(sorted(point.snapshot_ids.values()))
    return len(there) == len(point.snapshot_ids)


def _identity(point: RestorePoint) -> tuple[str, str, str]:
    return point.point_id, point.account, point.region
