"""Closes a local day of an SLA-based policy: the ledger is written, once, then retention runs.

Nothing is rated while a Region's window is open, or a session of the day still runs: one that hangs is waited
for as long as a session may wait for a Region, then the day is closed without it and says so. A repeat finds
the ledger as it was written and completes what follows.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict

from holdfast.errors import NotFoundError
from holdfast.model import ids
from holdfast.model.configuration import SlaPolicy, SlaTemplate
from holdfast.model.restore_point import Kind, RestorePoint
from holdfast.operations.machines import machine_arn
from holdfast.operations.services import Services
from holdfast.operations.sla.sla_records import (
    DayRecord,
    members_before,
    noted_sessions,
    pages,
    read_day,
    write_day,
    write_page,
)
from holdfast.operations.steps import SCOPE
from holdfast.planning.compliance import LedgerEntry, Share, Status, policy_ratio, status, target_of
from holdfast.planning.ledger import (
    RATED,
    Member,
    Presence,
    Sight,
    day_closes_at,
    day_opens_at,
    due_on,
    is_promised,
    presence,
    share,
)
from holdfast.planning.protection import template_of
from holdfast.planning.sla import region_zone

log = logging.getLogger(__name__)

GRACE = timedelta(minutes=5)
"""An event of the last slot may be delivered a little late."""
PATIENCE = timedelta(hours=24)
"""How long after the last window a session may still run, as long as a session waits for a Region."""
POLL = timedelta(minutes=5)


class CloseDay(BaseModel):
    """A policy and the local date on which its windows opened."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    policy: str
    day: date


def close_day(request: CloseDay, services: Services) -> dict[str, Any]:
    """Close the day, or say until when to wait. ``rated``: there is a ledger that can be reported.

    A policy that was taken out of the configuration meanwhile promised nothing.
    """
    policy, now = services.configuration.policy(request.policy), services.clock.now()
    if not isinstance(policy, SlaPolicy):
        log.warning("%s is no SLA-based policy any more: %s stays open", request.policy, request.day)
        return {"ready": True, "wait_until": instant_text(now), "rated": False}
    template = template_of(services.configuration, policy)
    zones = {region: region_zone(services.configuration, region) for region in policy.regions}
    closed_at = day_closes_at(template, zones.values(), request.day) + GRACE
    if now < closed_at:
        return _wait(closed_at)
    if read_day(policy.name, request.day, services.catalog) is None:
        noted = dict(noted_sessions(policy.name, request.day, services.catalog))
        running = [session_id for session_id in noted if _is_running(session_id, services)]
        if running and now < closed_at + PATIENCE:
            log.info("%s of %s waits for %s", request.day, policy.name, ", ".join(running))
            return _wait(now + POLL)
        _write_left(policy, template, request.day - timedelta(days=1), zones, services)
        _Day(policy, template, request.day, zones, noted, services).write(running)
    rated = read_day(policy.name, request.day, services.catalog) is not None
    if rated:
        _publish_metrics(request, services)
    services.executions(services.settings.hub_region).start(
        machine_arn("retention", services), ids.day_id(policy.name, request.day), {"policy": policy.name}
    )
    return {"ready": True, "wait_until": instant_text(now), "rated": rated}


def _write_left(
    policy: SlaPolicy, template: SlaTemplate, on: date, zones: Mapping[str, ZoneInfo], services: Services
) -> None:
    """Rate the day before if nothing did: its event is lost, or its windows were moved before it came."""
    noted = dict(noted_sessions(policy.name, on, services.catalog))
    if not noted or read_day(policy.name, on, services.catalog) is not None:
        return
    if not any(_is_running(session_id, services) for session_id in noted):
        log.warning("%s of %s was not closed; it is rated now", on, policy.name)
        _Day(policy, template, on, zones, noted, services).write(())


def _publish_metrics(request: CloseDay, services: Services) -> None:
    """The ratio of every product, and how many missed their target; alarms follow the ledger."""
    metrics: dict[str, float] = {"SlaMissed": 0}
    for page in pages(request.policy, services.catalog, f"{request.day}/"):
        ratio = policy_ratio(page.entry.shares)
        if ratio is not None:
            metrics[f"Sla{page.entry.kind.capitalize()}Percent"] = float(ratio * 100)
        metrics["SlaMissed"] += status(ratio, page.entry.target) is Status.MISSED
    services.count(metrics, policy=request.policy)


def _wait(until: datetime) -> dict[str, Any]:
    return {"ready": False, "wait_until": instant_text(until), "rated": False}


def instant_text(moment: datetime) -> str:
    """An instant as a Wait state takes it."""
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def _is_running(session_id: str, services: Services) -> bool:
    """Whether a session that was noted has not ended; one without a record never began."""
    try:
        return services.catalog.read_session(session_id).ended_at is None
    except NotFoundError:
        return False


