"""Restore one segment of a volume: the worker of the restore machine.

Its start-up is paid once per segment, so it imports no configuration models and no boto3.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from holdfast.dataplane import restore
from holdfast.dataplane.deadline import Deadline
from holdfast.model.blocks import SEGMENT_BLOCKS
from holdfast.repository.map import SegmentRef

if TYPE_CHECKING:
    from holdfast.operations.services import RestoreServices


@dataclass(frozen=True, slots=True)
class RestoreSegment:
    """An item of plan_restore. ``cursor`` is what the previous invocation returned."""

    restore_id: str
    repository: str
    account: str
    region: str
    snapshot_id: str
    segment: int
    ref: Mapping[str, Any]
    cursor: int = 0
    blocks_written: int = 0


def restore_segment(request: RestoreSegment, services: RestoreServices) -> Mapping[str, Any]:
    """Write the segment's blocks into its snapshot, from the cursor on, as far as time allows.

    Raises DamagedError naming the object that could not be proven, and what EBS refuses.
    """
    progress = restore.restore_segment(
        SegmentRef.from_json(request.ref),
        request.segment * SEGMENT_BLOCKS,
        snapshot_id=request.snapshot_id,
        repository=services.repository(request.repository),
        writer=services.snapshot_writer(request.account, request.region),
        deadline=Deadline(services.remaining),
        connections=services.settings.connections,
        cursor=request.cursor,
    )
    return {
        **asdict(request),
        "done": progress.done,
        "cursor": progress.cursor,
        "blocks_written": request.blocks_written + progress.counts.blocks_stored,
    }
