"""Find the accounts and Regions that a session has to look at.

Trigger: first state of the session machine.
Event: {"session_id": "20261122T...", "policy": "daily", "slot": "2026-11-22T07:00:00Z", "manual": false,
"snapshot_flags": "D", "backup_flags": "D" or null}
Response: {"regions": ["eu-central-1", "eu-west-1"], "accounts": 12}
Touches: sts:AssumeRole (the Organization's management role), organizations:ListRoots, ListChildren,
ListAccountsForParent, ListOrganizationalUnitsForParent under it; dynamodb:GetItem, PutItem (table).
Retry: writes the same records again.
"""

from holdfast.edge import entrypoint
from holdfast.operations.sessions.resolve_scope import ResolveScope, resolve_scope

handler = entrypoint(ResolveScope, resolve_scope)
