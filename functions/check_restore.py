"""Tell whether the snapshots that volumes are made from are completed.

Trigger: restore machine, polled by a Wait state.
Event: {"restore_id", "request": {...}, "volumes": [{"source": {...}, "snapshot_id": "snap-...",
"temporary": true}], "segment_count": 3, "items_key": "restores/.../segments.json"}
Response: {"ready": true}
Touches: sts:AssumeRole, ec2:DescribeSnapshots under the restore role.
Retry: reads only.
"""

from holdfast.edge import entrypoint
from holdfast.model.restore import RestorePlan
from holdfast.operations.restores.restore_volumes import check_restore

handler = entrypoint(RestorePlan, check_restore)
