"""What follows an attempt of a session: retry, notification, health check.

Only scheduled sessions retry, and only what failed; with suppression the one message tells the last attempt.
Source: policies.md 2 (retry), 7, 8; vector SEL-2.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date, timedelta
from typing import Final

from holdfast.model.configuration import HealthCheck, Mailing
from holdfast.model.firings import days_of_month
from holdfast.model.session import State

RETRY_AFTER: Final = timedelta(seconds=60)


def to_retry(
    outcomes: Mapping[str, State],
    attempt: int,
    retries: int,
    *,
    manual: bool = False,
    stopped: bool = False,
) -> tuple[str, ...]:
    """Instances, or Regions, for the next attempt, sorted; none after the last retry, or once stopped.

    ``attempt`` counts from 0.
    """
    if manual or stopped or attempt >= retries:
        return ()
    return tuple(sorted(name for name, state in outcomes.items() if state is State.FAILED))


def is_told(mailing: Mailing, state: State, *, last: bool) -> bool:
    """Whether the result of an attempt is sent. ``last``: no attempt follows."""
    if mailing.last_retry_only and not last:
        return False
    if state is State.SUCCESS:
        return mailing.on_success
    if state is State.WARNING:
        return mailing.on_warning
    return mailing.on_failure


def recipients(policy: Mailing | None, everywhere: Mailing) -> tuple[tuple[str, Mailing], ...]:
    """Who gets one mail by which settings.

    An address in both gets the policy's, whatever the case of its letters.
    """
    found: dict[str, tuple[str, Mailing]] = {}
    for mailing in (policy, everywhere) if policy else (everywhere,):
        for address in mailing.recipients:
            found.setdefault(address.casefold(), (address, mailing))
    return tuple(found.values())


def mailings(policy: Mailing | None, everywhere: Mailing, own_topic: str = "") -> tuple[Mailing, ...]:
    """By which settings a result is told, and to whom by each: the policy's win for whoever is in both.

    ``own_topic`` is told where the global settings name no topic.
    """
    general = everywhere.model_copy(update={"topic_arn": everywhere.topic_arn or own_topic})
    if policy is None:
        return (general,)
    left = tuple(address for address, mailing in recipients(policy, general) if mailing is general)
    topic = "" if general.topic_arn == policy.topic_arn else general.topic_arn
    return (
        policy.model_copy(update={"sender": policy.sender or general.sender}),
        general.model_copy(update={"recipients": left, "topic_arn": topic}),
    )


def health_check_due(
    check: HealthCheck | None, on: date, checked: Iterable[date], state: State, *, last: bool
) -> bool:
    """Whether a health check follows this attempt of a session on the local date ``on``.

    It runs once on its day: after the first attempt that succeeds, or after the last retry.
    """
    if check is None or on in set(checked) or not days_of_month(check.run_on, check.months).match(on):
        return False
    return last or state in (State.SUCCESS, State.WARNING)
