"""After a failed restore: remove its temporary snapshots and AMI, found by their tags.

Trigger: restore machine, from the Catch of every step.
Event: {"request": {...} (the input of the restore), "problem": {"Error", "Cause"}}
Response: {"removed": ["ami-...", "snap-..."], "left": []} (`left`: what could not be removed, and why)
Touches: sts:AssumeRole, ec2:DescribeImages, DescribeSnapshots, and DeregisterImage, DeleteSnapshot for
what carries the tags of this restore, under the restore role.
Retry: removes what is still there.
"""

from holdfast.edge import entrypoint
from holdfast.operations.restores.restore_volumes import Abandonment, abandon_restore

handler = entrypoint(Abandonment, abandon_restore)
