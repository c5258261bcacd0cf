"""The day's retention pass begins: once, however often its event is delivered."""

from __future__ import annotations

from typing import Any

from pydantic import AwareDatetime, BaseModel, ConfigDict

from holdfast.model.ids import stamp
from holdfast.operations.machines import machine_arn
from holdfast.operations.services import Services


class StartRetention(BaseModel):
    """The schedule's event; without ``scheduled_at`` a pass begins now."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    scheduled_at: AwareDatetime | None = None


def start_retention(request: StartRetention, services: Services) -> dict[str, Any]:
    """Start the retention machine under a name that follows from the schedule's time."""
    name = f"{stamp(request.scheduled_at or services.clock.now())}-daily"
    executions = services.executions(services.settings.hub_region)
    return {"name": name, "started": executions.start(machine_arn("retention", services), name, {})}
