"""Deletes restore points in two steps, so that a wrong or stale verdict can still be taken back.

A point is first marked by a candidate object. It is deleted in a later cycle, when it is still expired and
the mark is at least 24 hours old. Packs and maps are never deleted here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from holdfast.errors import ConflictError, DamagedError
from holdfast.model.ids import parse_stamp, stamp
from holdfast.ports import IdSource
from holdfast.repository.envelope import seal_envelope
from holdfast.repository.layout import POINT_CANDIDATES, ObjectKind, PointName, parse_point_key
from holdfast.repository.owner import require_owner

if TYPE_CHECKING:
    from holdfast.repository.repository import Repository

MINIMUM_AGE: Final = timedelta(hours=24)
"""A writer or restore that started before the mark has ended, or been retried, by then."""


@dataclass(frozen=True, slots=True)
class Expiry:
    """What one cycle did: newly marked, still too young, taken back (not expired any more), deleted."""

    marked: tuple[PointName, ...]
    waiting: tuple[PointName, ...]
    released: tuple[PointName, ...]
    deleted: tuple[PointName, ...]


def expire_points(
    repository: Repository,
    expired: Iterable[PointName],
    now: datetime,
    *,
    ids: IdSource,
    installation: str,
) -> Expiry:
    """One cycle: ``expired`` are all points that retention does not keep at ``now``.

    A mark that cannot be read counts as none and is made anew. Calling it again with the same arguments
    changes nothing. Raises ConflictError when ``installation`` does not own the repository.
    """
    require_owner(repository.store, repository.id, installation)
    present = set(repository.list_points())
    wanted = set(expired) & present
    marks = _marks(repository)
    deleted, waiting, marked = [], [], []
    for name in sorted(wanted):
        marked_at = marks.get(name)
        if marked_at is None or marked_at > now:
            _mark(repository, name, now, ids)
            marked.append(name)
        elif now - marked_at < MINIMUM_AGE:
            waiting.append(name)
        else:
            repository.store.delete(name.key)
            repository.store.delete(name.candidate_key)
            deleted.append(name)
    released = sorted(set(marks) - wanted)
    for name in released:
        repository.store.delete(name.candidate_key)
    return Expiry(tuple(marked), tuple(waiting), tuple(released), tuple(deleted))


def mark_points(
    repository: Repository, names: Iterable[PointName], now: datetime, *, ids: IdSource, installation: str
) -> None:
    """Mark points that have no mark, and delete nothing: the first step alone.

    A mark that cannot be read is left to the next cycle. Raises ConflictError when ``installation`` does not
    own the repository.
    """
    require_owner(repository.store, repository.id, installation)
    for name in names:
        _put_mark(repository, name, now, ids)


def _marks(repository: Repository) -> dict[PointName, datetime | None]:
    """Candidates and when they were marked; None for a mark that cannot be trusted."""
    marks: dict[PointName, datetime | None] = {}
    for stat in repository.store.list(POINT_CANDIDATES):
        name = parse_point_key(stat.key, POINT_CANDIDATES)
        if name is not None:
            marks[name] = _marked_at(repository, stat.key)
    return marks


def _marked_at(repository: Repository, key: str) -> datetime | None:
    try:
        document = repository.open_document(ObjectKind.CANDIDATE, key)
        return parse_stamp(document["marked_at"])
    except (DamagedError, KeyError, TypeError, ValueError):
        return None


def _mark(repository: Repository, name: PointName, now: datetime, ids: IdSource) -> None:
    """Put the candidate in place of one that cannot be read or is dated in the future."""
    repository.store.delete(name.candidate_key)
    _put_mark(repository, name, now, ids)


def _put_mark(repository: Repository, name: PointName, now: datetime, ids: IdSource) -> None:
    key = name.candidate_key
    content = seal_envelope(
        repository.keys, ObjectKind.CANDIDATE, key, {"marked_at": stamp(now), "point": name.key}, ids
    )
    try:
        repository.store.put_new(key, content)
    except ConflictError:
        return  # it is marked already
