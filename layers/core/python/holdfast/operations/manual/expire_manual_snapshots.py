"""Removes manual snapshots, and the copies of them, whose days are over.

No policy's retention sees them. The note that a snapshot is due is only a reminder: what its own tags say
now decides, so an operator keeps one longer, or for good, by changing or removing the tag.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from holdfast.errors import HoldfastError
from holdfast.model import tags as names
from holdfast.model.ids import parse_stamp
from holdfast.model.inventory import Value
from holdfast.model.restore_point import Kind, RestorePoint
from holdfast.operations.manual.manual_snapshot import SESSION, remember_expiry
from holdfast.operations.replicas.copying import clear_remains

if TYPE_CHECKING:
    from holdfast.operations.services import OnDemandServices
    from holdfast.ports import VolumeSnapshot

log = logging.getLogger(__name__)


class ExpireManualSnapshots(Value):
    """The schedule's event."""

    scheduled_at: str = ""


def expire_manual_snapshots(request: ExpireManualSnapshots, services: OnDemandServices) -> Mapping[str, Any]:
    """Remove what is due; returns the ids of removed snapshots and of those that stay, with the reason.

    One that fails does not stop the others; the first error is raised at the end, and everything that is not
    done is due again tomorrow. What copies left a day ago or longer is taken back, too.
    """
    now = services.clock.now()
    removed: list[str] = []
    left: dict[str, str] = {}
    errors: list[HoldfastError] = []
    for part, body in list(services.catalog.parts(SESSION, "expiry/")):
        if parse_stamp(part.split("/")[1]) > now:
            break
        point = RestorePoint.model_validate(body["point"])
        try:
            kept = _expire(point, str(body["role"]), now, removed, left, services)
        except HoldfastError as error:
            log.error("%s: %s", point.point_id, error)
            errors.append(error)
            continue
        if kept is not None:
            remember_expiry(kept, str(body["role"]), services)
        services.catalog.remove_part(SESSION, part)
    for problem in clear_remains("", services):
        log.error("a copy left something behind: %s: %s", problem.resource, problem.message)
        left[problem.resource] = problem.message
    if errors:
        raise errors[0]
    return {"removed": removed, "left": left}


def _expire(
    point: RestorePoint,
    role: str,
    now: datetime,
    removed: list[str],
    left: dict[str, str],
    services: OnDemandServices,
) -> RestorePoint | None:
    """Remove the snapshots of a point when their tags agree; else the point with the date they have now."""
    spoke = services.spoke_in(point.account, point.region, role)
    found = spoke.read_snapshots(sorted(point.snapshot_ids.values()))
    refusals = {one.snapshot_id: _why_not(one, point, now, services.settings.installation) for one in found}
    left |= {snapshot_id: refusal for snapshot_id, refusal in refusals.items() if refusal}
    if any(refusals.values()):
        dates = [names.read_instant(one.tags, names.KEEP_UNTIL) for one in found]
        later = min((date for date in dates if date and date > now), default=None)
        kept = _recorded(point, services).model_copy(update={"keep_until": later})
        services.catalog.add_point(kept)
        return kept
    services.catalog.add_point(point.model_copy(update={"complete": False}))
    for one in found:
        spoke.delete_snapshot(one.snapshot_id)
        removed.append(one.snapshot_id)
        log.info("removed %s of %s: its days are over", one.snapshot_id, point.point_id)
    services.catalog.remove_point(point)
    return None


def _recorded(point: RestorePoint, services: OnDemandServices) -> RestorePoint:
    """What the catalog says of a point now; the note was written when it was not complete yet."""
    for one in services.catalog.points(point.instance_id, point.kind):
        if (one.point_id, one.account, one.region) == (point.point_id, point.account, point.region):
            return one
    return point


def _why_not(snapshot: VolumeSnapshot, point: RestorePoint, now: datetime, installation: str) -> str:
    """Why a snapshot stays although its note is due; empty when it may go."""
    expected = {
        names.INSTALLATION: installation,
        names.POINT: point.point_id,
        names.INSTANCE: point.instance_id,
        names.KIND: "replica" if point.kind is Kind.REPLICA else "manual",
    }
    for key, value in expected.items():
        if snapshot.tags.get(key) != value:
            return f"its tag {key} is {snapshot.tags.get(key)!r} now, not {value!r}"
    keep_until = names.read_instant(snapshot.tags, names.KEEP_UNTIL)
    if keep_until is None:
        return f"it has no tag {names.KEEP_UNTIL} any more"
    return f"it is kept until {snapshot.tags[names.KEEP_UNTIL]} now" if keep_until > now else ""
