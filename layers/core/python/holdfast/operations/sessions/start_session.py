"""A scheduled instant, or a person's wish, becomes one session of a policy.

The session's name is a function of policy and slot, and the record is written before the execution starts: a
duplicate event, and a crash between the two, end in exactly one session.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import Any

from pydantic import AwareDatetime, BaseModel, ConfigDict

from holdfast.errors import ConfigurationError
from holdfast.model import ids
from holdfast.model.configuration import AnyPolicy, Configuration, SlaPolicy
from holdfast.model.restore_point import Kind
from holdfast.model.session import Session
from holdfast.model.tags import encode_flags
from holdfast.operations.services import Services
from holdfast.operations.sessions.flags import window_day
from holdfast.operations.sla.sla_records import note_session
from holdfast.operations.steps import Step, find_policy
from holdfast.planning.protection import template_of
from holdfast.planning.schedule import Slot, manual_flags, slot_for
from holdfast.planning.sla import region_zone, sla_slot_for, slot_now

log = logging.getLogger(__name__)


class StartSession(BaseModel):
    """Either ``scheduled_at`` (the scheduler's instant) or ``manual``.

    SLA-based policies name their ``region``, and take ``now`` instead of ``manual``: what an open window is
    for is made at once.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    policy: str
    region: str = ""
    scheduled_at: AwareDatetime | None = None
    manual: bool = False
    now: bool = False


def start_session(request: StartSession, services: Services) -> dict[str, Any]:
    """Begin the session of a slot, once. Raises ConfigurationError for an unknown policy."""
    policy = find_policy(services.configuration, request.policy)
    now = services.clock.now()
    slot = _slot(services.configuration, policy, request, now)
    session_id = ids.session_id(policy.name, slot.at, request.region) if slot else ""
    reason = _reason_not_to_run(policy, request, slot, services)
    if reason or slot is None:
        log.warning("policy %s does not run: %s", policy.name, reason)
        return {"session_id": session_id, "started": False, "reason": reason}
    step = Step(
        session_id=session_id,
        policy=policy.name,
        slot=slot.at,
        manual=request.manual,
        only_regions=(request.region,) if request.region else (),
        snapshot_flags=encode_flags(slot.flags_of(Kind.SNAPSHOT)),
        temporary=Kind.SNAPSHOT in slot.temporary,
        replica_flags=encode_flags(slot.flags_of(Kind.REPLICA)) if Kind.REPLICA in slot.products else None,
        backup_flags=encode_flags(slot.flags_of(Kind.BACKUP)) if Kind.BACKUP in slot.products else None,
    )
    _note(policy, step, slot, services)
    begun = services.catalog.begin_session(
        Session(
            session_id=session_id, policy=policy.name, slot=slot.at, started_at=now, manual=request.manual
        )
    )
    # Also when the record was there: the invocation that wrote it may have died before this line.
    services.executions(services.settings.hub_region).start(
        services.settings.session_machine_arn, session_id, step.session_event
    )
    log.info("session %s %s", session_id, "started" if begun else "exists already")
    return {
        "session_id": session_id,
        "started": begun,
        "reason": "" if begun else "The session of this slot was started before.",
    }


def _slot(
    configuration: Configuration, policy: AnyPolicy, request: StartSession, now: datetime
) -> Slot | None:
    """The slot of the event; a manual run makes one of its own, to the second."""
    if request.manual:
        if isinstance(policy, SlaPolicy):
            raise ConfigurationError(
                "An SLA-based policy runs by itself inside its windows.",
                resource=policy.name,
                remedy="Inside an open window send its Region and `now`; else take a manual snapshot.",
            )
        flags = manual_flags(policy)
        products = [
            Kind.SNAPSHOT,
            *([Kind.BACKUP] if policy.repository else []),
            *([Kind.REPLICA] if policy.replication else []),
        ]
        return Slot(_between_slots(now), dict.fromkeys(products, flags))
    if isinstance(policy, SlaPolicy):
        return _sla_slot(configuration, policy, request, now)
    if request.scheduled_at is None:
        raise ConfigurationError(
            "The event has neither scheduled_at nor manual.",
            resource=policy.name,
            remedy='Send {"policy": "<name>", "manual": true} to run a policy now.',
        )
    return slot_for(policy, request.scheduled_at)


def _between_slots(now: datetime) -> datetime:
    """The instant of a run that a person asked for: never one at which a schedule may be due.

    Sessions are named by policy and instant, and the schedule's own must not find its name taken.
    """
    at = now.astimezone(UTC).replace(microsecond=0)
    return at if at.second else at.replace(second=1)


def _sla_slot(
    configuration: Configuration, policy: SlaPolicy, request: StartSession, now: datetime
) -> Slot | None:
    """The slot of an SLA template; the snapshot of a backup that starts on its own is temporary."""
    if request.region not in policy.regions:
        raise ConfigurationError(
            f"The policy does not protect the Region {request.region!r}.",
            resource=policy.name,
            remedy="Name one of its Regions, or deploy the schedules of this configuration.",
        )
    template, zone = template_of(configuration, policy), region_zone(configuration, request.region)
    if request.now:
        found = slot_now(template, zone, _between_slots(now))
    elif request.scheduled_at is not None:
        found = sla_slot_for(template, zone, request.scheduled_at)
    else:
        raise ConfigurationError(
            "The event has neither scheduled_at nor now.",
            resource=policy.name,
            remedy='Send {"policy": "<name>", "region": "<Region>", "now": true} inside an open window.',
        )
    if found is None:
        return None
    made = set(found.products)
    if template.replicas and Kind.SNAPSHOT in made:
        made.add(Kind.REPLICA)
    return Slot(
        found.at,
        dict.fromkeys(made, frozenset()),
        frozenset() if Kind.SNAPSHOT in made else frozenset({Kind.SNAPSHOT}),
    )


def _note(policy: AnyPolicy, step: Step, slot: Slot, services: Services) -> None:
    """Tell the day of an SLA-based policy of this session, before it begins: the ledger waits for it."""
    if not isinstance(policy, SlaPolicy):
        return
    (region,) = step.only_regions
    template = template_of(services.configuration, policy)
    zone = region_zone(services.configuration, region)
    kinds = {Kind.SNAPSHOT, Kind.BACKUP} & set(slot.products)
    days = {kind: day for kind in kinds if (day := window_day(template, kind, slot.at, zone))}
    note_session(policy.name, step.session_id, region, slot.at, days, services)


def _reason_not_to_run(
    policy: AnyPolicy, request: StartSession, slot: Slot | None, services: Services
) -> str:
    """Why this event starts nothing; empty when it should. A person may run a disabled policy."""
    if request.now and slot is None:
        return f"No window of the policy is open in {request.region}, or nothing is due in it today."
    if request.manual or request.now:
        return ""
    if not policy.enabled:
        return "The policy is disabled in the configuration."
    if services.catalog.is_switched_off(policy.name):
        return "An operator switched the policy's automatic runs off."
    if slot is None:
        return f"No schedule of the policy selects {request.scheduled_at:%Y-%m-%d %H:%M %Z}."
    return ""
