"""Write the ledger of an SLA-based policy's day, when all its windows are closed and its sessions have ended.

Trigger: close_window machine; again whenever the time is over that the answer names.
Event: {"policy": "gold", "day": "2026-11-22"}
Response: {"ready": false, "wait_until": "2026-11-22T22:05:00Z", "rated": false}
Touches: dynamodb:GetItem, Query, PutItem (table); states:StartExecution (retention machine);
metrics through the log.
Retry: a ledger that is there is left as it is; retention is started once per policy and day.
"""

from holdfast.edge import entrypoint
from holdfast.operations.sla.close_day import CloseDay, close_day

handler = entrypoint(CloseDay, close_day)
