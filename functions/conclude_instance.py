"""Record how one instance ended, whatever happened before.

Trigger: cell machine, after the last step of an instance or after any step that failed.
Event: an instance's event with {"stage": "backup", "taken": {...} or null, "committed": {...} or null,
"error": {"Error": "PermanentError", "Cause": "{...}"} or null}
Response: {"state": "Success", "retain": true}
Touches: dynamodb:GetItem, Query, PutItem, DeleteItem (table); sts:AssumeRole, ec2:DescribeSnapshots,
DeleteSnapshot (only a set that can never become a restore point) under the spoke role.
Retry: writes the same record again.
"""

from holdfast.edge import entrypoint
from holdfast.operations.sessions.conclude_instance import ConcludeInstance, conclude_instance

handler = entrypoint(ConcludeInstance, conclude_instance)
