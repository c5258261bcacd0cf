"""Tell how a closed day of an SLA-based policy went, at once or at the time that the policy names.

Trigger: close_window machine, after the ledger; again whenever the time is over that the answer names.
Event: {"policy": "gold", "day": "2026-11-22"}
Response: {"ready": true, "wait_until": "2026-11-22T22:05:00Z", "told": true}
Touches: dynamodb:GetItem, Query, PutItem (table); sns:Publish (topics of the configuration); ses:SendEmail
(senders of the configuration).
Retry: a day that was told is not told again; a mail may be sent twice, never not at all.
"""

from holdfast.edge import entrypoint
from holdfast.operations.sla.report_day import ReportDay, report_day

handler = entrypoint(ReportDay, report_day)
