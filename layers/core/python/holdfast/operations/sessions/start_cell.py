"""The hub starts a Region's cell and waits for its answer by task token.

The token lies in the catalog, not in the cell's input: a repeated start has a new token for the same
execution, and the newest one is the one that somebody waits for.
"""

from __future__ import annotations

from typing import Any

from holdfast.model.ids import client_token, stamp
from holdfast.model.regions import partition
from holdfast.operations.services import Services
from holdfast.operations.steps import RegionStep


class StartCell(RegionStep):
    """A Region's event with the token of the waiting task."""

    task_token: str


def start_cell(request: StartCell, services: Services) -> dict[str, Any]:
    """Start the cell once for this session, Region and attempt; answer at once when it has ended already."""
    catalog, now = services.catalog, services.clock.now()
    catalog.write_part(
        request.session_id,
        request.token_part,
        {"token": request.task_token, "attempt": request.attempt},
        at=now,
    )
    started = services.executions(request.region).start(
        _machine_arn(request.region, services),
        execution_name(request),
        request.session_event | {"region": request.region, "attempt": request.attempt},
    )
    if not started:
        told = catalog.read_part(request.session_id, request.region_part) or {}
        if told.get("ended") and told.get("attempt") == request.attempt:
            services.executions(services.settings.hub_region).succeed(
                request.task_token, {"region": request.region, "state": told["state"]}
            )
    return {"started": started}


def execution_name(step: RegionStep) -> str:
    """At most 80 characters; the same again for a repeated start."""
    unique = client_token(step.session_id, step.region, str(step.attempt))[:12]
    return f"{stamp(step.slot)}-{step.region}-{step.attempt}-{unique}"


def _machine_arn(region: str, services: Services) -> str:
    account, name = services.configuration.backup_account, services.settings.cell_machine_name
    return f"arn:{partition(region)}:states:{region}:{account}:stateMachine:{name}"
