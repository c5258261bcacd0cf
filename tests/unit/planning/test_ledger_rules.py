"""Who owes what on a day of an SLA-based policy."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.model.configuration import SlaTemplate
from holdfast.model.restore_point import Kind
from holdfast.planning.ledger import (
    Member,
    Presence,
    Sight,
    closed_day,
    day_closes_at,
    day_opens_at,
    due_on,
    presence,
    share,
)

WEB = Member("i-1", "111122223333", "eu-central-1")
OPENED, CLOSED = datetime(2026, 11, 23, 8, tzinfo=UTC), datetime(2026, 11, 23, 16, tzinfo=UTC)
SLOTS = [OPENED + timedelta(hours=2 * n) for n in range(4)]
SYDNEY, BERLIN, UTC_ZONE = ZoneInfo("Australia/Sydney"), ZoneInfo("Europe/Berlin"), ZoneInfo("UTC")


def sights(story: str, blind: frozenset[str] | None = frozenset({WEB.account})) -> list[Sight]:
    """``+`` seen, ``-`` not seen, ``?`` could not look, blank: no session."""
    looks = {
        "+": (frozenset({WEB.instance_id}), frozenset()),
        "-": (frozenset(), frozenset()),
        "?": (frozenset(), blind),
    }
    return [
        Sight(WEB.region, at, *looks[letter])  # type: ignore[arg-type]
        for letter, at in zip(story, SLOTS, strict=False)
        if letter != " "
    ]


def stood(
    story: str, *, known: bool = True, blind: frozenset[str] | None = frozenset({WEB.account})
) -> Presence:
    return presence(WEB, sights(story, blind), known=known, opened_at=OPENED, closed_at=CLOSED)


@pytest.mark.parametrize(
    "story, known, stays, removed, credited",
    [
        ("++++", True, True, False, 0),
        ("--++", True, True, False, 0),
        ("--++", False, True, False, 2),
        ("  ++", False, True, False, 2),
        ("??++", False, True, False, 0),
        ("????", True, True, False, 0),
        ("    ", True, True, False, 0),
        ("++--", True, False, True, 0),
        ("+---", False, False, True, 0),
        ("----", True, False, False, 0),
        ("??--", True, False, True, 0),
        ("+??-", True, False, True, 0),
        ("++??", True, True, False, 0),
        ("-+-+", True, True, False, 0),
    ],
)
def test_what_sessions_saw_decides_who_stands_in_the_scope(
    story: str, known: bool, stays: bool, removed: bool, credited: int
):
    found = stood(story, known=known)
    assert (found.stays, found.removed) == (stays, removed)
    assert share(WEB, found, SLOTS, 0).credited == credited


def test_a_region_that_nobody_could_look_at_says_nothing():
    assert stood("++??", blind=None).stays is True
    assert stood("????", blind=None).stays is True


def test_sights_of_another_region_say_nothing():
    elsewhere = [Sight("us-east-1", at, frozenset()) for at in SLOTS]
    assert presence(WEB, elsewhere, known=True, opened_at=OPENED, closed_at=CLOSED).stays is True


@given(st.text("+-? ", min_size=4, max_size=4), st.booleans())
def test_nobody_is_removed_and_stays_and_credit_never_exceeds_what_was_due(story: str, known: bool):
    found = stood(story, known=known)
    assert not (found.stays and found.removed)
    part = share(WEB, found, SLOTS, story.count("+"))
    assert part.credited + part.made <= part.expected
    if "+" not in story and "-" not in story:
        assert found.stays


def template(**parts: object) -> SlaTemplate:
    return SlaTemplate.model_validate({"name": "t", "snapshots": {"daily": {"hours": 4}}} | parts)


def due_days(made: SlaTemplate, days: Iterable[int]) -> list[int]:
    return [day for day in days if due_on(made, Kind.REPLICA, date(2026, 11, day), UTC_ZONE)]


@pytest.mark.parametrize(
    "every, snapshots, days",
    [
        ("day", {"daily": {"hours": 4}}, list(range(16, 31))),
        ("week", {"daily": {"hours": 4}}, [16, 23, 30]),
        ("week", {"weekly": {"days": ["wed", "fri"]}}, [18, 25]),
        ("day", {"weekly": {"days": ["wed", "fri"]}}, [18, 20, 25, 27]),
        ("month", {"monthly": {"run_on": {"day": 17}}}, [17]),
        ("month", {"daily": {"hours": 4}}, []),
    ],
)
def test_a_replica_is_due_with_the_first_snapshot_of_its_period(
    every: str, snapshots: dict[str, object], days: list[int]
):
    made = template(snapshots=snapshots, replicas={"every": every})
    assert due_days(made, range(16, 31)) == days
    assert all(len(due_on(made, Kind.REPLICA, date(2026, 11, day), UTC_ZONE)) == 1 for day in days)


def test_what_a_template_does_not_promise_is_not_due():
    made = template()
    assert due_on(made, Kind.REPLICA, date(2026, 11, 23), UTC_ZONE) == ()
    assert due_on(made, Kind.BACKUP, date(2026, 11, 23), UTC_ZONE) == ()
    assert due_on(made, Kind.ARCHIVE, date(2026, 11, 23), UTC_ZONE) == ()


def test_a_day_is_open_from_its_first_window_to_the_end_of_its_last():
    made = template(
        snapshot_window={"start": "20:00", "end": "22:00"},
        backups={"daily": {"hours": 4}},
        backup_window={"start": "21:00", "end": "05:00"},
    )
    day = date(2026, 11, 23)
    assert day_opens_at(made, (BERLIN,), day) == datetime(2026, 11, 23, 19, tzinfo=UTC)
    assert day_closes_at(made, (BERLIN,), day) == datetime(2026, 11, 24, 4, tzinfo=UTC)


def test_the_window_of_a_product_that_is_not_promised_does_not_count():
    made = template(snapshot_window={"start": "08:00", "end": "10:00"})
    assert day_closes_at(made, (UTC_ZONE,), date(2026, 11, 23)).hour == 10


@given(
    st.sampled_from(["08:00", "20:00", "00:00", "02:30"]),
    st.sampled_from(["18:00", "02:30", "08:00", "00:00"]),
    st.dates(date(2026, 1, 2), date(2026, 12, 30)),
    st.sampled_from([SYDNEY, BERLIN, UTC_ZONE]),
)
def test_the_event_of_a_closing_window_names_its_day_also_across_daylight_saving(
    start: str, end: str, on: date, zone: ZoneInfo
):
    made = template(snapshot_window={"start": start, "end": end})
    closes = day_closes_at(made, (zone,), on)
    assert closed_day(made, zone, closes) == on
    assert closed_day(made, zone, closes + timedelta(minutes=30)) == on
    assert closed_day(made, zone, closes - timedelta(seconds=1)) == on - timedelta(days=1)
