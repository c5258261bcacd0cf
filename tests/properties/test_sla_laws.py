"""SLA windows against a clock that is watched minute by minute, and the laws of flags and ratings."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from zoneinfo import ZoneInfo

from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.model.configuration import SlaTemplate
from holdfast.model.restore_point import Flag, Kind
from holdfast.model.sla import Cadences
from holdfast.planning.compliance import Share, Status, credited, label, percent, policy_ratio, status
from holdfast.planning.sla import earned_flags, expected, is_open, sla_slots

MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)
JUMPS = st.sampled_from(
    [
        ("Australia/Sydney", date(2026, 10, 4)),
        ("Europe/Berlin", date(2026, 10, 25)),
        ("America/New_York", date(2026, 11, 1)),
        ("Europe/Berlin", date(2026, 3, 29)),
        ("Australia/Lord_Howe", date(2026, 10, 4)),
        ("Asia/Kolkata", date(2026, 1, 15)),
    ]
)
TIMES = st.builds("{:02}:{:02}".format, st.integers(0, 23), st.sampled_from([0, 5, 30]))
INTERVALS = st.sampled_from([15, 45, 60, 120, 180, 720, 1440])


@st.composite
def situations(draw: st.DrawFn) -> tuple[SlaTemplate, ZoneInfo, datetime]:
    """A template with two windows of its own, and an instant shortly before the clock jumps."""
    zone, jump = draw(JUMPS)
    made = {
        "name": "t",
        "snapshots": {"daily": {"minutes": draw(INTERVALS)}},
        "backups": {"daily": {"minutes": draw(INTERVALS)}},
        "snapshot_window": {"start": draw(TIMES), "end": draw(TIMES)},
        "backup_window": {"start": draw(TIMES), "end": draw(TIMES)},
    }
    start = datetime(jump.year, jump.month, jump.day, tzinfo=UTC) - DAY
    return SlaTemplate.model_validate(made), ZoneInfo(zone), start


def is_due(window: object, interval: int, wall: datetime) -> bool:
    """Whether a wall-clock minute is a run: counted from the window's start, before its end."""
    opens = wall.replace(hour=int(window.start[:2]), minute=int(window.start[3:]))
    if opens > wall:
        opens -= DAY
    closes = opens.replace(hour=int(window.end[:2]), minute=int(window.end[3:]))
    if closes <= opens:
        closes += DAY
    return wall < closes and (wall - opens) // MINUTE % interval == 0


def walked(made: SlaTemplate, zone: ZoneInfo, start: datetime, end: datetime) -> dict[datetime, set[Kind]]:
    found: dict[datetime, set[Kind]] = {}
    now = start
    while now < end:
        local = now.astimezone(zone)
        wall = local.replace(tzinfo=None, fold=0)
        before = (now - MINUTE).astimezone(zone).replace(tzinfo=None, fold=0)
        passed = [before + MINUTE * (number + 1) for number in range((wall - before) // MINUTE)]
        for minute in passed if not local.fold else ():
            if is_due(made.snapshot_window, made.snapshots.daily.interval, minute):
                found.setdefault(now, set()).add(Kind.SNAPSHOT)
            if is_due(made.backup_window, made.backups.daily.interval, minute):
                found.setdefault(now, set()).add(Kind.BACKUP)
        now += MINUTE
    return found


@given(situations())
@settings(max_examples=40)
def test_slots_are_those_of_a_clock_that_is_watched_minute_by_minute(situation):
    made, zone, start = situation
    found = {slot.at: set(slot.products) for slot in sla_slots(made, zone, start, start + 2 * DAY)}
    assert found == walked(made, zone, start, start + 2 * DAY)


@given(situations())
@settings(max_examples=40)
def test_a_slot_lies_in_a_window_that_is_open(situation):
    made, zone, start = situation
    for slot in sla_slots(made, zone, start, start + 2 * DAY):
        windows = [
            window
            for kind, window in ((Kind.SNAPSHOT, made.snapshot_window), (Kind.BACKUP, made.backup_window))
            if kind in slot.products
        ]
        assert all(is_open(window, zone, slot.at) is not None for window in windows)


@given(situations(), st.integers(0, 48 * 60))
@settings(max_examples=60)
def test_what_is_credited_and_what_remains_add_up_to_what_is_expected(situation, minutes):
    made, zone, start = situation
    due = expected(made, Kind.BACKUP, (start + DAY).date(), zone)
    joined_at = start + MINUTE * minutes
    assert credited(due, joined_at) + sum(at >= joined_at for at in due) == len(due)
    assert credited(due, None) == 0


WEEKLY = st.one_of(
    st.none(), st.builds(lambda days: {"days": days}, st.sets(st.sampled_from(["mon", "thu"])))
)
MONTHLY = st.one_of(st.none(), st.just({"run_on": {"ordinal": "first", "weekday": "thu"}}))


@given(WEEKLY, MONTHLY, st.lists(st.booleans(), max_size=6), st.integers(0, 27))
@settings(max_examples=100)
def test_a_day_earns_each_longer_flag_at_most_once_and_the_daily_one_always(
    weekly, monthly, attempts, number
):
    cadences = Cadences.model_validate({"daily": {"hours": 1}, "weekly": weekly, "monthly": monthly})
    day = date(2026, 10, 1) + DAY * number
    taken: set[Flag] = set()
    given_out = []
    for succeeded in attempts:
        if succeeded:
            flags = earned_flags(cadences, day, taken)
            taken |= flags
            given_out.append(flags)
    for flag in (Flag.WEEKLY, Flag.MONTHLY):
        assert sum(flag in flags for flags in given_out) <= 1
        assert all(flag not in flags for flags in given_out[1:])
    assert all(Flag.DAILY in flags for flags in given_out)


SHARES = st.builds(
    Share,
    st.just("i"),
    st.integers(0, 24),
    st.integers(0, 30),
    st.integers(0, 24),
    st.booleans(),
)
TARGETS = st.integers(1, 1000).map(lambda thousandths: Fraction(thousandths, 1000))


@given(st.lists(SHARES, max_size=8), TARGETS)
@settings(max_examples=150)
def test_a_policy_meets_its_target_exactly_when_the_mean_of_its_instances_does(shares, target):
    rated = [share for share in shares if not share.removed]
    ratio = policy_ratio(shares)
    if not rated:
        assert ratio is None
        return
    assert 0 <= ratio <= 1
    assert (status(ratio, target) is Status.MET) == (
        sum(share.ratio for share in rated) >= target * len(rated)
    )
    assert Fraction(percent(ratio)) / 100 <= ratio
    for share in rated:
        assert label(share, target).startswith("Met" if share.ratio >= target else "Missed")
