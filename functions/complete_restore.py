"""Seal the restored snapshots: EBS compares the aggregate checksum with what it received.

Trigger: restore machine, after all segments.
Event: {"restore_id", "request": {...}, "volumes": [{"source": {...}, "snapshot_id": "snap-...",
"temporary": true}], "segment_count": 3, "items_key": "restores/.../segments.json"}
Response: {"completed": 2}
Touches: s3:GetObject (repository), kms:Decrypt (its key), secretsmanager:GetSecretValue (its password);
sts:AssumeRole, ebs:CompleteSnapshot under the restore role.
Retry: completing a completed snapshot again is harmless.
"""

from holdfast.edge import entrypoint
from holdfast.model.restore import RestorePlan
from holdfast.operations.restores.restore_volumes import complete_restore

handler = entrypoint(RestorePlan, complete_restore)
