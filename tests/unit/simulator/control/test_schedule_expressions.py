"""When schedules are due, as EventBridge Scheduler decides it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from simulator import cron

START = datetime(2026, 1, 1, tzinfo=UTC)


def due(
    expression: str, count: int, *, zone: str = "UTC", after: datetime = START, **limits: datetime
) -> list[str]:
    """The first instants of a schedule, in UTC."""
    found: list[str] = []
    at = after
    while len(found) < count:
        following = cron.next_after(
            expression, zone, at, created=after, start=limits.get("start"), end=limits.get("end")
        )
        if following is None:
            break
        found.append(following.strftime("%Y-%m-%dT%H:%M"))
        at = following
    return found


@pytest.mark.parametrize(
    "expression, expected",
    [
        ("cron(30 2 * * ? *)", ["2026-01-01T02:30", "2026-01-02T02:30"]),
        ("cron(0/20 7 * * ? *)", ["2026-01-01T07:00", "2026-01-01T07:20"]),
        ("cron(0 7,13 ? * MON-FRI *)", ["2026-01-01T07:00", "2026-01-01T13:00"]),
        ("cron(0 1 ? * SAT *)", ["2026-01-03T01:00", "2026-01-10T01:00"]),
        ("cron(0 1 ? * FRI-SUN *)", ["2026-01-02T01:00", "2026-01-03T01:00"]),
        ("cron(0 1 ? * 3#2 *)", ["2026-01-13T01:00", "2026-02-10T01:00"]),
        ("cron(0 1 ? * 6L *)", ["2026-01-30T01:00", "2026-02-27T01:00"]),
        ("cron(0 1 L * ? *)", ["2026-01-31T01:00", "2026-02-28T01:00"]),
        ("cron(0 1 15W * ? *)", ["2026-01-15T01:00", "2026-02-16T01:00"]),
        ("cron(0 1 1 1,7 ? *)", ["2026-01-01T01:00", "2026-07-01T01:00"]),
        ("cron(0 1 29 2 ? *)", ["2028-02-29T01:00", "2032-02-29T01:00"]),
        ("cron(0 1 1 1 ? 2027)", ["2027-01-01T01:00"]),
        ("rate(6 hours)", ["2026-01-01T06:00", "2026-01-01T12:00"]),
        ("rate(1 day)", ["2026-01-02T00:00", "2026-01-03T00:00"]),
        ("at(2026-03-04T05:06:00)", ["2026-03-04T05:06"]),
    ],
)
def test_a_schedule_is_due_when_its_expression_says(expression, expected):
    assert due(expression, 2) == expected


def test_spring_skips_a_local_time_that_does_not_exist():
    days = due("cron(30 2 * * ? *)", 3, zone="Europe/Berlin", after=datetime(2026, 3, 28, 0, 0, tzinfo=UTC))
    assert days == ["2026-03-28T01:30", "2026-03-30T00:30", "2026-03-31T00:30"]


def test_autumn_runs_a_repeated_local_time_once():
    days = due("cron(30 2 * * ? *)", 3, zone="Europe/Berlin", after=datetime(2026, 10, 24, 12, 0, tzinfo=UTC))
    assert days == ["2026-10-25T00:30", "2026-10-26T01:30", "2026-10-27T01:30"]


def test_an_hourly_schedule_never_runs_twice_for_one_local_hour():
    hours = due(
        "cron(0 * * * ? *)", 30, zone="Europe/Berlin", after=datetime(2026, 10, 24, 20, 0, tzinfo=UTC)
    )
    assert len(set(hours)) == 30
    gaps = [datetime.fromisoformat(later) - datetime.fromisoformat(first) for first, later in pairwise(hours)]
    assert sorted(set(gaps)) == [timedelta(hours=1), timedelta(hours=2)]


def test_start_and_end_bound_a_schedule():
    inside = due(
        "cron(0 0 * * ? *)",
        5,
        start=datetime(2026, 2, 1, tzinfo=UTC),
        end=datetime(2026, 2, 2, tzinfo=UTC),
    )
    assert inside == ["2026-02-01T00:00", "2026-02-02T00:00"]
    assert due("rate(1 hour)", 2, start=datetime(2026, 2, 1, tzinfo=UTC)) == [
        "2026-02-01T00:00",
        "2026-02-01T01:00",
    ]


@pytest.mark.parametrize(
    "expression",
    [
        "cron(0 0 * * * *)",
        "cron(0 0 ? * ? *)",
        "cron(0 0 * * ?)",
        "cron(60 0 * * ? *)",
        "cron(0 0 ? * FUNDAY *)",
        "rate(0 days)",
        "rate(5 weeks)",
        "every day",
        "at(tomorrow)",
    ],
)
def test_what_the_service_refuses_is_refused(expression):
    with pytest.raises(ValueError):
        cron.parse(expression)
