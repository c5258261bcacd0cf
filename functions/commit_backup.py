"""Make an image-level backup visible: write its manifest, then list it in the catalog.

Trigger: cell machine, after every segment of the instance was moved.
Event: an instance's event with {"point_id": "...", "plan_key": ".../plan.json"}
Response: {"full": false, "bytes_read": 1073741824, "bytes_stored": 402653184, "blocks_read": 2048,
"root_digest": "9f86d0..."}
Touches: s3:GetObject, PutObject, ListBucket (repository), kms:Decrypt, GenerateDataKey (its key),
secretsmanager:GetSecretValue (its password); s3:GetObject, ListBucket (work bucket); sts:AssumeRole,
ec2:CreateTags, DeleteTags, DescribeSnapshots under the spoke role; dynamodb:GetItem, Query, PutItem
(table).
Retry: a manifest that an earlier try wrote is success.
"""

from holdfast.edge import entrypoint
from holdfast.operations.sessions.commit_backup import CommitBackup, commit_backup

handler = entrypoint(CommitBackup, commit_backup)
