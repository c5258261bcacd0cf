"""Take a cloud-native snapshot of one instance now, outside every policy.

Trigger: an operator: the Test button of the console, or `holdfast snapshot i-...`.
Event: {"instance_id": "i-0123456789abcdef0", "region": "eu-central-1", "role": "production" (name in the
configuration; or "organization" and "account"), "keep_days": 14 (or null: until removed), "tags":
{"reason": "before upgrade"}, "copy_to": null or {"region": "eu-west-1", "account": "", "role": "",
"kms_key_arn": ""}, "request_id": "" (the same id takes one snapshot, also days later)}
Response: {"point_id": "20261122T101500Z-1f0e4c2a9b7d", "snapshots": {"vol-...": "snap-..."}, "copying":
false, "state": "pending", "execution": "arn:aws:states:...", "follow": "aws stepfunctions
describe-execution ...", "warnings": []}; the restore point is complete when the execution has succeeded, or,
with a copy, has begun to copy.
Touches: sts:AssumeRole, ec2:DescribeInstances, DescribeInstanceAttribute, DescribeVolumes,
DescribeAddresses, DescribeSnapshots, CreateSnapshots, CreateTags under the spoke role; dynamodb:PutItem
(table); states:StartExecution (manual snapshot machine).
Retry: with a request_id, finds by its tags what an earlier try made; without one, every call is a new
snapshot.
"""

from holdfast.edge import entrypoint
from holdfast.operations.manual.manual_snapshot import ManualSnapshot, take_manual_snapshot

handler = entrypoint(ManualSnapshot, take_manual_snapshot)
