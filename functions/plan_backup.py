"""Decide how each volume of a restore point is read: changed blocks, or everything compared by digest.

Trigger: cell machine, when a backup is due and the snapshots are complete.
Event: an instance's event with {"point_id": "...", "snapshots": [...]}
Response: {"segments": 17, "full": false, "plan_key": ".../plan.json", "items_key": ".../segments.json"};
the items are [{"volume_id", "snapshot_id", "base_snapshot_id": "snap-..." or "", "size_bytes", "segment":
[index, start, end], "previous": {...} or null}, ...] for the segments that have to be read
Touches: sts:AssumeRole, ec2:DescribeSnapshots, ebs:ListChangedBlocks under the spoke role; s3:GetObject,
ListBucket, PutObject (repository), kms:Decrypt, GenerateDataKey (its key), secretsmanager:GetSecretValue
(its password); s3:PutObject (work bucket); dynamodb:Query, GetItem (table).
Retry: plans again and overwrites its lists.
"""

from holdfast.edge import entrypoint
from holdfast.operations.sessions.plan_backup import PlanBackup, plan_backup

handler = entrypoint(PlanBackup, plan_backup)
