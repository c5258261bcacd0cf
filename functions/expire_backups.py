"""Remove image-level backups whose time is over, in two steps a run apart.

Trigger: EventBridge Scheduler, daily.
Event: {} or {"repository": "main", "dry_run": true}
Response: {"judged": 120, "expired": 5, "noted": 3, "removed": 2}; fails, after the others were done, when a
repository could not be judged
Touches: s3:GetObject, ListBucket, PutObject, DeleteObject (points/ and candidates/ of the repositories),
kms:Decrypt (their keys), secretsmanager:GetSecretValue (their passwords); dynamodb:GetItem, Query, PutItem,
DeleteItem (table).
Retry: judges again; a manifest that is gone is gone.
"""

from holdfast.edge import entrypoint
from holdfast.operations.retention.expire_backups import ExpireBackups, expire_backups

handler = entrypoint(ExpireBackups, expire_backups)
