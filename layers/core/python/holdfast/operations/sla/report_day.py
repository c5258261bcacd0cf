"""Tells how a closed day of an SLA-based policy went: now, or at the time that the policy names.

That a day was told is written down after it was: a repeat tells it at most once more, never not at all.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from holdfast.errors import NotFoundError
from holdfast.model.configuration import SlaPolicy
from holdfast.model.session import Outcome, Problem, Session
from holdfast.model.settable import minutes
from holdfast.model.wall_clock import instant
from holdfast.operations.reports.telling import Message, tell
from holdfast.operations.services import Services
from holdfast.operations.sla.close_day import CloseDay, instant_text
from holdfast.operations.sla.day_report import (
    DayReport,
    build_day_report,
    day_document,
    day_subject,
    render_day,
)
from holdfast.operations.sla.sla_records import expires_from, owner_of, pages, read_day
from holdfast.planning.attempts import is_told, mailings

log = logging.getLogger(__name__)


class ReportDay(CloseDay):
    """A policy and a day that is closed."""


def report_day(request: ReportDay, services: Services) -> dict[str, Any]:
    """Tell the day, or say until when to wait. Raises NotFoundError for a day that is not closed."""
    policy = services.configuration.policy(request.policy)
    now, part = services.clock.now(), f"report/{request.day}"
    is_told_before = services.catalog.read_part(owner_of(request.policy), part) is not None
    if is_told_before or not isinstance(policy, SlaPolicy):  # It may be gone since the day was closed.
        return {"ready": True, "wait_until": instant_text(now), "told": False}
    due_at = _due_at(request, policy, services)
    if now < due_at:
        return {"ready": False, "wait_until": instant_text(due_at), "told": False}
    report = _report(request, services)
    wanted = not policy.report.only_missed or report.is_missed or bool(report.removed)
    problems = _tell(policy, report, services) if wanted else []
    services.catalog.write_part(
        owner_of(policy.name),
        part,
        {
            "told_at": now.isoformat(),
            "told": wanted,
            "problems": [problem.model_dump(mode="json") for problem in problems],
        },
        at=expires_from(request.day),
    )
    return {"ready": True, "wait_until": instant_text(now), "told": wanted}


def _due_at(request: ReportDay, policy: SlaPolicy, services: Services) -> datetime:
    """When the report is sent: at once, or on the day after at a time in the service's zone."""
    now = services.clock.now()
    if not policy.report.send_at:
        return now
    zone = ZoneInfo(services.configuration.service_time_zone)
    return max(now, instant(request.day + timedelta(days=1), minutes(policy.report.send_at), zone))


def _report(request: ReportDay, services: Services) -> DayReport:
    record = read_day(request.policy, request.day, services.catalog)
    if record is None:
        raise NotFoundError(
            "The day has no ledger.", resource=request.policy, remedy="Close it first: run close_day."
        )
    return build_day_report(
        request.policy,
        request.day,
        list(pages(request.policy, services.catalog, f"{request.day}/")),
        list(_sessions(record.sessions, services)),
        len(record.unfinished),
    )


def _sessions(session_ids: tuple[str, ...], services: Services) -> Iterator[tuple[Session, list[Outcome]]]:
    """The day's sessions with their outcomes; a record that expired meanwhile is left out."""
    for session_id in session_ids:
        try:
            session = services.catalog.read_session(session_id)
        except NotFoundError:
            continue
        parts = services.catalog.parts(session_id, "outcome/")
        yield session, [Outcome.model_validate(body["outcome"]) for _, body in parts]


def _tell(policy: SlaPolicy, report: DayReport, services: Services) -> list[Problem]:
    message = Message(
        day_subject(report),
        render_day(report, html=False),
        render_day(report, html=True),
        day_document(report),
    )
    problems: list[Problem] = []
    everywhere, own_topic = services.configuration.notifications, services.settings.topic_arn
    for mailing in mailings(policy.notifications, everywhere, own_topic):
        if is_told(mailing, report.state, last=True):
            problems += tell(mailing, message, services)
    return problems
