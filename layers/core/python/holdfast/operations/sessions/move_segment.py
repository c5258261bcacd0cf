"""One worker: the blocks of one segment of a snapshot go into a repository.

What it has done lies in the work bucket under a name of its own, so that a repeated worker overwrites its
result instead of adding a second one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from holdfast.dataplane.backup import SegmentTask, back_up_segment
from holdfast.dataplane.deadline import Deadline
from holdfast.dataplane.outcome import Continue, Counts
from holdfast.model.blocks import Segment
from holdfast.operations.services import Services
from holdfast.operations.sessions.stop_marks import require_no_mark
from holdfast.repository.map import SegmentRef


@dataclass(frozen=True, slots=True)
class MoveSegment:
    """An item of plan_backup with its step's event; ``counts`` sums up earlier invocations."""

    session_id: str
    policy: str
    region: str
    account: str
    repository: str
    work_prefix: str
    volume_id: str
    snapshot_id: str
    base_snapshot_id: str
    size_bytes: int
    segment: Sequence[int]
    previous: Mapping[str, Any] | None = None
    cursor: int = 0
    checkpoint: Mapping[str, Any] | None = None
    full: bool = False
    counts: Mapping[str, Any] | None = None


def result_key(work_prefix: str, volume_id: str, index: int) -> str:
    """Where the result of a segment lies."""
    return f"{work_prefix}/moved/{volume_id}/{index:05}.json"


def move_segment(request: MoveSegment, services: Services) -> dict[str, Any]:
    """Move what time allows.

    Raises SourceGoneError, KeyUnavailableError, StoppedError, IntegrityError, TransientError.
    """
    index, start, end = request.segment
    what = "its backup was abandoned, and nothing of it is visible; its snapshot is kept."
    require_no_mark(request.session_id, services.work, what, resource=request.volume_id)
    done = back_up_segment(
        SegmentTask(
            snapshot_id=request.snapshot_id,
            base_snapshot_id=request.base_snapshot_id or None,
            size_bytes=request.size_bytes,
            segment=Segment(index, start, end),
            previous=_ref(request.previous),
            cursor=request.cursor,
            checkpoint=_ref(request.checkpoint),
            full=request.full,
        ),
        reader=services.reader(request.policy, request.account, request.region),
        repository=services.repository(request.repository),
        ids=services.ids,
        deadline=Deadline(services.remaining),
        connections=services.settings.connections,
        pack_bytes=services.settings.pack_bytes,
    )
    total = Counts.from_json(request.counts or {}) + done.counts
    if isinstance(done, Continue):
        return replace(done, counts=total, full=done.full or request.full).to_json()
    services.work.write(
        result_key(request.work_prefix, request.volume_id, index), replace(done, counts=total).to_json()
    )
    return {"done": True, "cursor": end, "checkpoint": None}


def _ref(value: Mapping[str, Any] | None) -> SegmentRef | None:
    return SegmentRef.from_json(value) if value else None
