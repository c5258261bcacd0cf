"""Write the blocks of one segment (up to 16 GiB) of a restore point into a new EBS snapshot.

Trigger: Distributed Map over the items of plan_restore; again with what it returned while `done` is
false.
Event: {"restore_id", "repository": "main", "account", "region", "snapshot_id": "snap-...", "segment": 0,
"ref": {...} (its map), "cursor": 0, "blocks_written": 0}
Response: the event with {"done": true, "cursor": 42, "blocks_written": 1234}; `done` is false when its time
ran out, and the cursor tells the next one where to go on.
Touches: s3:GetObject (repository), kms:Decrypt (its key), secretsmanager:GetSecretValue (its password);
sts:AssumeRole, ebs:PutSnapshotBlock under the restore role.
Retry: begins at its cursor; writing a block again is harmless.
"""

from holdfast.edge import entrypoint
from holdfast.operations.restores.restore_segment import RestoreSegment, restore_segment

handler = entrypoint(RestoreSegment, restore_segment)
