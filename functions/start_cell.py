"""Start the cell machine of one Region for a session; the session machine waits with a task token.

Trigger: session machine, once per Region and attempt (lambda:invoke.waitForTaskToken).
Event: the session's event with {"region": "eu-west-1", "attempt": 0, "task_token": "..."}
Response: {"started": true} (ignored: the task ends when report_cell answers the token)
Touches: states:StartExecution (cell machine of any Region), states:SendTaskSuccess (session machine);
dynamodb:PutItem, GetItem (table).
Retry: the execution's name derives from session, Region and attempt, and the newest token wins.
"""

from holdfast.edge import entrypoint
from holdfast.operations.sessions.start_cell import StartCell, start_cell

handler = entrypoint(StartCell, start_cell)
