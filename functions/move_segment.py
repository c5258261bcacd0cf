"""Move the blocks of one segment (up to 16 GiB) of a snapshot into a repository.

Trigger: Distributed Map over the items of plan_backup; again with what it returned while `done` is false.
Event: {"session_id", "policy", "region", "account", "instance_id", "point_id", "attempt", "work_prefix":
"sessions/...", "volume_id", "snapshot_id", "base_snapshot_id", "size_bytes", "segment": [0, 0, 32768],
"previous": {...} or null, "cursor": 0, "checkpoint": null}
Response: {"done": true, "cursor": 32768, "checkpoint": null}, or {"done": false, "cursor": 20480,
"checkpoint": {...}} when its time ran out; the segment's map and counts are written to the work bucket.
Touches: sts:AssumeRole, ebs:ListSnapshotBlocks, ListChangedBlocks, GetSnapshotBlock under the spoke role;
kms:Decrypt of volume keys under it; s3:GetObject, PutObject (repository), kms:Decrypt (its key),
secretsmanager:GetSecretValue (its password); s3:GetObject, PutObject (work bucket).
Retry: begins at its cursor; packs of an earlier try are unreachable garbage.
"""

from holdfast.edge import entrypoint
from holdfast.operations.sessions.move_segment import MoveSegment, move_segment

handler = entrypoint(MoveSegment, move_segment)
