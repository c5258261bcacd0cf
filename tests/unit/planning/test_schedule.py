"""Slots of schedule-based policies."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from holdfast.model.expressions import Expression, eventbridge_expressions
from holdfast.model.restore_point import Flag, Kind
from holdfast.planning.schedule import manual_flags, next_slots, retention_pass, slot_for, slots
from tests.vectors.policies import policy, spelled


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def times(made, start: str, end: str) -> list[str]:
    return [f"{slot.at:%m-%dT%H:%M}" for slot in slots(made, at(start), at(end))]


def test_a_policy_without_schedules_has_no_slots_and_no_expressions():
    made = policy()
    assert list(slots(made, at("2026-01-01"), at("2026-02-01"))) == []
    assert eventbridge_expressions(made) == ()
    assert manual_flags(made) == frozenset()


def test_the_start_of_the_span_is_included_and_its_end_is_not():
    made = policy(daily={"snapshots": {"hours": [7]}})
    assert times(made, "2026-01-05T07:00", "2026-01-06T07:00") == ["01-05T07:00"]


def test_hours_are_those_of_the_time_zone():
    made = policy(time_zone="Asia/Kolkata", daily={"snapshots": {"hours": [0]}})
    assert times(made, "2026-01-05", "2026-01-06") == ["01-05T18:30"]


def test_snapshots_in_an_hour_are_evenly_spaced_and_only_the_first_is_backed_up():
    made = policy(daily={"snapshots": {"hours": [7], "per_hour": 3}, "backups": {"hours": [7]}})
    found = list(slots(made, at("2026-01-05"), at("2026-01-06")))
    assert [f"{slot.at:%H:%M}" for slot in found] == ["07:00", "07:20", "07:40"]
    assert [Kind.BACKUP in slot.products for slot in found] == [True, False, False]


@pytest.mark.parametrize(
    "days, expected",
    [("every_day", [5, 6, 7, 8, 9, 10, 11]), ("weekdays", [5, 6, 7, 8, 9]), (["sat", "tue"], [6, 10])],
)
def test_daily_runs_on_the_chosen_days_alone(days, expected):
    made = policy(daily={"days": days, "snapshots": {"hours": [7]}})
    assert [slot.at.day for slot in slots(made, at("2026-01-05"), at("2026-01-12"))] == expected


def test_a_skipped_time_runs_at_the_first_valid_instant_after_the_gap():
    made = policy(time_zone="Europe/Berlin", daily={"snapshots": {"hours": [2], "per_hour": 2}})
    found = list(slots(made, at("2026-03-28T12:00"), at("2026-03-29T12:00")))
    assert [slot.at for slot in found] == [at("2026-03-29T01:00")]


def test_a_skipped_time_joins_the_slot_that_is_already_there():
    made = policy(time_zone="Europe/Berlin", daily={"snapshots": {"hours": [3]}, "backups": {"hours": [2]}})
    (slot,) = slots(made, at("2026-03-28T12:00"), at("2026-03-29T12:00"))
    assert slot.at == at("2026-03-29T01:00")
    assert slot.products == {Kind.SNAPSHOT, Kind.BACKUP}


def test_a_doubled_time_runs_once_and_first():
    made = policy(time_zone="Europe/Berlin", daily={"snapshots": {"hours": [2]}})
    assert times(made, "2026-10-24T12:00", "2026-10-25T12:00") == ["10-25T00:00"]


def test_a_gap_of_half_an_hour_ends_where_the_clock_is_valid_again():
    made = policy(time_zone="Australia/Lord_Howe", daily={"snapshots": {"hours": [2]}})
    (slot,) = slots(made, at("2026-10-03T12:00"), at("2026-10-04T12:00"))
    assert f"{slot.at.astimezone(ZoneInfo('Australia/Lord_Howe')):%d %H:%M}" == "04 02:30"


def test_a_whole_day_that_a_zone_skips_runs_when_the_next_one_begins():
    made = policy(time_zone="Pacific/Apia", daily={"snapshots": {"hours": [8]}})
    assert times(made, "2011-12-29T12:00", "2011-12-31T12:00") == [
        "12-29T18:00",
        "12-30T10:00",
        "12-30T18:00",
    ]


@pytest.mark.parametrize(
    "run_on, expected",
    [
        ({"ordinal": "second", "weekday": "tue"}, ["01-13", "02-10", "03-10"]),
        ({"ordinal": "fourth", "weekday": "fri"}, ["01-23", "02-27", "03-27"]),
        ({"ordinal": "third", "weekday": "sat"}, ["01-17", "02-21", "03-21"]),
        ({"ordinal": "last", "weekday": "sat"}, ["01-31", "02-28", "03-28"]),
        ({"day": 15}, ["01-15", "02-15", "03-15"]),
        ({"day": 31}, ["01-31", "02-28", "03-31"]),
        ({"day": "last"}, ["01-31", "02-28", "03-31"]),
    ],
)
def test_monthly_runs_on_the_named_day_of_every_month(run_on, expected):
    made = policy(monthly={"run_on": run_on, "time": "07:30", "snapshots": {"months": "all"}})
    found = list(slots(made, at("2026-01-01"), at("2026-04-01")))
    assert [f"{slot.at:%m-%d}" for slot in found] == expected
    assert {f"{slot.at:%H:%M}" for slot in found} == {"07:30"}


def test_yearly_and_monthly_without_a_time_follow_the_weekly_one():
    made = policy(
        weekly={"time": "05:30", "snapshots": {"days": ["mon"]}},
        monthly={"backups": {"months": [1]}},
        yearly={"backups": {}},
    )
    slot = next(slots(made, at("2026-01-01"), at("2026-02-01")))
    assert f"{slot.at:%d %H:%M}" == "05 05:30"
    assert spelled(slot.flags_of(Kind.SNAPSHOT)) == "WM"
    assert not slot.temporary
    assert spelled(slot.flags_of(Kind.BACKUP)) == "MY"
    assert slot.flags_of(Kind.ARCHIVE) == frozenset()


def test_a_yearly_backup_that_stands_alone_has_a_snapshot_without_a_flag():
    made = policy(yearly={"run_on": {"day": 9}, "time": "05:00", "backups": {}}, repository="standard")
    (slot,) = next_slots(made, at("2026-01-01"), 1)
    assert (slot.products, slot.temporary) == ({Kind.SNAPSHOT, Kind.BACKUP}, {Kind.SNAPSHOT})
    assert slot.flags_of(Kind.SNAPSHOT) == frozenset()
    assert eventbridge_expressions(made) == (Expression("cron(0 5 9 1 ? *)", "UTC"),)


def test_a_schedule_that_is_switched_off_selects_nothing():
    made = policy(daily={"enabled": False, "snapshots": {"hours": [7]}})
    assert next_slots(made, at("2026-01-01"), 1) == ()


def test_an_archive_on_a_day_of_the_month_rides_with_the_next_backup_of_that_day():
    made = policy(
        daily={"backups": {"hours": [6, 12, 18]}},
        monthly={"run_on": {"day": 15}, "time": "09:00", "archive": {"months": "all"}},
    )
    found = {f"{slot.at:%H:%M}": slot for slot in slots(made, at("2026-01-15"), at("2026-01-16"))}
    assert list(found) == ["06:00", "12:00", "18:00"]
    assert [time for time, slot in found.items() if Kind.ARCHIVE in slot.flags] == ["12:00"]
    assert all(not slot.temporary for slot in found.values())


def test_an_archive_after_the_last_backup_of_its_day_rides_with_that_one():
    made = policy(
        daily={"backups": {"hours": [6]}},
        monthly={"run_on": {"day": 15}, "time": "09:00", "archive": {"months": "all"}},
    )
    (slot,) = slots(made, at("2026-01-15"), at("2026-01-16"))
    assert f"{slot.at:%H:%M}" == "06:00"
    assert spelled(slot.flags_of(Kind.ARCHIVE)) == "M"


def test_a_temporary_backup_uses_the_snapshot_that_is_due_anyway():
    made = policy(
        daily={"snapshots": {"hours": [9]}},
        monthly={"run_on": {"day": 15}, "time": "09:00", "archive": {"months": "all"}},
    )
    (slot,) = slots(made, at("2026-01-15"), at("2026-01-16"))
    assert slot.temporary == {Kind.BACKUP}


def test_an_event_means_the_slot_of_its_minute():
    made = policy(daily={"snapshots": {"hours": [7]}})
    slot = slot_for(made, at("2026-01-05T07:00:41"))
    assert slot is not None
    assert slot.at == at("2026-01-05T07:00")
    assert slot_for(made, at("2026-01-05T07:01")) is None


def test_an_event_in_the_second_pass_of_a_doubled_hour_means_the_slot_of_the_first():
    made = policy(time_zone="Europe/Berlin", daily={"snapshots": {"hours": [2]}})
    for time in ("2026-10-25T00:00", "2026-10-25T01:00"):
        slot = slot_for(made, at(time))
        assert slot is not None
        assert slot.at == at("2026-10-25T00:00")


def test_the_next_slots_are_those_after_the_given_instant():
    made = policy(daily={"snapshots": {"hours": [7]}})
    assert [slot.at.day for slot in next_slots(made, at("2026-01-05T07:00"), 2)] == [6, 7]


def test_expressions_group_hours_and_leave_out_what_is_already_covered():
    made = policy(
        daily={"days": "weekdays", "snapshots": {"hours": [7, 19]}, "backups": {"hours": [7]}},
        weekly={"time": "07:00", "snapshots": {"days": ["mon"]}},
        monthly={"run_on": {"ordinal": "first", "weekday": "mon"}, "backups": {"months": [1, 7]}},
    )
    assert eventbridge_expressions(made) == (Expression("cron(0 7,19 ? * MON,TUE,WED,THU,FRI *)", "UTC"),)


def test_a_wider_schedule_replaces_the_narrower_one_that_came_first():
    made = policy(
        daily={"days": ["mon"], "snapshots": {"hours": [7]}},
        weekly={"time": "07:00", "snapshots": {"days": ["mon", "tue"]}},
    )
    assert eventbridge_expressions(made) == (Expression("cron(0 7 ? * MON,TUE *)", "UTC"),)


@pytest.mark.parametrize(
    "run_on, crons",
    [
        ({"ordinal": "third", "weekday": "sun"}, ["cron(30 6 ? 2 1#3 *)"]),
        ({"ordinal": "last", "weekday": "fri"}, ["cron(30 6 ? 2 6L *)"]),
        ({"day": 9}, ["cron(30 6 9 2 ? *)"]),
        ({"day": 30}, ["cron(30 6 30 2 ? *)", "cron(30 6 L 2 ? *)"]),
        ({"day": "last"}, ["cron(30 6 L 2 ? *)"]),
    ],
)
def test_days_of_a_month_are_spelled_as_the_scheduler_reads_them(run_on, crons):
    made = policy(monthly={"run_on": run_on, "time": "06:30", "snapshots": {"months": [2]}})
    assert [expression.cron for expression in eventbridge_expressions(made)] == crons


def test_every_hour_is_a_star():
    made = policy(daily={"snapshots": {"hours": list(range(24)), "per_hour": 2}})
    assert [e.cron for e in eventbridge_expressions(made)] == ["cron(0 * * * ? *)", "cron(30 * * * ? *)"]


def test_a_time_that_daylight_saving_skips_has_a_catch_up_expression():
    made = policy(time_zone="Europe/Berlin", daily={"snapshots": {"hours": [2]}})
    (_, catch_up) = eventbridge_expressions(made)
    assert catch_up == Expression("cron(0 3 ? 3 SUN *)", "Europe/Berlin", True)
    later = policy(time_zone="Europe/Berlin", daily={"snapshots": {"hours": [4]}})
    assert not any(expression.catch_up for expression in eventbridge_expressions(later))


def test_retention_runs_at_four_and_an_expiry_at_that_instant_is_in_time():
    zone = ZoneInfo("Europe/Berlin")
    assert retention_pass(at("2026-01-05T03:00"), zone) == at("2026-01-05T03:00")
    assert retention_pass(at("2026-01-05T03:01"), zone) == at("2026-01-06T03:00")


def test_a_manual_run_takes_the_flag_of_the_most_frequent_schedule():
    made = policy(weekly={"snapshots": {"days": ["mon"]}}, yearly={"backups": {}})
    assert manual_flags(made) == {Flag.WEEKLY}


def test_a_slot_carries_what_is_due_in_the_order_of_products():
    made = policy(daily={"replicas": {"hours": [7]}, "backups": {"hours": [7]}})
    (slot,) = slots(made, at("2026-01-05"), at("2026-01-06"))
    assert list(slot.flags) == [Kind.SNAPSHOT, Kind.REPLICA, Kind.BACKUP]


def test_a_daily_schedule_on_no_day_runs_never():
    made = policy(daily={"days": [], "snapshots": {"hours": [7]}})
    assert next_slots(made, at("2026-01-01"), 1) == ()
    assert eventbridge_expressions(made) == ()


def test_two_archives_of_one_day_ride_with_one_backup():
    made = policy(
        daily={"backups": {"hours": [6]}},
        monthly={"run_on": {"day": 15}, "time": "09:00", "archive": {"months": "all"}},
        yearly={"run_on": {"day": 15}, "time": "09:00", "archive": {}},
    )
    (slot,) = slots(made, at("2026-01-15"), at("2026-01-16"))
    assert spelled(slot.flags_of(Kind.ARCHIVE)) == "MY"


def test_an_archive_leaves_the_snapshot_of_its_own_time_behind():
    made = policy(
        daily={"snapshots": {"hours": [9]}, "backups": {"hours": [6]}},
        monthly={"run_on": {"day": 15}, "time": "09:00", "archive": {"months": "all"}},
    )
    found = {slot.at.hour: slot.products for slot in slots(made, at("2026-01-15"), at("2026-01-16"))}
    assert found == {6: {Kind.SNAPSHOT, Kind.BACKUP, Kind.ARCHIVE}, 9: {Kind.SNAPSHOT}}
