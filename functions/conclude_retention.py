"""Record a retention pass and tell what needs a person.

Trigger: last state of the retention machine.
Event: {"pass_id": "retention-20261122T040000Z-daily", "error": null, "backups": {...}, "backups_error": null}
Response: {"state": "Success", "broken": false, "removed": 3, "held": 0, ...}
Touches: dynamodb:GetItem, Query, PutItem (table); s3:GetObject (work bucket); sns:Publish (results topic).
Retry: records and tells again.
"""

from holdfast.edge import entrypoint
from holdfast.operations.retention.conclude_retention import ConcludeRetention, conclude_retention

handler = entrypoint(ConcludeRetention, conclude_retention)
