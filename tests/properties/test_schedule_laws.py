"""Slots and expressions against models that walk through time minute by minute."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.model.configuration import SchedulePolicy
from holdfast.model.expressions import eventbridge_expressions
from holdfast.model.restore_point import Kind
from holdfast.planning.schedule import Slot, slot_for, slots
from tests.vectors.policies import policy, spelled

MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)
WEEK = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
ORDINALS = ["first", "second", "third", "fourth", "last"]

# Zones and days around which their clocks jump: whole and half hours, at midnight, on both hemispheres.
JUMPS = st.sampled_from(
    [
        ("Europe/Berlin", date(2026, 3, 29)),
        ("Europe/Berlin", date(2026, 10, 25)),
        ("America/New_York", date(2026, 11, 1)),
        ("America/New_York", date(2026, 3, 8)),
        ("Australia/Sydney", date(2026, 10, 4)),
        ("Australia/Lord_Howe", date(2026, 10, 4)),
        ("Australia/Lord_Howe", date(2026, 4, 5)),
        ("Africa/Cairo", date(2026, 4, 24)),
        ("America/Santiago", date(2026, 9, 6)),
        ("Asia/Kolkata", date(2026, 2, 28)),
        ("UTC", date(2026, 12, 31)),
    ]
)
HOURS = st.lists(st.integers(0, 23), max_size=5, unique=True)
DAYS = st.one_of(
    st.sampled_from(["every_day", "weekdays"]), st.lists(st.sampled_from(WEEK), max_size=4, unique=True)
)
TIMES = st.builds("{:02}:{:02}".format, st.integers(0, 23), st.sampled_from([0, 15, 30, 59]))
MONTHS = st.one_of(st.just("all"), st.lists(st.integers(1, 12), max_size=6, unique=True))
ON = st.one_of(
    st.builds(
        lambda ordinal, weekday: {"ordinal": ordinal, "weekday": weekday},
        st.sampled_from(ORDINALS),
        st.sampled_from(WEEK),
    ),
    st.builds(lambda day: {"day": day}, st.one_of(st.integers(1, 31), st.just("last"))),
)


@st.composite
def policies(draw: st.DrawFn, zone: str) -> SchedulePolicy:
    """Any combination of schedules, aligned or not, that makes snapshots, replicas and backups."""
    parts: dict[str, object] = {"time_zone": zone}
    if draw(st.booleans()):
        parts["daily"] = {
            "days": draw(DAYS),
            "snapshots": {"hours": draw(HOURS), "per_hour": draw(st.integers(1, 4))},
            "backups": {"hours": draw(HOURS)},
        }
    if draw(st.booleans()):
        days = st.lists(st.sampled_from(WEEK), max_size=3, unique=True)
        parts["weekly"] = {
            "time": draw(TIMES),
            "snapshots": {"days": draw(days)},
            "replicas": {"days": draw(days)},
        }
    if draw(st.booleans()):
        parts["monthly"] = {"run_on": draw(ON), "time": draw(TIMES), "backups": {"months": draw(MONTHS)}}
    if draw(st.booleans()):
        month = {"month": draw(st.integers(1, 12))}
        parts["yearly"] = {"run_on": draw(ON), "time": draw(TIMES), "backups": {}} | month
    return policy(**parts)


@st.composite
def situations(draw: st.DrawFn) -> tuple[SchedulePolicy, datetime, datetime]:
    """A policy and a span of a few days around a jump of its clock."""
    zone, jump = draw(JUMPS)
    start = datetime(jump.year, jump.month, jump.day, tzinfo=UTC) - DAY * draw(st.integers(1, 2))
    return draw(policies(zone)), start, start + DAY * draw(st.integers(2, 3))


def is_day(on: object, months: object, day: date) -> bool:
    """Whether ``day`` is the one that a ``run_on`` means, by counting through its month."""
    if months != "all" and day.month not in months:
        return False
    of_month = [
        other for number in range(31) if (other := day.replace(day=1) + DAY * number).month == day.month
    ]
    if on.day is not None:
        return day == (of_month[-1] if on.day == "last" else of_month[min(on.day, len(of_month)) - 1])
    matching = [other for other in of_month if WEEK[other.weekday()] == on.weekday]
    return day == matching[-1 if on.ordinal == "last" else ORDINALS.index(on.ordinal)]


def due(made: SchedulePolicy, wall: datetime) -> Iterator[tuple[Kind, str]]:
    """What a wall-clock minute selects, schedule by schedule."""
    weekday, time = WEEK[wall.weekday()], f"{wall:%H:%M}"
    if made.daily:
        chosen = made.daily.days
        runs = chosen == "every_day" or (weekday in WEEK[:5] if chosen == "weekdays" else weekday in chosen)
        if runs:
            every = 60 // made.daily.snapshots.per_hour
            if wall.hour in made.daily.snapshots.hours and wall.minute % every == 0:
                yield Kind.SNAPSHOT, "D"
            if wall.minute == 0 and wall.hour in made.daily.backups.hours:
                yield from ((Kind.SNAPSHOT, "D"), (Kind.BACKUP, "D"))
    if made.weekly and time == made.weekly.time:
        if weekday in made.weekly.snapshots.days:
            yield Kind.SNAPSHOT, "W"
        if weekday in made.weekly.replicas.days:
            yield from ((Kind.SNAPSHOT, "W"), (Kind.REPLICA, "W"))
    for flag, schedule in (("M", made.monthly), ("Y", made.yearly)):
        if schedule and time == schedule.time:
            months = schedule.backups.months if flag == "M" else [schedule.month]
            if is_day(schedule.run_on, months, wall.date()):
                yield Kind.BACKUP, flag
                if flag == "M":
                    yield Kind.SNAPSHOT, flag


def walked(made: SchedulePolicy, start: datetime, end: datetime) -> dict[datetime, dict[Kind, str]]:
    """The slots by walking minute by minute with the zone's clock.

    A minute of the second pass brings nothing; when the clock jumps, the first minute after the jump brings
    everything that was jumped over.
    """
    zone = ZoneInfo(made.time_zone)
    found: dict[datetime, dict[Kind, set[str]]] = {}
    now = start
    while now < end:
        local = now.astimezone(zone)
        wall = local.replace(tzinfo=None, fold=0)
        before = (now - MINUTE).astimezone(zone).replace(tzinfo=None, fold=0)
        passed = [before + MINUTE * (number + 1) for number in range(int((wall - before) / MINUTE))]
        for minute in passed if not local.fold else ():
            for kind, flag in due(made, minute):
                found.setdefault(now, {}).setdefault(kind, set()).add(flag)
        now += MINUTE
    return {
        at: {kind: "".join(sorted(flags, key="DWMY".index)) for kind, flags in kinds.items()}
        for at, kinds in found.items()
    }


def as_text(found: Iterator[Slot]) -> dict[datetime, dict[Kind, str]]:
    return {slot.at: {kind: spelled(flags) for kind, flags in slot.flags.items()} for slot in found}


@given(situations())
@settings(max_examples=30)
def test_slots_are_those_of_a_clock_that_is_watched_minute_by_minute(situation):
    made, start, end = situation
    assert as_text(slots(made, start, end)) == walked(made, start, end)


@given(situations(), st.integers(1, 4000))
@settings(max_examples=40)
def test_a_span_in_two_parts_has_the_same_slots(situation, minutes):
    made, start, end = situation
    middle = min(start + MINUTE * minutes, end)
    parts = [*slots(made, start, middle), *slots(made, middle, end)]
    assert parts == list(slots(made, start, end))


@given(situations(), st.data())
@settings(max_examples=40)
def test_removing_hours_never_adds_a_slot_or_a_flag(situation, data):
    made, start, end = situation
    if made.daily is None:
        return
    hours = (
        data.draw(st.lists(st.sampled_from(made.daily.snapshots.hours), unique=True))
        if made.daily.snapshots.hours
        else []
    )
    fewer = made.daily.snapshots.model_copy(update={"hours": tuple(hours)})
    less = made.model_copy(update={"daily": made.daily.model_copy(update={"snapshots": fewer})})
    before = as_text(slots(made, start, end))
    for at, kinds in as_text(slots(less, start, end)).items():
        for kind, flags in kinds.items():
            assert set(flags) <= set(before[at][kind])


def numbers(field: str, low: int, high: int) -> set[int]:
    return set(range(low, high + 1)) if field == "*" else {int(part) for part in field.split(",")}


def fires(cron: str, wall: datetime) -> bool:
    """Whether an expression of EventBridge Scheduler selects a wall-clock minute (Sunday is 1)."""
    minute, hour, day, month, weekday, year = re.fullmatch(r"cron\((.*)\)", cron).group(1).split()
    assert year == "*"
    assert (day == "?") != (weekday == "?")
    if wall.minute not in numbers(minute, 0, 59) or wall.hour not in numbers(hour, 0, 23):
        return False
    if wall.month not in numbers(month, 1, 12):
        return False
    last = (wall + DAY).month != wall.month
    if weekday == "?":
        return last if day == "L" else wall.day in numbers(day, 1, 31)
    number = wall.isoweekday() % 7 + 1
    if "#" in weekday:
        which, nth = map(int, weekday.split("#"))
        return number == which and (wall.day - 1) // 7 + 1 == nth
    if weekday.endswith("L"):
        return number == int(weekday[:-1]) and (wall + 7 * DAY).month != wall.month
    names = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"]
    return number in {names.index(name) + 1 for name in weekday.split(",")}


@given(situations(), st.booleans())
@settings(max_examples=25)
def test_the_scheduler_fires_for_every_slot_and_for_nothing_else(situation, second_pass):
    """The service skips times that do not exist, and fires once in a doubled hour, in either pass."""
    made, start, end = situation
    expressions = eventbridge_expressions(made)
    meant: set[datetime] = set()
    now = start
    while now < end:
        for expression in expressions:
            local = now.astimezone(ZoneInfo(expression.time_zone))
            doubled = local.replace(fold=0).utcoffset() != local.replace(fold=1).utcoffset()
            if doubled and local.fold != second_pass:
                continue
            if fires(expression.cron, local.replace(tzinfo=None)):
                slot = slot_for(made, now)
                if slot is not None:
                    meant.add(slot.at)
                else:
                    assert expression.catch_up or " L " in expression.cron
        now += MINUTE
    wanted = {slot.at for slot in slots(made, start, end)}
    late = {at for at in wanted if end - at <= timedelta(hours=2)} if second_pass else set()
    assert meant >= wanted - late
    assert {at for at in meant if at >= start} <= wanted
