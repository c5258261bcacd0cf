"""A session is judged by its worst part, retried where that can help, and told to people and programs.

Nothing may make it look better: an unreachable account, a Region that never answered and a notification that
failed all show in the record.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict

from holdfast.model.configuration import AnyPolicy, SlaPolicy
from holdfast.model.session import Outcome, Problem, Session, State, worst
from holdfast.operations.reports.report import build_report, document, render_html, render_text, subject
from holdfast.operations.reports.telling import Message, tell
from holdfast.operations.retention.apply_retention import HELD
from holdfast.operations.retention.retention_in_force import shortened
from holdfast.operations.services import Services
from holdfast.operations.sessions.discover_instances import PASSING
from holdfast.operations.sessions.stop_marks import STOP
from holdfast.operations.steps import SCOPE, StateError, Step, find_policy, outcome_part
from holdfast.planning.attempts import is_told, mailings, to_retry

log = logging.getLogger(__name__)

MOST_PROBLEMS = 500
"""Problems of accounts and Regions in a session's record."""


class RegionResult(BaseModel):
    """How the session machine saw a Region end; ``error`` when no answer came."""

    model_config = ConfigDict(extra="ignore")

    region: str
    error: StateError | None = None


class ConcludeSession(Step):
    """The session's event after an attempt; ``error`` when the scope could not be resolved."""

    regions: tuple[RegionResult, ...] = ()
    error: StateError | None = None


def conclude_session(request: ConcludeSession, services: Services) -> dict[str, Any]:
    """Record and judge an attempt; decide on a retry; after the last one, tell the result."""
    policy = find_policy(services.configuration, request.policy)
    for result in request.regions:
        if error := result.error or _unsaid(result.region, request, services):
            _record_lost(result.region, error, request, services)
    regions = {
        name.removeprefix("region/"): part
        for name, part in services.catalog.parts(request.session_id, "region/")
    }
    outcomes = [
        Outcome.model_validate(body["outcome"])
        for _, body in services.catalog.parts(request.session_id, "outcome/")
    ]
    stop = services.catalog.read_part(request.session_id, STOP)
    again = to_retry(
        {} if request.error else _ended(regions, outcomes),
        request.attempt,
        policy.retries,
        manual=request.manual,
        stopped=stop is not None,
    )
    retry = bool(again)
    session = _judged(request, policy, regions, outcomes, stop, services)
    services.catalog.write_session(
        session.model_copy(update={"state": State.RUNNING, "ended_at": None}) if retry else session
    )
    told = _notify(session, outcomes, policy, services, last=not retry)
    if told and not retry:
        session = session.model_copy(
            update={
                "problems": (*session.problems, *told),
                "state": worst(session.state, *(problem.severity for problem in told)),
            }
        )
        services.catalog.write_session(session)
    if not retry:
        services.count(_metrics(session), policy=policy.name)
    log.info("session %s, attempt %d: %s", session.session_id, request.attempt, session.state)
    return {
        "session_id": request.session_id,
        "state": session.state.value,
        "retry": retry,
        "attempt": request.attempt + retry,
        "regions": list(again),
        "broken": bool(request.error) or (bool(regions) and all(one.get("lost") for one in regions.values())),
    }


def _unsaid(region: str, request: ConcludeSession, services: Services) -> StateError | None:
    """What is wrong with a Region that answered, but whose record does not account for this attempt."""
    part = services.catalog.read_part(request.session_id, f"region/{region}") or {}
    if not part.get("ended") or part.get("attempt") != request.attempt:
        return _not_concluded(f"{region} answered without a record of this attempt.")
    outcomes = services.catalog.parts(request.session_id, outcome_part(region))
    ended = sum(body["attempt"] == request.attempt for _, body in outcomes)
    selected = part.get("selected", 0)
    if not part.get("lost") and ended < selected:
        return _not_concluded(
            f"{region} selected {selected} instances and recorded how {ended} of them ended."
        )
    return None


