"""A set of snapshots becomes a restore point once every one of them is complete, and not before."""

from __future__ import annotations

from typing import Any

from holdfast.errors import PermanentError
from holdfast.model.inventory import InstanceConfiguration
from holdfast.operations.services import Services
from holdfast.operations.snapshot_sets import point_of, still_pending
from holdfast.operations.steps import SnapshotSet

LONGEST_WAIT = 120
"""Seconds between two looks at most: a first snapshot of a large volume takes hours."""


class CheckSnapshots(SnapshotSet):
    """A set, and how often it was looked at."""

    polls: int = 0


def check_snapshots(request: CheckSnapshots, services: Services) -> dict[str, Any]:
    """Whether to wait on. Raises PermanentError for a snapshot that EBS failed, SourceGoneError."""
    spoke = services.spoke(request.policy, request.account, request.region)
    wanted = [one.snapshot_id for one in request.snapshots]
    seen = spoke.read_snapshots(wanted)
    pending = still_pending(wanted, seen, request.taken_at, services.clock.now())
    polls = request.polls + 1
    if pending:
        return {
            "pending": True,
            "wait_seconds": min(LONGEST_WAIT, 5 << min(request.polls, 6)),
            "polls": polls,
        }
    point = point_of(
        seen,
        installation=services.settings.installation,
        account=request.account,
        region=request.region,
    )
    if point is None:
        raise PermanentError(
            "The snapshots are complete, but their tags do not make a restore point any more.",
            resource=request.point_id,
            remedy="Find out who changes tags that begin with holdfast:.",
        )
    captured = services.catalog.read_part(request.session_id, request.capture_part) or {}
    configuration = captured.get("configuration")
    services.catalog.add_point(
        point.model_copy(update={"instance_name": request.instance_name}),
        InstanceConfiguration.model_validate(configuration) if configuration else None,
    )
    return {"pending": False, "wait_seconds": 0, "polls": polls}