class _Day:
    """One day of one policy, while its ledger is made."""

    def __init__(
        self,
        policy: SlaPolicy,
        template: SlaTemplate,
        on: date,
        zones: Mapping[str, ZoneInfo],
        noted: Mapping[str, Mapping[str, Any]],
        services: Services,
    ) -> None:
        self._policy, self._template, self._on = policy, template, on
        self._zones, self._noted, self._services = zones, noted, services
        self._seen: dict[str, Member] = {}

    def write(self, unfinished: Iterable[str]) -> None:
        """Write the ledger of every product, then the record of the day."""
        if not self._is_due():
            log.info("%s of %s: nothing was due", self._on, self._policy.name)
            return
        sights = [self._sight(session_id, noted) for session_id, noted in self._noted.items()]
        known = members_before(self._policy.name, self._on, self._services.catalog)
        members = {one.instance_id: one for one in (*known.values(), *self._seen.values())}
        stood = {
            one.instance_id: self._presence(one, sights, one.instance_id in known)
            for one in members.values()
            if one.region in self._zones
        }
        rated = [name for name, found in stood.items() if found.stays or found.removed]
        made = {name: self._made(name) for name in sorted(rated)}
        for kind in RATED:
            if is_promised(self._template, kind):
                self._write_page(kind, {name: members[name] for name in made}, stood, made)
        write_day(
            self._policy.name,
            self._on,
            DayRecord(
                tuple(self._noted),
                tuple(unfinished),
                {name: members[name] for name, found in stood.items() if found.stays},
            ),
            self._services.catalog,
        )

    def _is_due(self) -> bool:
        """Whether anything was promised for this day; nothing is while an operator has switched it off."""
        if not self._noted and self._services.catalog.is_switched_off(self._policy.name):
            return False
        return any(due_on(self._template, kind, self._on, z) for kind in RATED for z in self._zones.values())

    def _sight(self, session_id: str, noted: Mapping[str, Any]) -> Sight:
        """What a session saw: its outcomes, and the accounts that its Region's record complains about."""
        catalog, region = self._services.catalog, noted["region"]
        # Read as they lie there: a day may have tens of thousands of outcomes.
        seen = [
            Member(one["instance_id"], one["account"], one["region"], one["instance_name"])
            for _, body in catalog.parts(session_id, f"outcome/{region}/")
            for one in [body["outcome"]]
        ]
        self._seen.update((one.instance_id, one) for one in seen)
        told = catalog.read_part(session_id, f"region/{region}") or {}
        scope = catalog.read_part(session_id, SCOPE)
        blind: frozenset[str] | None = None
        if scope is not None and not scope["accounts"]:
            blind = frozenset()  # The scope holds no account: whoever was in it has left.
        elif told.get("ended") and not told.get("lost"):
            blind = frozenset(problem["resource"] for problem in told["problems"])
        at = datetime.fromisoformat(noted["slot"])
        return Sight(region, at, frozenset(one.instance_id for one in seen), blind)

    def _presence(self, member: Member, sights: Iterable[Sight], known: bool) -> Presence:
        zone = (self._zones[member.region],)
        return presence(
            member,
            sights,
            known=known,
            opened_at=day_opens_at(self._template, zone, self._on),
            closed_at=day_closes_at(self._template, zone, self._on),
        )

    def _made(self, instance_id: str) -> dict[Kind, int]:
        """Complete restore points of the day's sessions, by product."""
        made = dict.fromkeys(RATED, 0)
        for point in self._services.catalog.points(instance_id):
            if point.kind in made and self._counts(point):
                made[point.kind] += 1
        return made

    def _counts(self, point: RestorePoint) -> bool:
        days = self._noted.get(point.session_id, {}).get("days", {})
        window = Kind.BACKUP if point.kind is Kind.BACKUP else Kind.SNAPSHOT
        return point.complete and not point.temporary and days.get(window.value) == self._on.isoformat()

    def _write_page(
        self,
        kind: Kind,
        members: Mapping[str, Member],
        stood: Mapping[str, Presence],
        made: Mapping[str, Mapping[Kind, int]],
    ) -> None:
        due = {region: due_on(self._template, kind, self._on, zone) for region, zone in self._zones.items()}
        shares: list[Share] = []
        for name, member in members.items():
            slots, count = due[member.region], made[name][kind]
            # More snapshots or backups than were due make up for no other day; a late replica does.
            count = count if kind is Kind.REPLICA else min(count, len(slots))
            if slots or count:
                shares.append(share(member, stood[name], slots, count))
        if not shares and not any(due.values()):
            return
        target = target_of(self._template.target_percent)
        entry = LedgerEntry(self._policy.name, kind, self._on, target, tuple(shares))
        if write_page(entry, members, self._services.catalog):
            log.info("%s of %s: %s of %d instances rated", self._on, entry.policy, kind.value, len(shares))
