"""Tell the waiting session machine how its Region ended.

Trigger: last state of the cell machine, always.
Event: the session's event with {"region", "attempt", "items_key": "..." or null, "error": {...} or null}
Response: {"region": "eu-west-1", "state": "Warning"}
Touches: dynamodb:GetItem, Query, PutItem (table); s3:GetObject (work bucket); states:SendTaskSuccess
(session machine, hub Region).
Retry: answers again; a token that was answered already is success.
"""

from holdfast.edge import entrypoint
from holdfast.operations.sessions.report_cell import ReportCell, report_cell

handler = entrypoint(ReportCell, report_cell)
