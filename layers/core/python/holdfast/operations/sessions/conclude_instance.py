"""How one instance ended in a session: recorded always, and never better than its worst part.

This is the only place that turns an error into an outcome; whoever fails before it needs no handling of its
own.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict

from holdfast.errors import HoldfastError
from holdfast.model import tags as names
from holdfast.model.restore_point import Kind
from holdfast.model.session import Outcome, Problem, State, worst
from holdfast.operations.retention.removal import Doomed, remove_snapshots
from holdfast.operations.services import Services
from holdfast.operations.sessions.stop_marks import is_stopped
from holdfast.operations.snapshot_sets import identity, sort_out
from holdfast.operations.steps import InstanceStep, StateError, find_policy

log = logging.getLogger(__name__)


class Taken(BaseModel):
    """What take_snapshots answered."""

    model_config = ConfigDict(extra="ignore")
    point_id: str
    warnings: list[str] = []


class Committed(BaseModel):
    """What commit_backup answered."""

    model_config = ConfigDict(extra="ignore")
    full: bool = False
    bytes_read: int = 0
    bytes_stored: int = 0
    blocks_read: int = 0
    requests: dict[str, int] = {}
    warnings: list[str] = []


class Replicated(BaseModel):
    """What replicate_snapshots answered last."""

    model_config = ConfigDict(extra="ignore")
    due: bool = True
    made: bool = False
    problems: list[Problem] = []


class ConcludeInstance(InstanceStep):
    """``stage`` is snapshot, backup or retention: where the instance was when ``error`` came, if any.

    ``replica_error``: why there is no replica, which concerns neither the snapshots nor the backup.
    """

    stage: str = "snapshot"
    taken: Taken | None = None
    committed: Committed | None = None
    error: StateError | None = None
    replicated: Replicated | None = None
    replica_error: StateError | None = None


def conclude_instance(request: ConcludeInstance, services: Services) -> dict[str, Any]:
    """Write the outcome of this attempt over that of an earlier one.

    ``retain`` says that a new snapshot is there, so that older ones may go: also when its backup failed, or
    snapshots would pile up for as long as backups fail.
    """
    if request.stage == "retention":
        outcome = _after_retention(request, services)
    else:
        outcome = _outcome(request, services)
        if request.error and request.stage == "snapshot":
            _clear_away(request, services)
        if request.error and request.stage == "backup":
            _release(request, services)
    write_outcome(request, outcome, services)
    log.info("%s ended: %s", request.instance_id, outcome.state)
    retain = request.stage != "retention" and Kind.SNAPSHOT.value in outcome.kinds
    return {"state": outcome.state.value, "retain": retain}


def write_outcome(step: InstanceStep, outcome: Outcome, services: Services) -> None:
    """Store an outcome as the latest word on its instance, unless a later attempt has spoken already."""
    written = services.catalog.write_part(
        step.session_id,
        step.outcome_part,
        {"attempt": step.attempt, "outcome": outcome.model_dump(mode="json")},
        at=services.clock.now(),
        version=step.attempt,
    )
    if not written:
        log.warning("%s: attempt %d ended after a later one", step.instance_id, step.attempt)


def read_outcome(step: InstanceStep, services: Services) -> Outcome | None:
    """The latest word on an instance, or None."""
    part = services.catalog.read_part(step.session_id, step.outcome_part)
    return Outcome.model_validate(part["outcome"]) if part else None


def _outcome(request: ConcludeInstance, services: Services) -> Outcome:
    captured = services.catalog.read_part(request.session_id, request.capture_part) or {}
    started = captured.get("requested_at")
    done, replicated = request.committed or Committed(), request.replicated or Replicated()
    problems = [
        Problem(code="Noted", message=text, resource=request.instance_id, severity=State.WARNING)
        for text in (*(request.taken.warnings if request.taken else ()), *done.warnings)
    ]
    problems += replicated.problems
    errors = [
        error.problem(resource=request.instance_id)
        for error in (request.error, request.replica_error)
        if error
    ]
    problems = [*errors, *problems, *_failed_before(request, errors, services)]
    kinds = {
        Kind.SNAPSHOT.value: request.taken and (request.stage != "snapshot" or not request.error),
        Kind.REPLICA.value: replicated.made,
        Kind.BACKUP.value: request.committed,
    }
    return Outcome(
        account=request.account,
        region=request.region,
        instance_id=request.instance_id,
        instance_name=request.instance_name,
        state=worst(*(problem.severity for problem in problems)),
        problems=tuple(problems),
        point_id=request.point_id if request.taken else "",
        kinds=tuple(kind for kind, made in kinds.items() if made),
        due=_due(request),
        full=done.full,
        bytes_read=done.bytes_read,
        bytes_stored=done.bytes_stored,
        blocks_read=done.blocks_read,
        requests=done.requests,
        started_at=datetime.fromisoformat(started) if started else None,
        ended_at=services.clock.now(),
    )


def _due(request: ConcludeInstance) -> tuple[str, ...]:
    """What the slot asks for; whether a template's replica is due shows only when the snapshot is made."""
    flags = {Kind.REPLICA: request.replica_flags, Kind.BACKUP: request.backup_flags}
    if request.replicated and not request.replicated.due:
        del flags[Kind.REPLICA]
    return (Kind.SNAPSHOT.value, *(kind.value for kind, told in flags.items() if told is not None))


def _failed_before(
    request: ConcludeInstance, errors: Sequence[Problem], services: Services
) -> tuple[Problem, ...]:
    """Why an earlier attempt failed, when this one was stopped: stopping hides no failure."""
    stopped = any(error.severity is State.STOPPED for error in errors)
    before = read_outcome(request, services) if stopped else None
    return tuple(one for one in before.problems if one.severity is State.FAILED) if before else ()


def _after_retention(request: ConcludeInstance, services: Services) -> Outcome:
    """The outcome that is there, with the warning that retention broke off."""
    before = read_outcome(request, services) or _outcome(request.model_copy(update={"error": None}), services)
    if request.error is None:
        return before
    problem = request.error.problem(resource=request.instance_id, severity=State.WARNING)
    return with_problems(before, [problem])


def with_problems(outcome: Outcome, problems: list[Problem]) -> Outcome:
    """The outcome with further problems, and at least as bad as they are."""
    return outcome.model_copy(
        update={
            "problems": (*outcome.problems, *problems),
            "state": worst(outcome.state, *(problem.severity for problem in problems)),
        }
    )


def _clear_away(request: ConcludeInstance, services: Services) -> None:
    """Remove what can never become a restore point; a set that is merely late stays for the retry."""
    try:
        spoke = services.spoke(request.policy, request.account, request.region)
        made = spoke.find_snapshots(identity(services.settings.installation, request))
        found = sort_out(made, request.slot)
        remove_snapshots(
            Doomed(found.broken, "The set failed and can never be a restore point."), request, spoke, services
        )
    except HoldfastError as error:
        log.warning("%s: what was left could not be cleared away: %s", request.instance_id, error)


def _release(request: ConcludeInstance, services: Services) -> None:
    """After the last attempt no backup reads the snapshots any more; a mark that stays lapses by itself."""
    try:
        policy = find_policy(services.configuration, request.policy)
        again = not request.manual and request.attempt < policy.retries
        if again and not is_stopped(request.session_id, services.catalog):
            return
        spoke = services.spoke(request.policy, request.account, request.region)
        for one in spoke.find_snapshots(identity(services.settings.installation, request)):
            spoke.untag_snapshot(one.snapshot_id, [names.IN_USE])
    except HoldfastError as error:
        log.warning("%s: its snapshots stay marked as in use: %s", request.instance_id, error)
