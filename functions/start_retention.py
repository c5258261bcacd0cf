"""Start the day's retention pass.

Trigger: EventBridge Scheduler, daily.
Event: {"scheduled_at": "2026-11-22T04:00:00Z"}, or {} for a pass now
Response: {"name": "20261122T040000Z-daily", "started": true}
Touches: states:StartExecution (retention machine).
Retry: the same event starts the same execution, once.
"""

from holdfast.edge import entrypoint
from holdfast.operations.retention.start_retention import StartRetention, start_retention

handler = entrypoint(StartRetention, start_retention)
