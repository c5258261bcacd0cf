"""List every account and Region that a retention pass looks at.

Trigger: first state of the retention machine.
Event: {"pass_id": "retention-20261122T040000Z-daily"}, with "policy" for the instances of one policy
Response: {"items_key": "sessions/retention-20261122T040000Z-daily/places.json", "places": 12}
Touches: sts:AssumeRole (the Organization's management role), organizations:ListRoots, ListAccountsForParent,
ListOrganizationalUnitsForParent under it; dynamodb:GetItem, Query, PutItem (table); s3:PutObject (work
bucket).
Retry: writes the same lists again.
"""

from holdfast.edge import entrypoint
from holdfast.operations.retention.plan_retention import PlanRetention, plan_retention

handler = entrypoint(PlanRetention, plan_retention)
