"""Copy the snapshots of a session to where its policy wants them, step by step, until all are completed.

Trigger: cell machine, after the backup of an instance (whatever became of it), polled by a Wait state; once
more with "abandon" when it failed, to take back what was shared or made for it.
Event: an instance's event with what take_snapshots answered, {"polls": 0, "abandon": false}
Response: {"done": false, "due": true, "made": false, "wait_seconds": 60, "polls": 3, "copies": {"vol-...":
"snap-..."}, "queued": 1, "queued_since": "2026-11-22T07:04:00+00:00" (waiting for a place: AWS copies 20
snapshots into a Region at a time), "problems": []}
Touches: sts:AssumeRole; ec2:DescribeSnapshots, CreateTags, DeleteTags, ModifySnapshotAttribute (sharing with
the target account, taken back at the end), CopySnapshot and DeleteSnapshot (a temporary copy under the
transfer key), kms:DescribeKey (of alias/aws/ebs) under the policy's role; ec2:DescribeSnapshots,
CopySnapshot, CreateTags, DeleteSnapshot (what ended in error, or was made twice) under the role of the
target; dynamodb:GetItem, Query, PutItem, DeleteItem (table).
Retry: what is asked for is written down before, and copies are found by the mark of their call.
"""

from holdfast.edge import entrypoint
from holdfast.operations.replicas.replicate_snapshots import ReplicateSnapshots, replicate_snapshots

handler = entrypoint(ReplicateSnapshots, replicate_snapshots)
