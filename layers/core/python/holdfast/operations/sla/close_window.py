"""A window closes in one Region: the day of its policy is closed, once.

The first Region's event starts the one execution of policy and day, which waits for the others itself: an
event that is delivered twice, or not at all, neither closes a day twice nor leaves it open.
"""

from __future__ import annotations

import logging
from typing import Any

from pydantic import AwareDatetime, BaseModel, ConfigDict

from holdfast.errors import ConfigurationError
from holdfast.model import ids
from holdfast.model.configuration import SlaPolicy
from holdfast.operations.machines import machine_arn
from holdfast.operations.services import Services
from holdfast.operations.steps import find_policy
from holdfast.planning.ledger import closed_day
from holdfast.planning.protection import template_of
from holdfast.planning.sla import region_zone

log = logging.getLogger(__name__)


class CloseWindow(BaseModel):
    """The scheduler's event: the last window of a day closes in ``region`` at ``scheduled_at``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    policy: str
    region: str
    scheduled_at: AwareDatetime


def close_window(request: CloseWindow, services: Services) -> dict[str, Any]:
    """Start closing the day. Raises ConfigurationError for an unknown policy, or one with schedules."""
    policy = find_policy(services.configuration, request.policy)
    if not isinstance(policy, SlaPolicy):
        raise ConfigurationError(
            "This policy has schedules; only SLA-based policies have windows.",
            resource=policy.name,
            remedy="Name a policy of `sla_policies`.",
        )
    template = template_of(services.configuration, policy)
    zone = region_zone(services.configuration, request.region)
    day = closed_day(template, zone, request.scheduled_at)
    name = ids.day_id(policy.name, day)
    started = services.executions(services.settings.hub_region).start(
        machine_arn("close_window", services), name, {"policy": policy.name, "day": day.isoformat()}
    )
    log.info("%s of %s %s", day, policy.name, "is being closed" if started else "was closed before")
    return {"day": day.isoformat(), "started": started}
