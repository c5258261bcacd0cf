"""Stop a running session: no further instance starts, and image-level backups that run are abandoned.

Trigger: an operator: `holdfast session stop`, `holdfast policy stop`, or the Test button of the console.
Event: {"session_id": "20261122T070000Z-daily-1f0e4c2a"} or {"policy": "daily"} (all that run); with "by": who
asks.
Response: {"stopping": ["20261122T070000Z-daily-1f0e4c2a"]}; the session ends by itself, as Stopped.
Touches: dynamodb:GetItem, Query, PutItem (table); s3:GetObject, PutObject (sessions/*/stop.json in the work
bucket of every protected Region).
Retry: harmless; the first stop is the one that is told.
"""

from holdfast.edge import entrypoint
from holdfast.operations.sessions.stop_session import StopSession, stop_session

handler = entrypoint(StopSession, stop_session)
