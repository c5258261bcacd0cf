"""Wait until a manual snapshot is complete and record it as a restore point; tell people when it failed.

Trigger: manual snapshot machine, polled by a Wait state; once more with "error" when the snapshot or its
copy failed for good.
Event: the machine's event with {"polls": 0}, or with {"error": {"Error": "...", "Cause": "..."}}
Response: {"pending": true, "wait_seconds": 15, "polls": 1, "copy": false}; `copy`: a copy follows.
Touches: sts:AssumeRole, ec2:DescribeSnapshots under the spoke role; dynamodb:Query, PutItem (table);
sns:Publish, ses:SendEmail (a failure).
Retry: records the same again; a failure may be told twice.
"""

from holdfast.edge import entrypoint
from holdfast.operations.manual.confirm_manual_snapshot import ConfirmManualSnapshot, confirm_manual_snapshot

handler = entrypoint(ConfirmManualSnapshot, confirm_manual_snapshot)
