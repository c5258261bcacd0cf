"""Record which instances exist and where each stands: protected, failed, excluded, not selected, unreachable.

Trigger: EventBridge Scheduler, daily; by hand for a look at this moment.
Event: {"scheduled_at": "2026-11-23T04:00:00Z"} (records the day before) or {"live": true, "accounts": []}
Response: {"ledger": "2026-11-22", "on": "2026-11-22", "recorded": true, "instances": {"protected": 812, ...},
"unreachable_accounts": 1, "new_accounts": 0}
Touches: sts:AssumeRole (backup roles, Organizations), ec2:DescribeInstances, DescribeVolumes;
dynamodb:GetItem, Query, PutItem (table); sns:Publish.
Retry: a day that is recorded stays as it is; whoever was not told yet is told.
"""

from holdfast.edge import entrypoint
from holdfast.operations.coverage.record_coverage import RecordCoverage, record_coverage

handler = entrypoint(RecordCoverage, record_coverage)
