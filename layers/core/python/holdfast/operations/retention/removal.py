"""Deleting EBS snapshots: only ours, only those decided on, and never from memory.

Two steps. The verdict is recorded in the catalog before anything happens; then the tags are read again, and a
snapshot goes only when installation, policy, restore point and instance are still the ones that the verdict
was about, and nothing keeps it. What a snapshot's tags do not say is never assumed.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from holdfast.errors import HoldfastError
from holdfast.model import tags as names
from holdfast.model.session import Problem, State
from holdfast.operations.services import Services
from holdfast.operations.steps import problem_of
from holdfast.ports import Spoke, VolumeSnapshot

log = logging.getLogger(__name__)


class Subject(Protocol):
    """Whose snapshots go: an instance in one place, and the session under which that is written down.

    ``policy`` empty: what any policy made. ``point_id`` is the session's own restore point, if it has one.
    """

    @property
    def session_id(self) -> str: ...
    @property
    def account(self) -> str: ...
    @property
    def region(self) -> str: ...
    @property
    def instance_id(self) -> str: ...
    @property
    def policy(self) -> str: ...
    @property
    def point_id(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Doomed:
    """Snapshots of one restore point that shall go, and why.

    ``by_hand``: they were taken by hand, so that their tags may name no policy.
    """

    snapshots: Sequence[VolumeSnapshot]
    reason: str
    by_hand: bool = False


def remove_snapshots(doomed: Doomed, subject: Subject, spoke: Spoke, services: Services) -> list[Problem]:
    """Remove the snapshots of a verdict; what is refused or fails is told, and the rest still goes."""
    if not doomed.snapshots:
        return []
    seen = {one.snapshot_id: one for one in doomed.snapshots}
    points = {one.snapshot_id: one.tags.get(names.POINT, "") for one in doomed.snapshots}
    services.catalog.write_part(
        subject.session_id,
        f"removal/{subject.instance_id}/{min(points.values())}/{min(points)}",
        {"account": subject.account, "region": subject.region, "snapshots": points, "reason": doomed.reason},
        at=services.clock.now(),
    )
    problems = []
    for one in spoke.read_snapshots(sorted(points)):
        installation, now = services.settings.installation, services.clock.now()
        refusal = _why_not(one, seen[one.snapshot_id], subject, installation, now, by_hand=doomed.by_hand)
        if refusal:
            problems.append(_refused(one, refusal))
            continue
        try:
            spoke.delete_snapshot(one.snapshot_id)
            log.info("removed %s of %s: %s", one.snapshot_id, points[one.snapshot_id], doomed.reason)
        except HoldfastError as error:
            problems.append(problem_of(error, resource=one.snapshot_id, severity=State.WARNING))
    return problems


def _why_not(
    snapshot: VolumeSnapshot,
    seen: VolumeSnapshot,
    subject: Subject,
    installation: str,
    now: datetime,
    *,
    by_hand: bool,
) -> str:
    """Why a snapshot must stay although there is a verdict on it as it was ``seen``; empty when it may go."""
    point_id = seen.tags.get(names.POINT, "")
    expected = {
        names.INSTALLATION: installation,
        names.POLICY: subject.policy or seen.tags.get(names.POLICY, ""),
        names.INSTANCE: subject.instance_id,
        names.POINT: point_id,
        names.KIND: seen.tags.get(names.KIND, ""),
    }
    if by_hand and not (names.POLICY in seen.tags or names.POLICY in snapshot.tags):
        del expected[names.POLICY]
    for key, value in expected.items():
        if not value or snapshot.tags.get(key) != value:
            return f"its tag {key} is {snapshot.tags.get(key)!r} now, not {value!r}"
    for key in (names.FLAGS, names.KEEP_UNTIL):
        if snapshot.tags.get(key) != seen.tags.get(key):
            return f"its tag {key} was changed to {snapshot.tags.get(key)!r} meanwhile"
    if names.BASE in snapshot.tags:
        return "changed block tracking needs it for the next backup"
    if point_id != subject.point_id and names.is_in_use(snapshot.tags, now):  # Its own session knows better.
        return "a backup or a copy may still be reading it"
    return ""


def _refused(snapshot: VolumeSnapshot, refusal: str) -> Problem:
    return Problem(
        code="NotRemoved",
        message=f"The snapshot was not removed: {refusal}.",
        resource=snapshot.snapshot_id,
        remedy="Correct its tags, or remove it by hand when nobody needs it.",
        severity=State.WARNING,
    )
