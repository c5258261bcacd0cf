"""Turn a schedule's instant, or a person's wish, into one session of a policy.

Trigger: EventBridge Scheduler of the policy, or an operator (console, CLI).
Event: {"policy": "daily", "scheduled_at": "2026-11-22T07:00:00Z"} or {"policy": "daily", "manual": true}
Response: {"session_id": "20261122T070000Z-daily-1f0e4c2a", "started": true, "reason": ""}; `started` is
false, with a reason, when that session exists already or the policy is disabled.
Touches: dynamodb:PutItem, GetItem (table); states:StartExecution (session machine).
Retry: the session id is a function of policy and slot, so a repeated event starts nothing twice.
"""

from holdfast.edge import entrypoint
from holdfast.operations.sessions.start_session import StartSession, start_session

handler = entrypoint(StartSession, start_session)
