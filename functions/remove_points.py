"""Remove restore points of one instance that a person named one by one.

Trigger: an administrator: `holdfast data remove i-...`.
Event: {"instance_id": "i-0123456789abcdef0", "scope": "everything", "points":
["snapshot/20261122T070000Z-1f0e4c2a9b7d/222222222222:eu-central-1",
"backup/20261122T070000Z-1f0e4c2a9b7d/main"], "by": "arn:aws:iam::999999999999:user/anna", "take_back": false}
Response: {"removed": [...], "noted": [...], "kept": [...], "left": {"<point>": "why it stays"}, "more": []};
call again with what is in `more`.
Touches: sts:AssumeRole, ec2:DescribeSnapshots, CreateTags, DeleteTags, DeleteSnapshot under the spoke role;
s3:GetObject, ListBucket (repositories), PutObject (their candidates), kms:Decrypt (their keys);
dynamodb:GetItem, Query, PutItem, DeleteItem (table).
Retry: harmless; what is gone counts as removed.
"""

from holdfast.edge import entrypoint
from holdfast.operations.retention.remove_points import RemovePoints, remove_points

handler = entrypoint(RemovePoints, remove_points)
