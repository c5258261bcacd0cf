"""Wait for what a restore created, then remove what was temporary.

Trigger: restore machine, polled by a Wait state.
Event: {"restore_id", "request": {...}, "volumes": [{"source": {...}, "snapshot_id": "snap-...",
"temporary": true}], "segment_count": 3, "items_key": "restores/.../segments.json"}
Response: the plan with {"finished": true}
Touches: sts:AssumeRole, ec2:DescribeInstances, DescribeVolumes, DescribeImages, DescribeSnapshots,
CreateTags, and DeregisterImage, DeleteSnapshot for what carries the tags of this restore, under the
restore role.
Retry: removes what is still there.
"""

from holdfast.edge import entrypoint
from holdfast.model.restore import RestorePlan
from holdfast.operations.restores.restore_volumes import finish_restore

handler = entrypoint(RestorePlan, finish_restore)
