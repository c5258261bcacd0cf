"""Register a temporary AMI over the restored snapshots, and launch one instance of it.

Trigger: restore machine, kind instance; again while the AMI is pending.
Event: {"restore_id", "request": {...}, "volumes": [{"source": {...}, "snapshot_id": "snap-...",
"temporary": true}], "segment_count": 3, "items_key": "restores/.../segments.json"}
Response: the plan with {"instance_id": "i-...", "launched": true}; `launched` is false while the AMI is
pending.
Touches: s3:GetObject (work bucket); sts:AssumeRole, ec2:DescribeImages, RegisterImage, RunInstances,
CreateTags, iam:PassRole (the instance profile) under the restore role.
Retry: the AMI is found by its name, the launch by its client token.
"""

from holdfast.edge import entrypoint
from holdfast.model.restore import RestorePlan
from holdfast.operations.restores.restore_volumes import launch_instance

handler = entrypoint(RestorePlan, launch_instance)
