"""Copy a set of snapshots to another Region or account, step by step, until all copies are completed.

Trigger: manual snapshot machine, polled by a Wait state.
Event: {"point_id", "instance_id", "account", "region", "role": "", "snapshots": {"vol-...": "snap-..."},
"target": {"region", "account", "role", "kms_key_arn"}, "tags": {...}, "abandon": false (true: the copy
failed; only take the share back)}
Response: {"done": true, "copies": {"vol-...": "snap-..."}, "queued": 0}; `done` is false while sources or
copies are pending, `queued` counts those that wait because 20 copies into the Region are under way.
Touches: sts:AssumeRole; ec2:DescribeSnapshots, ModifySnapshotAttribute (sharing with the target account,
taken back at the end), CreateTags, DeleteTags under the spoke role of the source; ec2:DescribeSnapshots,
CopySnapshot, CreateTags under that of the target; dynamodb:GetItem, Query, PutItem, DeleteItem (table).
Retry: what is asked for is written down before, and copies are found by the mark of their call.
"""

from holdfast.edge import entrypoint
from holdfast.operations.replicas.copy_snapshots import CopySnapshots, copy_snapshots

handler = entrypoint(CopySnapshots, copy_snapshots)
