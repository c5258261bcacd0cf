"""Remove the snapshots and replicas of one account and Region that nobody keeps any more.

Trigger: retention machine, for every account and Region of its plan.
Event: {"pass_id": "retention-20261122T040000Z-daily", "account": "111122223333", "region": "eu-central-1",
"cursor": ""}; with "error" what earlier tries failed with is written down and nothing else is done
Response: {"done": true, "cursor": "", "removed": 3}, or {"done": false, "cursor": "i-... snapshot", ...} when
its time ran out
Touches: sts:AssumeRole, ec2:DescribeInstances, DescribeSnapshots, CreateTags, DeleteTags, DeleteSnapshot
(condition: our installation tag) under the spoke role; dynamodb:GetItem, Query, PutItem, DeleteItem (table);
s3:GetObject (work bucket).
Retry: judges again; what is gone is gone.
"""

from holdfast.edge import entrypoint
from holdfast.operations.retention.retain_snapshots import RetainSnapshots, retain_snapshots

handler = entrypoint(RetainSnapshots, retain_snapshots)
