"""Remove manual snapshots, and copies of them, whose days are over; take back what copies left behind.

Trigger: EventBridge schedule, daily.
Event: {"scheduled_at": "2026-11-22T04:00:00Z"}
Response: {"removed": ["snap-..."], "left": {"snap-...": "it is kept until 20270101T000000Z now"}}
Touches: dynamodb:Query, PutItem, DeleteItem (table); sts:AssumeRole, ec2:DescribeSnapshots, DeleteSnapshot
under the spoke role of the account, for what carries the tags of the manual snapshot; DeleteTags,
ModifySnapshotAttribute and DeleteSnapshot for what a copy that crashed had marked, shared or made.
Retry: what is gone is gone; the rest is judged again by its tags.
"""

from holdfast.edge import entrypoint
from holdfast.operations.manual.expire_manual_snapshots import ExpireManualSnapshots, expire_manual_snapshots

handler = entrypoint(ExpireManualSnapshots, expire_manual_snapshots)
