"""A manual snapshot becomes a restore point once every volume of it is completed, and not before.

Polled by its state machine, which is always started. What EBS fails stays recorded as incomplete, so that
nobody relies on it, and people are told.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import timedelta
from html import escape
from typing import TYPE_CHECKING, Any

from pydantic import Field

from holdfast.errors import PermanentError, SourceGoneError
from holdfast.model.inventory import Value
from holdfast.model.restore import AccountId, InstanceId, PointId, Region
from holdfast.model.restore_point import Kind, RestorePoint
from holdfast.model.session import Problem, State
from holdfast.operations.replicas.copy_snapshots import CopyTarget
from holdfast.operations.reports.telling import Message, tell
from holdfast.operations.snapshot_sets import still_pending
from holdfast.operations.steps import StateError
from holdfast.planning.attempts import is_told, mailings

if TYPE_CHECKING:
    from holdfast.operations.services import OnDemandServices

log = logging.getLogger(__name__)

LONGEST_WAIT = 60
"""Seconds between two looks at most."""
PATIENCE = timedelta(days=1)
"""After the snapshot was taken: one that is still pending then will not be completed."""


class ConfirmManualSnapshot(Value):
    """The machine's event: a set of snapshots (volume id to snapshot id), and where it is copied afterwards.

    ``error``: the snapshot, or its copy, failed for good; people are told.
    """

    point_id: PointId
    instance_id: InstanceId
    instance_name: str = ""
    account: AccountId
    region: Region
    role: str = ""
    snapshots: dict[str, str] = Field(min_length=1)
    target: CopyTarget | None = None
    tags: dict[str, str] = Field(default_factory=dict)
    polls: int = 0
    error: StateError | None = None


def confirm_manual_snapshot(request: ConfirmManualSnapshot, services: OnDemandServices) -> Mapping[str, Any]:
    """Whether to wait on; the restore point is recorded as complete when all snapshots are.

    Raises PermanentError for a snapshot that EBS failed, SourceGoneError, AccessDeniedError.
    """
    if request.error:
        _tell(request, request.error.problem(resource=request.instance_id), services)
        return {"pending": False, "wait_seconds": 0, "polls": request.polls, "copy": False}
    point, now = _recorded(request, services), services.clock.now()
    wanted = sorted(request.snapshots.values())
    seen = services.spoke_in(request.account, request.region, request.role).read_snapshots(wanted)
    pending = still_pending(wanted, seen, point.taken_at, now)
    if pending and now - point.taken_at > PATIENCE:
        raise PermanentError(
            "The snapshot is not complete after a day.",
            resource=pending[0].snapshot_id,
            remedy="Look at it in EC2, and take a new one.",
        )
    if not pending and not point.complete:
        services.catalog.add_point(point.model_copy(update={"complete": True}))
        log.info("%s: manual snapshot %s is complete", request.instance_id, request.point_id)
    return {
        "pending": bool(pending),
        "wait_seconds": min(LONGEST_WAIT, 15 + request.polls) if pending else 0,
        "polls": request.polls + 1,
        "copy": request.target is not None,
    }


def _recorded(request: ConfirmManualSnapshot, services: OnDemandServices) -> RestorePoint:
    for point in services.catalog.points(request.instance_id, Kind.SNAPSHOT):
        place = (point.point_id, point.account, point.region)
        if place == (request.point_id, request.account, request.region):
            return point
    raise SourceGoneError(
        "The snapshot is not in the catalog any more.",
        resource=request.point_id,
        remedy="It was removed meanwhile; take a new one.",
    )


def _tell(request: ConfirmManualSnapshot, problem: Problem, services: OnDemandServices) -> None:
    """Tell whoever is told when a session fails; what could not be told is in the log."""
    name = (
        f"{request.instance_name} ({request.instance_id})" if request.instance_name else request.instance_id
    )
    text = (
        f"The manual snapshot {request.point_id} of {name} in account {request.account}, {request.region}, "
        f"or its copy, failed:\n\n{problem.resource}: {problem.message}\n{problem.remedy}\n"
    )
    message = Message(
        f"[{State.FAILED.value}] manual snapshot of {name}",
        text,
        f"<pre>{escape(text)}</pre>",
        {
            "manual_snapshot": request.point_id,
            "state": State.FAILED.value,
            "instance_id": request.instance_id,
            "account": request.account,
            "region": request.region,
            "problem": problem.model_dump(mode="json"),
        },
    )
    for mailing in mailings(None, services.configuration.notifications, services.settings.topic_arn):
        if is_told(mailing, State.FAILED, last=True):
            tell(mailing, message, services)