def _not_concluded(message: str) -> StateError:
    remedy = "Look at the executions of the Region's cell in Step Functions."
    return StateError(
        Error="NotConcluded",
        Cause=json.dumps({"code": "NotConcluded", "message": message, "remedy": remedy}),
    )


def _record_lost(region: str, error: StateError, request: ConcludeSession, services: Services) -> None:
    """Keep a Region's failure where the Region's own words would be."""
    step_part = f"region/{region}"
    told = services.catalog.read_part(request.session_id, step_part) or {"problems": []}
    services.catalog.write_part(
        request.session_id,
        step_part,
        {
            **told,
            "attempt": request.attempt,
            "ended": True,
            "lost": True,
            "state": State.FAILED.value,
            "problems": [
                *(problem for problem in told["problems"] if problem["resource"] != region),
                error.problem(resource=region).model_dump(mode="json"),
            ],
        },
        at=services.clock.now(),
    )


def _ended(regions: dict[str, dict[str, Any]], outcomes: Iterable[Outcome]) -> dict[str, State]:
    """Regions that a retry may help: with a failed instance, an account whose problem may pass, or lost."""
    failed = {outcome.region for outcome in outcomes if outcome.state is State.FAILED}
    for name, part in regions.items():
        if part.get("lost") or any(problem["code"] in PASSING for problem in part["problems"]):
            failed.add(name)
    return dict.fromkeys(failed, State.FAILED)


def _judged(
    request: ConcludeSession,
    policy: AnyPolicy,
    regions: dict[str, dict[str, Any]],
    outcomes: Sequence[Outcome],
    stop: Mapping[str, Any] | None,
    services: Services,
) -> Session:
    scope = services.catalog.read_part(request.session_id, SCOPE) or {}
    problems = list(_merged(regions))
    if stop:
        problems.insert(0, _stopped(stop, request.policy, outcomes))
    if request.error:
        problems.insert(0, request.error.problem(resource=request.policy))
    elif not scope.get("accounts"):
        problems.append(
            Problem(
                code="EmptyScope",
                message="The policy's scope has no account, so nothing was protected.",
                resource=request.policy,
                remedy="Correct `source` of the policy: its units, and the exclusions.",
                severity=State.WARNING,
            )
        )
    problems += [*_not_found(policy, outcomes), *_shortened(request, services)]
    if not outcomes and not problems and not request.manual:
        problems.append(_nothing(policy, scope))
    if len(problems) > MOST_PROBLEMS:
        more = f"{len(problems) - MOST_PROBLEMS} more problems are not kept in this record."
        problems = [*problems[:MOST_PROBLEMS], Problem(code="More", message=more, severity=State.WARNING)]
    states = [outcome.state for outcome in outcomes]
    counts = {
        "instances": len(outcomes),
        "success": states.count(State.SUCCESS),
        "warning": states.count(State.WARNING),
        "failed": states.count(State.FAILED),
        "stopped": states.count(State.STOPPED),
        "regions": len(regions),
        "accounts": len(scope.get("accounts", ())),
        "left_out": len(scope.get("left_out", ())),
        "unreachable": len({problem.resource for problem in problems if problem.resource.isdigit()}),
    }
    for part in regions.values():
        for kind, count in part.get("coverage", {}).items():
            counts[kind] = counts.get(kind, 0) + count
    before = services.catalog.read_session(request.session_id)
    return before.model_copy(
        update={
            "ended_at": services.clock.now(),
            "state": worst(*states, *(problem.severity for problem in problems)),
            "attempt": request.attempt,
            "problems": tuple(problems),
            "counts": counts,
            "bytes_read": sum(outcome.bytes_read for outcome in outcomes),
            "bytes_stored": sum(outcome.bytes_stored for outcome in outcomes),
        }
    )


def _merged(regions: dict[str, dict[str, Any]]) -> Iterator[Problem]:
    """Problems of accounts and Regions; one that an account has in several Regions is told once."""
    seen: dict[tuple[str, str], list[str]] = {}
    first: dict[tuple[str, str], Problem] = {}
    for name, part in sorted(regions.items()):
        for body in part["problems"]:
            problem = Problem.model_validate(body)
            key = (problem.code, problem.resource)
            first.setdefault(key, problem)
            seen.setdefault(key, []).append(name)
    for key, problem in first.items():
        where = ", ".join(seen[key])
        yield problem.model_copy(update={"message": f"{problem.message} (in {where})"})


