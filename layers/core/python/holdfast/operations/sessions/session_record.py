"""What the sessions of a span of time did, read from the records that they left.

Records are read as they are: one that cannot be understood must not hide the others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from holdfast.model.ids import slot_of
from holdfast.model.session import Problem, Session, State
from holdfast.operations.services import Services
from holdfast.planning.standing import Ending, Look, Run

AT_ONCE: Final = 8
AROUND: Final = timedelta(days=1)
"""A session may begin this long after its slot: events are delivered late, and slots are caught up."""


@dataclass(slots=True)
class SessionRecord:
    """Sessions by id, the first slot of each policy that ran, the last ending of each instance by its id."""

    runs: dict[str, Run] = field(default_factory=dict)
    first: dict[str, datetime] = field(default_factory=dict)
    endings: dict[str, Ending] = field(default_factory=dict)


def read_sessions(services: Services, start: datetime, end: datetime) -> SessionRecord:
    """What sessions did whose slot lies in ``[start, end)``."""
    listed = services.catalog.sessions(start - timedelta(minutes=5), end + AROUND)
    wanted = [session for session in listed if start <= session.slot < end]
    found = SessionRecord()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        read = pool.map(lambda session: _read(session, services), wanted)
        for session, (run, endings) in zip(wanted, read, strict=True):
            found.runs[session.session_id] = run
            found.first[session.policy] = min(session.slot, found.first.get(session.policy, session.slot))
            for instance_id, ending in endings:
                last = found.endings.get(instance_id)
                if last is None or last.slot <= ending.slot:
                    found.endings[instance_id] = ending
    return found


def _read(session: Session, services: Services) -> tuple[Run, list[tuple[str, Ending]]]:
    catalog, over = services.catalog, session.ended_at is not None
    looks = {
        name.removeprefix("region/"): _look(part)
        for name, part in catalog.parts(session.session_id, "region/")
    }
    endings = [
        (str(part["outcome"]["instance_id"]), _ending(session, part["outcome"]))
        for _, part in catalog.parts(session.session_id, "outcome/")
        if over or part["outcome"]["state"] != State.FAILED  # what failed may be tried again
    ]
    failed = over and session.state is State.FAILED
    return Run(over, looks, _worst(session.problems) or "it failed" if failed else ""), endings


def _look(part: Mapping[str, Any]) -> Look:
    problems = [Problem.model_validate(problem) for problem in part.get("problems", ())]
    lost = _worst(problems) or "the Region gave no answer" if part.get("lost") else ""
    accounts = {one.resource: one.message for one in problems if one.resource.isdigit()}
    return Look(bool(part.get("ended")), accounts, lost)


def _ending(session: Session, outcome: Mapping[str, Any]) -> Ending:
    made = outcome["state"] in (State.SUCCESS, State.WARNING) and bool(outcome.get("kinds"))
    problems = [Problem.model_validate(problem) for problem in outcome.get("problems", ())]
    slot = slot_of(session.session_id) or session.slot
    return Ending(session.policy, slot, made, _worst(problems) or ("" if made else "it made nothing"))


def _worst(problems: Iterable[Problem]) -> str:
    """The gravest problem in words; empty without any."""
    ordered = sorted(problems, key=lambda one: one.severity is not State.FAILED)
    return f"{ordered[0].code}: {ordered[0].message}" if ordered else ""
