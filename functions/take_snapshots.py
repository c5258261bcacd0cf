"""Take one crash-consistent set of snapshots of an instance, and capture its configuration.

Trigger: cell machine, once per instance.
Event: the session's event with {"region", "attempt", "account": "111122223333", "instance_id": "i-0123...",
"instance_name": "web"}
Response: {"waiting": false, "point_id": "20261122T070000Z-1f0e4c2a9b7d", "snapshots": [{"volume_id":
"vol-...", "snapshot_id": "snap-...", "device": "/dev/xvda", "size_bytes": 8589934592}], "warnings": []}
Touches: sts:AssumeRole, ec2:DescribeInstances, DescribeInstanceAttribute, DescribeVolumes,
DescribeAddresses, DescribeSnapshots, CreateSnapshots, CreateTags, DeleteSnapshot (a broken set of this same
restore point) under the spoke role; dynamodb:GetItem, PutItem, DeleteItem (table).
Retry: finds by its tags the set that an earlier try made.
"""

from holdfast.edge import entrypoint
from holdfast.operations.sessions.take_snapshots import TakeSnapshots, take_snapshots

handler = entrypoint(TakeSnapshots, take_snapshots)
