"""A Region's cell ends: its record is completed, and the hub is told.

An instance without an outcome is a failure that nobody recorded, so it is recorded here: what was selected
and what ended must add up. A cell of an attempt that the hub gave up says nothing any more.
"""

from __future__ import annotations

import logging
from typing import Any

from holdfast.errors import ConflictError
from holdfast.model.session import Outcome, Problem, State, worst
from holdfast.operations.services import Services
from holdfast.operations.sessions.conclude_instance import write_outcome
from holdfast.operations.steps import InstanceStep, RegionStep, StateError, outcome_part

log = logging.getLogger(__name__)


class ReportCell(RegionStep):
    """A Region's event with the list of its instances, and the error that stopped it, if any."""

    items_key: str | None = None
    error: StateError | None = None


def report_cell(request: ReportCell, services: Services) -> dict[str, Any]:
    """Complete the Region's record and answer the task that waits for it.

    A later attempt of the Region has a token of its own, and its record is not this cell's to complete.
    """
    catalog, now = services.catalog, services.clock.now()
    token = catalog.read_part(request.session_id, request.token_part)
    if token is not None and token["attempt"] != request.attempt:
        log.warning("attempt %d of %s is over: %s", request.attempt, request.region, request.session_id)
        return {"region": request.region, "state": None}
    told = catalog.read_part(request.session_id, request.region_part) or {}
    problems = [Problem.model_validate(problem) for problem in told.get("problems", ())]
    if request.error:
        problems.append(request.error.problem(resource=request.region))
    outcomes = _outcomes(request, services)
    outcomes += [_missing(item, request, services) for item in _without(request, outcomes, services)]
    state = worst(*(one.state for one in outcomes), *(problem.severity for problem in problems))
    catalog.write_part(
        request.session_id,
        request.region_part,
        {
            **told,
            "attempt": request.attempt,
            "ended": True,
            "lost": bool(request.error),
            "state": state.value,
            "problems": [problem.model_dump(mode="json") for problem in problems],
        },
        at=now,
    )
    _answer(request, state, token, services)
    return {"region": request.region, "state": state.value}


def _outcomes(request: RegionStep, services: Services) -> list[Outcome]:
    return [
        Outcome.model_validate(body["outcome"])
        for _, body in services.catalog.parts(request.session_id, outcome_part(request.region))
    ]


def _without(request: ReportCell, outcomes: list[Outcome], services: Services) -> list[dict[str, str]]:
    """Items of this attempt that no outcome speaks of."""
    if not request.items_key:
        return []
    ended = {one.instance_id for one in outcomes}
    return [item for item in services.work.read(request.items_key) if item["instance_id"] not in ended]


def _missing(item: dict[str, str], request: RegionStep, services: Services) -> Outcome:
    """Record the failure of an instance whose execution ended without a word."""
    step = InstanceStep.model_validate(request.model_dump() | item)
    problem = Problem(
        code="NotConcluded",
        message="The instance's execution ended without recording an outcome.",
        resource=step.instance_id,
        remedy="Look at the cell's execution in Step Functions.",
    )
    outcome = Outcome(
        account=step.account,
        region=step.region,
        instance_id=step.instance_id,
        instance_name=step.instance_name,
        state=State.FAILED,
        problems=(problem,),
        ended_at=services.clock.now(),
    )
    write_outcome(step, outcome, services)
    return outcome


def _answer(request: RegionStep, state: State, token: dict[str, Any] | None, services: Services) -> None:
    """Answer with the newest token; an answer that nobody waits for any more was given before."""
    if token is None:
        log.warning("nobody waits for %s of %s", request.region, request.session_id)
        return
    try:
        services.executions(services.settings.hub_region).succeed(
            token["token"], {"region": request.region, "state": state.value}
        )
    except ConflictError as error:
        log.info("%s", error)
