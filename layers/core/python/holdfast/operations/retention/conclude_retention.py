"""The end of a retention pass: one record, told to people when something needs them.

A place that left no word is a problem like any other: a pass must never look as if it had been everywhere.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field

from holdfast.errors import HoldfastError, NotFoundError
from holdfast.model.session import Problem, Session, State, worst
from holdfast.operations.retention.retention_in_force import shortened
from holdfast.operations.retention.retention_pass import Pass, PlaceDone
from holdfast.operations.services import Services
from holdfast.operations.steps import StateError

log = logging.getLogger(__name__)

MOST_PROBLEMS: Final = 500
"""Problems in the record of a pass."""
MOST_TOLD: Final = 30
"""Problems in a message: SNS takes 256 KB, and the record has them all."""


class BackupsDone(BaseModel):
    """What expire_backups answered; ``unowned``: backups of policies that are gone, by policy."""

    model_config = ConfigDict(extra="ignore")

    expired: int = 0
    removed: int = 0
    held: dict[str, int] = Field(default_factory=dict)
    unowned: dict[str, int] = Field(default_factory=dict)


class ConcludeRetention(Pass):
    """The pass's event at its end. ``error``: why it could not be planned or went wrong as a whole."""

    error: StateError | None = None
    backups: BackupsDone | None = None
    backups_error: StateError | None = None


def conclude_retention(request: ConcludeRetention, services: Services) -> dict[str, Any]:
    """Sum up what was done, record it, and publish what a person should know."""
    places: dict[tuple[str, str], list[PlaceDone]] = {}
    for part, body in services.catalog.parts(request.pass_id, "place/"):
        _, account, region, _ = part.split("/", 3)
        places.setdefault((account, region), []).append(PlaceDone.model_validate(body))
    done = [each for found in places.values() for each in found]
    backups = request.backups or BackupsDone()
    held: Counter[str] = Counter(backups.held)
    for each in done:
        held.update(each.held)
    problems = [
        *_broken(request),
        *(_no_word(place) for place in _planned(request, services) if place not in places),
        *(problem for each in done for problem in each.problems),
        *(_more(place, each.more) for place, found in places.items() for each in found if each.more),
        *(shortened(name, count) for name, count in sorted(held.items())),
        *(_unowned(name, count) for name, count in sorted(backups.unowned.items())),
    ]
    counts = {
        "places": len(places),
        "instances": sum(each.instances for each in done),
        "kept": sum(each.kept for each in done),
        "removed": sum(each.removed for each in done),
        "obsolete": sum(each.obsolete for each in done),
        "recovered": sum(each.recovered for each in done),
        "held": sum(held.values()),
        "backups_expired": backups.expired,
        "backups_removed": backups.removed,
        "problems": sum(problem.severity is not State.SUCCESS for problem in problems),
    }
    session = _recorded(request, problems, counts, services)
    _count(session, held, services)
    _tell(session, services)
    return {"state": session.state.value, "broken": request.error is not None, **counts}


def _planned(request: Pass, services: Services) -> Iterable[tuple[str, str]]:
    """Every account and Region of the plan; none when there is no plan."""
    try:
        items = services.work.read(request.items_key)
    except NotFoundError:
        return ()
    return [(item["account"], item["region"]) for item in items]


def _broken(request: ConcludeRetention) -> Iterable[Problem]:
    if request.error:
        yield request.error.problem(resource=request.pass_id)
    if request.backups_error:
        yield request.backups_error.problem(resource="repositories")


def _no_word(place: tuple[str, str]) -> Problem:
    return Problem(
        code="NotConcluded",
        message=f"What happened in account {place[0]} in {place[1]} is not known.",
        resource=place[0],
        remedy="Look at the execution of the retention machine in Step Functions.",
        severity=State.WARNING,
    )


def _more(place: tuple[str, str], count: int) -> Problem:
    return Problem(
        code="More",
        message=f"{count} more problems of account {place[0]} in {place[1]} are not kept in this record.",
        resource=place[0],
        remedy="Correct what is named; the next pass names the others.",
        severity=State.WARNING,
    )


def _unowned(policy: str, count: int) -> Problem:
    return Problem(
        code="NoPolicy",
        message=f"{count} backups are kept for good: {policy!r}, which made them, is no policy any more.",
        resource=policy,
        remedy="Remove them by hand when nobody needs them (`holdfast data remove`).",
        severity=State.SUCCESS,  # Told every day, but nothing is wrong.
    )


def _recorded(
    request: Pass, problems: list[Problem], counts: Mapping[str, int], services: Services
) -> Session:
    """The record of the pass, also when there is none yet because it could not be planned."""
    now = services.clock.now()
    try:
        before = services.catalog.read_session(request.pass_id)
    except NotFoundError:
        before = Session(session_id=request.pass_id, policy="", slot=now, started_at=now)
    if len(problems) > MOST_PROBLEMS:
        more = f"{len(problems) - MOST_PROBLEMS} more problems are not kept in this record."
        problems = [*problems[:MOST_PROBLEMS], Problem(code="More", message=more, severity=State.WARNING)]
    session = before.model_copy(
        update={
            "ended_at": now,
            "state": worst(*(problem.severity for problem in problems)),
            "problems": tuple(problems),
            "counts": dict(counts),
        }
    )
    services.catalog.write_session(session)
    return session


def _count(session: Session, held: Mapping[str, int], services: Services) -> None:
    """Numbers for alarms: of the whole pass, and per policy what waits for a confirmation."""
    names = {
        "RestorePointsRemoved": "removed",
        "RestorePointsObsolete": "obsolete",
        "RestorePointsHeld": "held",
        "RetentionProblems": "problems",
    }
    whole = {name: session.counts[key] for name, key in names.items()}
    services.count({"RetentionPasses": 1, **whole}, policy="")
    for policy, count in held.items():
        if policy:
            services.count({"RestorePointsHeld": count}, policy=policy)


def _tell(session: Session, services: Services) -> None:
    """Publish a pass that was not plain success; the record stands whether or not that works."""
    if session.state is State.SUCCESS:
        return
    topic = services.configuration.notifications.topic_arn or services.settings.topic_arn
    serious = [problem for problem in session.problems if problem.severity is not State.SUCCESS]
    shown = [
        one.model_copy(update={"message": one.message[:500], "remedy": one.remedy[:300]})
        for one in serious[:MOST_TOLD]
    ]
    lines = [f"{one.resource}: {one.message} {one.remedy}".strip() for one in shown]
    if len(serious) > MOST_TOLD:
        lines.append(f"All {len(serious)}: holdfast session show {session.session_id}")
    document = session.model_copy(update={"problems": tuple(shown)}).model_dump(mode="json")
    subject = f"[{session.state.value}] Retention: {len(serious)} issue{'' if len(serious) == 1 else 's'}"
    try:
        services.notifier.publish(topic, subject, "\n".join([*lines, ""]), document)
    except HoldfastError as error:
        log.error("%s could not be told: %s", topic, error)
