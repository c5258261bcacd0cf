"""The coverage ledger of a day: the whole inventory joined with what the sessions of that day made of it.

A day is recorded once and never changed. What could not be looked at is in it, with the reason; people and
programs are told what failed, which accounts are unreachable, and which are new.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

from pydantic import AwareDatetime, BaseModel, ConfigDict

from holdfast.errors import HoldfastError
from holdfast.model.configuration import Configuration
from holdfast.model.restore_point import RestorePoint
from holdfast.model.wall_clock import instant
from holdfast.operations.coverage.coverage_ledger import (
    Head,
    dated,
    key_of,
    newest_head,
    read_day,
    read_head,
    read_known,
    write_day,
    write_known,
)
from holdfast.operations.coverage.look_around import look_around
from holdfast.operations.reports.report import ascii_subject, clean
from holdfast.operations.services import OnDemandServices
from holdfast.operations.sessions.session_record import SessionRecord, read_sessions
from holdfast.operations.switches import switched
from holdfast.planning.coverage import Day, day
from holdfast.planning.selection import precedence
from holdfast.planning.standing import Judged, Record, Standing

log = logging.getLogger(__name__)

_DAY: Final = timedelta(days=1)
MOST_TOLD: Final = 200
"""Alarms that a message names; the ledger has all of them."""


class RecordCoverage(BaseModel):
    """``scheduled_at`` (the scheduler's instant): the day that ended before it is recorded.

    ``live``: today as it is now, under a name of its own, told to nobody; ``accounts`` limits a live look.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    scheduled_at: AwareDatetime | None = None
    live: bool = False
    accounts: tuple[str, ...] = ()


def record_coverage(request: RecordCoverage, services: OnDemandServices) -> dict[str, Any]:
    """Record a day, or look at this moment; ``ledger`` in the answer is the name to read it by."""
    configuration, now = switched(services), services.clock.now()
    zone = ZoneInfo(configuration.service_time_zone)
    if request.live:
        on = now.astimezone(zone).date()
        made = _made(configuration, on, instant(on, 0, zone), now, services, request.accounts)
        run = services.ids.random_bytes(6).hex()
        name = f"live-{run}"
        write_day(name, made, run, services.catalog, now, now)
        return _answer(name, made, recorded=True)
    on = (request.scheduled_at or now).astimezone(zone).date() - _DAY
    recorded = read_head(on, services.catalog) is None
    if recorded:
        end = instant(on + _DAY, 0, zone)
        made = _made(configuration, on, instant(on, 0, zone), end, services)
        run = services.ids.random_bytes(6).hex()
        at = dated(configuration, now)
        policies = [each.name for each in precedence(configuration)]
        recorded = write_day(on, made, run, services.catalog, now, at, policies)
        services.count(ledger_metrics(made), policy="")
    _, made = read_day(on, services.catalog)
    _tell(made, services)
    return _answer(str(on), made, recorded=recorded)


def _made(
    configuration: Configuration,
    on: date,
    start: datetime,
    end: datetime,
    services: OnDemandServices,
    only: Sequence[str] = (),
) -> Day:
    """The ledger of ``[start, end)``; days that no ledger was written for are judged with it."""
    catalog, now = services.catalog, services.clock.now()
    known = read_known(catalog)
    seen = look_around(services, known, only)
    head = newest_head(on, catalog)
    before: dict[str, Judged] = {}
    accounts: set[str] | None = None
    if head is not None:
        _, earlier = read_day(head.on, catalog)
        before = {line.instance_id: Judged(line.standing, line.reason) for line in earlier.lines}
        accounts = {each.account for each in earlier.accounts}
        zone = ZoneInfo(configuration.service_time_zone)
        start = min(start, instant(head.on + _DAY, 0, zone))
    sessions = read_sessions(services, start, end)
    record = Record(
        configuration,
        start,
        end,
        now,
        runs=sessions.runs,
        endings=sessions.endings,
        before=before,
        newest=lambda instance_id: _newest(catalog.points(instance_id), end),
        counts_from=_counts_from(configuration, head, sessions, end, services),
    )
    made = day(
        configuration,
        on,
        seen.everything(known),
        seen.accounts,
        judge=record.standing_of,
        unreachable=seen.closed,
        known=accounts,
        unread=seen.unread,
    )
    at = dated(configuration, now)
    write_known(seen.everyone, seen.found, seen.default_keys, known, catalog, now, at)
    return made


def _counts_from(
    configuration: Configuration,
    head: Head | None,
    sessions: SessionRecord,
    end: datetime,
    services: OnDemandServices,
) -> dict[str, datetime]:
    """From when slots count: of a new policy from its first session on, of others since they are on."""
    known = head.policies if head else ()
    new = {
        each.name: sessions.first.get(each.name, end)
        for each in precedence(configuration)
        if each.name not in known
    }
    switches = services.catalog.switches().items()
    return new | {name: said.at for name, said in switches if said.at is not None and not said.off}


def _newest(points: Iterable[RestorePoint], end: datetime) -> datetime | None:
    """When the newest restore point before ``end`` was taken that a session made."""
    return max((each.taken_at for each in points if _counts(each) and each.taken_at < end), default=None)


def _counts(point: RestorePoint) -> bool:
    return point.complete and not point.manual and not point.temporary


def ledger_metrics(made: Day) -> dict[str, float]:
    """What alarms follow. A missing value is an alarm too."""
    counts = made.counts()
    return {
        "LedgersRecorded": 1,
        "InstancesExisting": len(made.lines),
        "InstancesProtected": counts[Standing.PROTECTED],
        "InstancesUnprotected": counts[Standing.FAILED],
        "InstancesExcluded": counts[Standing.EXCLUDED],
        "InstancesNotSelected": counts[Standing.NOT_SELECTED],
        "InstancesUnreachable": counts[Standing.UNREACHABLE],
        "AccountsOutOfReach": len(made.unreachable) + len(made.unread),
        "AccountsNew": len(made.new),
    }


def _tell(made: Day, services: OnDemandServices) -> None:
    """Publish what a person should look at, once."""
    key, part = key_of(made.on), "told"
    if not made.alarms or services.catalog.read_part(key, part) is not None:
        return
    topic = services.configuration.notifications.topic_arn or services.settings.topic_arn
    counts = made.counts()
    subject = (
        f"[Coverage] {made.on}: {counts[Standing.FAILED]} failed, "
        f"{len(made.unreachable)} accounts unreachable, {len(made.new)} new"
    )
    told = [clean(text) for text in made.alarms[:MOST_TOLD]]
    hidden = len(made.alarms) - len(told)
    lines = [
        f"Coverage of {made.on}: {len(made.lines)} instances exist.",
        *(f"{count:7} {standing.value}" for standing, count in counts.items()),
        "",
        *(f"- {text}" for text in told),
        *([f"{hidden} more are in the ledger."] if hidden else []),
        "",
        f"holdfast coverage --date {made.on}",
    ]
    document = {
        "on": str(made.on),
        "instances": {standing.value: count for standing, count in counts.items()},
        "unreachable_accounts": [each.account for each in made.unreachable][:MOST_TOLD],
        "new_accounts": [each.account for each in made.new][:MOST_TOLD],
        "alarms": told,
    }
    try:
        services.notifier.publish(topic, ascii_subject(subject), "\n".join(lines), document)
    except HoldfastError as error:
        log.error("%s could not be told: %s", topic, error)
        raise
    now = services.clock.now().astimezone(UTC)
    at = dated(services.configuration, now)
    services.catalog.write_part(key, part, {"at": now.isoformat()}, at=at)


def _answer(name: str, made: Day, *, recorded: bool) -> dict[str, Any]:
    return {
        "ledger": name,
        "on": str(made.on),
        "recorded": recorded,
        "instances": {standing.value: count for standing, count in made.counts().items()},
        "unreachable_accounts": len(made.unreachable),
        "new_accounts": len(made.new),
    }
