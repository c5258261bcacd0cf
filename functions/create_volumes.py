"""Create one unattached volume from each snapshot of a restore.

Trigger: restore machine, kind volume.
Event: {"restore_id", "request": {...}, "volumes": [{"source": {...}, "snapshot_id": "snap-...",
"temporary": true}], "segment_count": 3, "items_key": "restores/.../segments.json"}
Response: the plan with the ids of its volumes.
Touches: sts:AssumeRole, ec2:CreateVolume, ec2:CreateTags under the restore role.
Retry: client tokens derive from restore and volume.
"""

from holdfast.edge import entrypoint
from holdfast.model.restore import RestorePlan
from holdfast.operations.restores.restore_volumes import create_volumes

handler = entrypoint(RestorePlan, create_volumes)
