"""Find a restore point, start a snapshot for each of its volumes, and list the segments to move.

Trigger: restore machine, first step; started by `holdfast restore` or from the console.
Event: {"restore_id": "restore-1f0e4c2a", "kind": "volume" or "instance", "instance_id": "i-0123...",
"point_id": "20261122T070000Z-1f0e4c2a9b7d", "repository": "main" (empty: cloud-native snapshot),
"volume_ids": [], "target": {"account": "111122223333", "region": "eu-central-1", "availability_zone":
"eu-central-1a"}, "instance": {"name": "", "instance_type": "", "subnet_id": "", "security_group_ids":
[]}}
Response: {"restore_id", "request": {...}, "volumes": [{"source": {...}, "snapshot_id": "snap-...",
"temporary": true}], "segment_count": 3, "items_key": "restores/.../segments.json"}
Touches: s3:GetObject (repository), kms:Decrypt (its key), secretsmanager:GetSecretValue (its password);
dynamodb:Query, GetItem (table); sts:AssumeRole, ebs:StartSnapshot, ec2:DescribeSnapshots under the
restore role; s3:PutObject (work bucket).
Retry: client tokens derive from restore and volume, so a repeated step starts the same snapshots.
"""

from holdfast.edge import entrypoint
from holdfast.model.restore import RestoreRequest
from holdfast.operations.restores.plan_restore import plan_restore

handler = entrypoint(RestoreRequest, plan_restore)
