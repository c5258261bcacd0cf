"""Judge a session by its worst part, decide on a retry, and tell people and programs.

Trigger: session machine, after every attempt.
Event: the session's event with {"attempt": 0, "regions": [{"region": "eu-west-1", "error": null}], "error":
null}
Response: {"state": "Failed", "retry": true, "attempt": 1, "regions": ["eu-west-1"]}
Touches: dynamodb:GetItem, Query, PutItem (table); sns:Publish (topics of the configuration); ses:SendEmail
(senders of the configuration); metrics through the log.
Retry: judges again; a mail may be sent twice, never not at all.
"""

from holdfast.edge import entrypoint
from holdfast.operations.sessions.conclude_session import ConcludeSession, conclude_session

handler = entrypoint(ConcludeSession, conclude_session)
