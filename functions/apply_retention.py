"""Remove the snapshots of an instance that its policy no longer keeps.

Trigger: cell machine, after an instance ended well.
Event: an instance's event
Response: {"removed": 2, "kept": 7, "problems": 0}
Touches: sts:AssumeRole, ec2:DescribeSnapshots, DeleteSnapshot (condition: our installation tag) under the
spoke role; dynamodb:GetItem, Query, PutItem, DeleteItem (table).
Retry: judges again; what is gone is gone.
"""

from holdfast.edge import entrypoint
from holdfast.operations.retention.apply_retention import ApplyRetention, apply_retention

handler = entrypoint(ApplyRetention, apply_retention)
