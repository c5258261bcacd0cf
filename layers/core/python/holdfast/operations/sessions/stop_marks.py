"""Marks that say: an operator stopped this session.

One lies in the catalog, for the steps that decide; one lies in the work bucket of each Region, for workers,
who know neither catalog nor models: it costs them one request.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdfast.errors import NotFoundError, StoppedError

if TYPE_CHECKING:
    from holdfast.ports import Catalog, WorkLists

STOP = "stop"
"""Part of a session that is to stop: by whom, and when."""
_REMEDY = "Nothing is wrong: the next session protects it, or start the policy by hand."


def stop_key(session_id: str) -> str:
    """Where the mark for workers lies."""
    return f"sessions/{session_id}/stop.json"


def is_stopped(session_id: str, catalog: Catalog) -> bool:
    """Whether the session is to stop."""
    return catalog.read_part(session_id, STOP) is not None


def require_running(session_id: str, catalog: Catalog, what: str, *, resource: str) -> None:
    """Raises StoppedError when the session is to stop; ``what`` did not happen then."""
    if is_stopped(session_id, catalog):
        raise _stopped(what, resource)


def require_no_mark(session_id: str, work: WorkLists, what: str, *, resource: str) -> None:
    """The same for a worker, from the mark in its Region."""
    try:
        work.read(stop_key(session_id))
    except NotFoundError:
        return
    raise _stopped(what, resource)


def _stopped(what: str, resource: str) -> StoppedError:
    return StoppedError(f"The session was stopped: {what}", resource=resource, remedy=_REMEDY)
