"""A Region's last window of the day has closed: begin to close the day of its SLA-based policy.

Trigger: EventBridge Scheduler, at the end of the windows in each Region of each SLA-based policy.
Event: {"policy": "gold", "region": "eu-west-1", "scheduled_at": "2026-11-22T20:00:00Z"}
Response: {"day": "2026-11-22", "started": true}
Touches: states:StartExecution (close_window machine).
Retry: the execution is named after policy and day, so it is started once.
"""

from holdfast.edge import entrypoint
from holdfast.operations.sla.close_window import CloseWindow, close_window

handler = entrypoint(CloseWindow, close_window)
