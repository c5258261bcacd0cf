"""See whether a set of snapshots is complete, and list it as a restore point once it is.

Trigger: cell machine, polled between Wait states.
Event: an instance's event with {"point_id": "...", "snapshots": [...], "polls": 3}
Response: {"pending": true, "wait_seconds": 30, "polls": 4} or {"pending": false, "wait_seconds": 0,
"polls": 4}
Touches: sts:AssumeRole, ec2:DescribeSnapshots under the spoke role; dynamodb:GetItem, PutItem (table).
Retry: reads again; the restore point is written under the same key.
"""

from holdfast.edge import entrypoint
from holdfast.operations.sessions.check_snapshots import CheckSnapshots, check_snapshots

handler = entrypoint(CheckSnapshots, check_snapshots)
