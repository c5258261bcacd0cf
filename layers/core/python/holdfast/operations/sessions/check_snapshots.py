"""A set of snapshots becomes a restore point once every one of them is complete, and not before."""

from __future__ import annotations

from typing import Any

from holdfast.errors import PermanentError, SourceGoneError, UnavailableError
from holdfast.model.inventory import InstanceConfiguration
from holdfast.operations.services import Services
from holdfast.operations.snapshot_sets import SETTLES_IN, point_of
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
    gone = sorted(set(wanted) - {one.snapshot_id for one in seen})
    if gone and services.clock.now() - request.taken_at < SETTLES_IN:
        raise UnavailableError("The new snapshot is not to be seen everywhere yet.", resource=gone[0])
    if gone:
        raise SourceGoneError(
            "The snapshot was deleted before the restore point was complete.",
            resource=gone[0],
            remedy="Find out who deletes snapshots; the next session takes a new one.",
        )
    for one in seen:
        if one.state not in ("pending", "completed"):
            raise PermanentError(
                f"EBS could not take the snapshot of {one.volume_id} ({one.state}): "
                f"{one.reason or 'no reason given'}",
                resource=one.snapshot_id,
                remedy="Check that the volume's KMS key is enabled and that the backup role may use it.",
            )
    polls = request.polls + 1
    if any(one.state == "pending" for one in seen):
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
