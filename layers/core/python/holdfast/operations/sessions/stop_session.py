"""An operator stops sessions: no further instance starts, and running image-level backups are abandoned.

Nothing is torn down: marks are left that the session's own steps honour, so that it ends by itself, and every
instance is accounted for. A snapshot that is being taken is finished and kept.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from datetime import timedelta
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from holdfast.errors import ConflictError, HoldfastError, NotFoundError
from holdfast.model.session import Session, State
from holdfast.operations.services import OnDemandServices
from holdfast.operations.sessions.stop_marks import STOP, stop_key
from holdfast.operations.steps import SCOPE

log = logging.getLogger(__name__)

LONGEST = timedelta(days=14)
"""No session with its retries lasts longer: a Region is given up after a day."""


class StopSession(BaseModel):
    """One session by its id, or every running session of a policy. ``by``: who asks, for the record."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    session_id: str = Field("", max_length=80)
    policy: str = Field("", max_length=127)
    by: str = Field("", max_length=2048)

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if bool(self.session_id) == bool(self.policy):
            raise ValueError("give session_id or policy")
        return self


def stop_session(request: StopSession, services: OnDemandServices) -> dict[str, Any]:
    """Mark sessions to be stopped. Raises NotFoundError when none runs, ConflictError when it has ended."""
    running = _running(request, services)
    for session in running:
        _stop(session, request.by, services)
    return {"stopping": [session.session_id for session in running]}


def _running(request: StopSession, services: OnDemandServices) -> list[Session]:
    if request.session_id:
        session = services.catalog.read_session(request.session_id)
        if session.state is not State.RUNNING:
            raise ConflictError(
                f"The session has ended: {session.state.value}.",
                resource=session.session_id,
                remedy="Nothing is to be done.",
            )
        if not session.policy:
            raise ConflictError(
                "A pass of retention is no session of a policy, and cannot be stopped.",
                resource=session.session_id,
                remedy="It ends by itself; what it removes is judged point by point.",
            )
        return [session]
    now = services.clock.now()
    found = services.catalog.sessions(now - LONGEST, now + timedelta(minutes=1))
    running = [one for one in found if one.policy == request.policy and one.state is State.RUNNING]
    if not running:
        raise NotFoundError(
            "No session of the policy is running.",
            resource=request.policy,
            remedy="See what ran with `holdfast session list`.",
        )
    return running


def _stop(session: Session, by: str, services: OnDemandServices) -> None:
    """Mark it in the catalog first; a Region that cannot be marked keeps no other from stopping."""
    now = services.clock.now()
    said = {"by": by, "at": now.isoformat()}
    services.catalog.write_part(session.session_id, STOP, said, at=now, new=True)
    errors: list[HoldfastError] = []
    for region in _regions(session, services):
        try:
            services.work_of(region).write(stop_key(session.session_id), said)
        except HoldfastError as error:
            log.error("workers in %s are not told to stop: %s", region, error)
            errors.append(error)
    if errors:
        raise errors[0]
    log.info("%s is stopped by %s", session.session_id, by or "an operator")


def _regions(session: Session, services: OnDemandServices) -> Iterable[str]:
    """Regions of the session: from its scope, or, when that is not known yet, all of its policy."""
    scope = services.catalog.read_part(session.session_id, SCOPE)
    policy = services.configuration.policy(session.policy)
    return scope["regions"] if scope else policy.regions if policy else ()
