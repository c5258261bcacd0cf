"""List the instances of one Region that a session protects, in every account of its scope.

Trigger: first state of the cell machine.
Event: the session's event with {"region": "eu-west-1", "attempt": 0}
Response: {"count": 250, "items_key": "sessions/<session>/0/eu-west-1/instances.json", "unreachable": 0};
the items are [{"account": "111122223333", "instance_id": "i-0123...", "instance_name": "web"}, ...]
Touches: sts:AssumeRole (HoldfastBackup in every account), ec2:DescribeInstances under it; dynamodb:GetItem,
Query, PutItem, DeleteItem (table); s3:PutObject (work bucket).
Retry: lists again and overwrites its list.
"""

from holdfast.edge import entrypoint
from holdfast.operations.sessions.discover_instances import DiscoverInstances, discover_instances

handler = entrypoint(DiscoverInstances, discover_instances)
