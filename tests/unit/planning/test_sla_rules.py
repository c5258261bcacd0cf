"""Windows, flags and ratings of SLA-based policies."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from zoneinfo import ZoneInfo

import pytest

from holdfast.errors import ConfigurationError
from holdfast.model.configuration import SlaTemplate
from holdfast.model.restore_point import Flag, Kind
from holdfast.model.schedules import Keep
from holdfast.model.sla import Cadences, SlaArchives, Window
from holdfast.model.windows import never_pauses
from holdfast.planning.compliance import (
    LedgerEntry,
    Share,
    Status,
    credited,
    joined,
    label,
    percent,
    period_of,
    policy_ratio,
    rerated,
    status,
    target_of,
)
from holdfast.planning.sla import (
    archive_due,
    day_of_slot,
    earned_flags,
    expected,
    is_open,
    published_at,
    region_zone,
    sla_rule,
    sla_slots,
)
from tests.vectors.policies import configuration

BERLIN, NEW_YORK, SYDNEY = (
    ZoneInfo("Europe/Berlin"),
    ZoneInfo("America/New_York"),
    ZoneInfo("Australia/Sydney"),
)
UTC_ZONE = ZoneInfo("UTC")


def template(**parts: object) -> SlaTemplate:
    return SlaTemplate.model_validate({"name": "t"} | parts)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def test_snapshots_and_backups_that_start_together_are_one_slot():
    made = template(
        snapshots={"daily": {"hours": 2}},
        backups={"daily": {"hours": 4}},
        snapshot_window={"start": "08:00", "end": "14:00"},
        backup_window={"start": "08:00", "end": "16:00"},
    )
    found = list(sla_slots(made, UTC_ZONE, at("2026-01-05"), at("2026-01-06")))
    assert [(slot.at.hour, sorted(kind.value for kind in slot.products)) for slot in found] == [
        (8, ["backup", "snapshot"]),
        (10, ["snapshot"]),
        (12, ["backup", "snapshot"]),
    ]


def test_a_slot_after_midnight_belongs_to_the_day_its_window_opened():
    made = template(snapshots={"daily": {"hours": 2}}, snapshot_window={"start": "22:00", "end": "02:00"})
    found = list(sla_slots(made, UTC_ZONE, at("2026-01-06"), at("2026-01-06T12:00")))
    assert [(slot.at.hour, slot.day) for slot in found] == [(0, date(2026, 1, 5))]


def test_a_skipped_hour_in_a_window_is_one_run_less_and_nothing_runs_twice():
    made = template(snapshots={"daily": {"hours": 1}}, snapshot_window={"start": "00:00", "end": "06:00"})
    assert len(expected(made, Kind.SNAPSHOT, date(2026, 10, 4), SYDNEY)) == 5
    assert len(expected(made, Kind.SNAPSHOT, date(2026, 10, 25), BERLIN)) == 6
    assert len(expected(made, Kind.SNAPSHOT, date(2026, 11, 1), NEW_YORK)) == 6


def test_without_a_daily_cadence_there_is_one_run_on_each_weekly_and_monthly_day():
    made = template(backups={"weekly": {"days": ["mon"]}, "monthly": {"run_on": {"day": 15}}})
    found = [slot.at.day for slot in sla_slots(made, UTC_ZONE, at("2026-01-01"), at("2026-02-01"))]
    assert found == [5, 12, 15, 19, 26]
    assert expected(made, Kind.SNAPSHOT, date(2026, 1, 5), UTC_ZONE) == ()
    assert published_at(made, [UTC_ZONE], date(2026, 1, 6)) is None


def test_each_flag_is_earned_once_a_day():
    cadences = Cadences.model_validate({"weekly": {"days": ["mon"]}, "monthly": {"run_on": {"day": 5}}})
    monday = date(2026, 1, 5)
    assert earned_flags(cadences, monday, ()) == {Flag.WEEKLY, Flag.MONTHLY}
    assert earned_flags(cadences, monday, {Flag.WEEKLY}) == {Flag.MONTHLY}
    assert earned_flags(cadences, date(2026, 1, 6), ()) == frozenset()


def test_the_month_is_archived_once_and_only_when_it_is_chosen():
    archives = SlaArchives.model_validate({"months": [3]})
    assert archive_due(archives, date(2026, 3, 2), [date(2025, 3, 1)])
    assert not archive_due(archives, date(2026, 3, 9), [date(2026, 3, 2)])
    assert not archive_due(archives, date(2026, 4, 1), [])


@pytest.mark.parametrize(
    "now, opened",
    [("21:59", None), ("22:00", date(2026, 1, 5)), ("23:00", date(2026, 1, 5))],
)
def test_a_window_is_open_from_its_start(now, opened):
    window = Window(start="22:00", end="02:00")
    assert is_open(window, UTC_ZONE, at(f"2026-01-05T{now}")) == opened


def test_a_window_is_open_until_before_its_end():
    window = Window(start="22:00", end="02:00")
    assert is_open(window, UTC_ZONE, at("2026-01-06T01:59")) == date(2026, 1, 5)
    assert is_open(window, UTC_ZONE, at("2026-01-06T02:00")) is None


def test_a_slot_that_spring_moves_to_the_end_of_its_window_belongs_to_its_day():
    made = template(
        snapshots={"daily": {"hours": 1}}, snapshot_window={"start": "01:00", "end": "03:00"}, backups=None
    )
    spring = date(2026, 10, 4)
    slots = expected(made, Kind.SNAPSHOT, spring, SYDNEY)
    assert slots[-1].astimezone(SYDNEY).hour == 3
    assert [day_of_slot(made, Kind.SNAPSHOT, slot, SYDNEY) for slot in slots] == [spring, spring]
    assert day_of_slot(made, Kind.SNAPSHOT, slots[-1] + timedelta(hours=1), SYDNEY) is None


def test_windows_around_the_world_may_never_pause():
    made = template(backups={"daily": {"hours": 1}}, backup_window={"start": "08:00", "end": "20:00"})
    tokyo = ZoneInfo("Asia/Tokyo")
    assert not never_pauses(made, [BERLIN], date(2026, 1, 5))
    assert never_pauses(made, [NEW_YORK, ZoneInfo("Asia/Singapore"), BERLIN, tokyo], date(2026, 1, 5))


def test_a_region_has_the_time_zone_of_the_table_or_of_the_operator():
    made = configuration(region_time_zones={"xx-new-1": "Asia/Tokyo", "us-east-1": "Asia/Kolkata"})
    assert region_zone(made, "eu-central-1").key == "Europe/Berlin"
    assert region_zone(made, "us-east-1").key == "Asia/Kolkata"
    assert region_zone(made, "xx-new-1").key == "Asia/Tokyo"
    with pytest.raises(ConfigurationError, match="xx-other-1"):
        region_zone(made, "xx-other-1")


def test_each_kind_ages_by_its_own_part_of_the_template():
    made = template(
        snapshots={"daily": {"hours": 1, "keep": "3 days"}, "monthly": {"keep": "1 month"}},
        backups={"weekly": {"keep": "2 years"}},
        replicas={"keep": "5 days"},
        archives={"months": [1], "keep": "9 months"},
    )
    days = {kind: sla_rule(made, kind, UTC_ZONE) for kind in Kind}
    assert days[Kind.SNAPSHOT].keep == {Flag.DAILY: keep("3 days"), Flag.MONTHLY: keep("1 month")}
    assert days[Kind.SNAPSHOT].fallback == keep("1 month")
    assert days[Kind.BACKUP].fallback == keep("2 years")
    assert set(days[Kind.REPLICA].keep.values()) == {keep("5 days")}
    assert set(days[Kind.ARCHIVE].keep.values()) == {keep("9 months")}
    nothing = template(snapshots={"daily": {"hours": 1}})
    assert sla_rule(nothing, Kind.BACKUP, UTC_ZONE).keep == {}
    assert sla_rule(nothing, Kind.ARCHIVE, UTC_ZONE).fallback is None
    assert sla_rule(nothing, Kind.REPLICA, UTC_ZONE).keep == {}


def keep(text: str) -> Keep:
    return Keep.model_validate(text)


@pytest.mark.parametrize(
    "ratio, shown", [(Fraction(29, 30), "96.6"), (Fraction(1), "100"), (Fraction(9999, 10000), "99.9")]
)
def test_a_ratio_is_shown_rounded_down(ratio, shown):
    assert percent(ratio) == shown


def test_a_missed_target_never_looks_met():
    target = target_of(97)
    share = Share("i", 1000, 969)
    assert label(share, target) == "Missed SLA (96.9%, 969/1000)"
    assert status(Fraction(96999, 100000), target) is Status.MISSED


def test_an_instance_of_which_nothing_was_expected_has_met_everything():
    assert Share("i", 0, 0).ratio == 1
    assert policy_ratio([]) is None
    assert status(None, target_of(97)) is Status.NOT_AVAILABLE


def test_a_run_at_the_very_instant_of_joining_is_the_instances_own():
    due = [at("2026-01-05T10:00"), at("2026-01-05T11:00")]
    assert credited(due, at("2026-01-05T11:00")) == 1
    assert credited(due, at("2026-01-05T11:01")) == 2


def test_rating_again_leaves_the_ledger_as_it_stood():
    entry = LedgerEntry("p", Kind.BACKUP, date(2026, 1, 5), target_of(97), (Share("i", 2, 1, credited=5),))
    again = rerated(entry, 4)
    assert (again.shares[0].expected, again.shares[0].credited) == (4, 4)
    assert entry.shares[0].expected == 2


@pytest.mark.parametrize(
    "view, period", [("day", (2027, 1, 1)), ("week", (2026, 53, 0)), ("month", (2027, 1, 0))]
)
def test_a_day_belongs_to_the_period_of_the_chart(view, period):
    assert period_of(view, date(2027, 1, 1)) == period


def test_a_period_adds_up_its_days_per_instance():
    days = [date(2026, 1, 6), date(2026, 1, 5)]
    entries = [
        LedgerEntry(
            "p", Kind.BACKUP, days[0], target_of(97), (Share("a", 4, 2), Share("b", 4, 4, removed=True))
        ),
        LedgerEntry("p", Kind.BACKUP, days[1], target_of(97), (Share("a", 4, 4), Share("b", 4, 4))),
    ]
    assert joined(entries) == (Share("a", 8, 6), Share("b", 8, 8, removed=True))


def test_slots_of_a_span_do_not_depend_on_where_it_begins():
    made = template(snapshots={"daily": {"hours": 5}}, snapshot_window={"start": "21:00", "end": "20:00"})
    whole = list(sla_slots(made, BERLIN, at("2026-03-27"), at("2026-03-31")))
    parts = [
        slot
        for day in range(4)
        for slot in sla_slots(
            made, BERLIN, at("2026-03-27") + timedelta(days=day), at("2026-03-28") + timedelta(days=day)
        )
    ]
    assert parts == whole