def _not_found(policy: AnyPolicy, outcomes: Iterable[Outcome]) -> Iterator[Problem]:
    """Instances that the policy lists by id and that no account or Region has."""
    missing = set(policy.selection.instances) - {outcome.instance_id for outcome in outcomes}
    for instance_id in sorted(missing - set(policy.selection.exclude_instances)):
        yield Problem(
            code="SourceGone",
            message="The policy lists this instance, but it was not protected: no account or Region that "
            "could be looked at has it, or another policy owns it.",
            resource=instance_id,
            remedy="Correct its id or the Regions of the policy, or take it out of the policy.",
            severity=State.WARNING,
        )


def _shortened(request: ConcludeSession, services: Services) -> Iterator[Problem]:
    """Restore points that stay because nobody has confirmed the retention that removes them."""
    held = sum(len(body["points"]) for _, body in services.catalog.parts(request.session_id, HELD))
    if held:
        yield shortened(request.policy, held)


def _stopped(stop: Mapping[str, Any], policy: str, outcomes: Iterable[Outcome]) -> Problem:
    """Whoever reads the result has to see that it is short because a person wanted that."""
    left = sum(outcome.state is State.STOPPED for outcome in outcomes)
    return Problem(
        code="Stopped",
        message=f"{stop['by'] or 'An operator'} stopped the session at {stop['at'][:16]}Z; "
        f"{left} of its instances were not done then.",
        resource=policy,
        remedy="Nothing is wrong: the next session protects them, or start the policy by hand.",
        severity=State.STOPPED,
    )


def _nothing(policy: AnyPolicy, scope: Mapping[str, Any]) -> Problem:
    """A schedule that protects nothing is more often a mistake than a wish."""
    entered, left_out = len(scope.get("accounts", ())), len(scope.get("left_out", ()))
    return Problem(
        code="NothingProtected",
        message=f"The session protected no instance: {entered} accounts were looked at, {left_out} left out, "
        "and no instance there is selected by this policy.",
        resource=policy.name,
        remedy="Correct the tags, ids, accounts or Regions of the policy, or disable it.",
        severity=State.WARNING,
    )


def _metrics(session: Session) -> dict[str, float]:
    """What dashboards and alarms follow; the policy is their only dimension."""
    counts = session.counts
    seconds = (session.ended_at - session.started_at).total_seconds() if session.ended_at else 0
    return {
        "Sessions": 1,
        # An operator who stops every session must hear of an overdue policy as well.
        "SessionsFailed": int(session.state in (State.FAILED, State.STOPPED)),
        "SessionsWarned": int(session.state is State.WARNING),
        "Instances": counts["instances"],
        "InstancesFailed": counts["failed"],
        "InstancesWarned": counts["warning"],
        "AccountsUnreachable": counts["unreachable"],
        "BytesRead": session.bytes_read,
        "BytesStored": session.bytes_stored,
        "DurationSeconds": seconds,
    }


def _notify(
    session: Session, outcomes: Sequence[Outcome], policy: AnyPolicy, services: Services, *, last: bool
) -> list[Problem]:
    """Tell the result; whoever could not be told is a warning, and the others are told all the same."""
    if isinstance(policy, SlaPolicy):
        return []  # What people hear of is the report of the day, when its windows have closed.
    report = build_report(session, outcomes)
    problems: list[Problem] = []
    everywhere, own_topic = services.configuration.notifications, services.settings.topic_arn
    for mailing in mailings(policy.notifications, everywhere, own_topic):
        if is_told(mailing, session.state, last=last):
            line = subject(mailing.subject, report)
            message = Message(line, render_text(report), render_html(report), document(report))
            problems += tell(mailing, message, services)
    return problems
