"""Which restore points are removed, and why."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from holdfast.model.configuration import ObsoleteSnapshots
from holdfast.model.restore_point import Flag, Kind
from holdfast.model.schedules import Keep
from holdfast.planning.calendar import FOREVER, kept_until, longest_days, shortest_days
from holdfast.planning.retention import Rule, chains, judge, judge_obsolete, keeps_cbt_base, rule_for
from tests.vectors.policies import point, policy

UTC_ZONE = ZoneInfo("UTC")
NOW = datetime(2026, 3, 10, 7, tzinfo=UTC)


def keep(**unit: int) -> Keep:
    return Keep.model_validate(unit)


def ago(days: float) -> datetime:
    return NOW - timedelta(days=days)


def rule(**parts: object) -> Rule:
    return Rule(**{"keep": {Flag.DAILY: 2}, "zone": UTC_ZONE} | parts)


def by_age(days: int = 7, **parts: object) -> Rule:
    return rule(keep={Flag.DAILY: keep(days=days)}, **parts)


def removed(verdicts) -> list[bool]:
    return [verdict.remove for verdict in verdicts]


def test_verdicts_come_oldest_first_with_a_reason_each():
    verdicts = judge([point(ago(0), "D"), point(ago(2), "D"), point(ago(1), "D")], rule(), NOW)
    assert [(verdict.remove, verdict.reason) for verdict in verdicts] == [
        (True, "the daily schedule keeps the newest 2"),
        (False, "kept by the daily schedule"),
        (False, "kept by the daily schedule"),
    ]


def test_a_point_with_a_flag_left_only_loses_the_other():
    made = rule(keep={Flag.DAILY: 1, Flag.WEEKLY: 5})
    old, _ = judge([point(ago(2), "DW"), point(ago(1), "D")], made, NOW)
    assert (old.remove, old.flags, old.unassigned) == (False, {Flag.WEEKLY}, {Flag.DAILY})


def test_an_incomplete_point_takes_no_place_and_never_pushes_out_a_valid_one():
    points = [point(ago(3), "D"), point(ago(2), "D", complete=False), point(ago(1), "D"), point(ago(0), "D")]
    assert removed(judge(points, rule(), NOW)) == [True, True, False, False]
    points = [point(ago(3), "D"), point(ago(2), "D"), point(ago(1), "D", complete=False)]
    assert removed(judge(points, rule(), NOW)) == [False, False, False]


def test_a_pinned_point_stays_without_flags_and_goes_when_it_is_released():
    points = [point(ago(day), "D") for day in (3, 2, 1)]
    pinned = judge(points, rule(), NOW, pinned=[points[0].point_id])[0]
    assert (pinned.remove, pinned.flags, pinned.reason) == (
        False,
        frozenset(),
        "kept for changed block tracking",
    )
    released = judge([point(ago(3)), *points[1:]], rule(), NOW)[0]
    assert (released.remove, released.reason) == (True, "no schedule keeps it")


def test_age_alone_never_removes_the_newest_point_of_a_protected_instance():
    points = [point(ago(90), "D", Kind.BACKUP), point(ago(80), "D", Kind.BACKUP)]
    verdicts = judge(points, by_age(), NOW)
    assert removed(verdicts) == [True, False]
    assert verdicts[1].reason == "the newest restore point of a protected instance"
    assert removed(judge(points, by_age(), NOW, protected=False)) == [True, True]
    assert removed(judge(points, by_age(keep_last=0), NOW)) == [True, True]
    assert removed(judge(points, by_age(keep_last=2), NOW)) == [False, False]


def test_a_damaged_point_is_not_the_newest_valid_one():
    points = [point(ago(90), "D", Kind.BACKUP), point(ago(80), "D", Kind.BACKUP, complete=False)]
    assert removed(judge(points, by_age(), NOW)) == [False, True]


def test_a_manual_snapshot_is_not_the_newest_valid_point_of_the_chain():
    points = [point(ago(90), "D"), point(ago(1), manual=True)]
    assert removed(judge(points, by_age(), NOW)) == [False, False]


def test_snapshots_of_manual_runs_of_a_yearly_policy_do_not_pile_up():
    made = policy(yearly={"backups": {}}, repository="standard")
    points = [point(ago(2), "Y"), point(ago(1), "Y")]
    assert removed(judge(points, rule_for(made, Kind.SNAPSHOT), NOW)) == [True, False]
    assert not keeps_cbt_base(made)


def test_a_count_of_nothing_removes_even_the_newest():
    assert removed(judge([point(ago(1), "D")], rule(keep={Flag.DAILY: 0}), NOW)) == [True]


def test_flags_of_a_schedule_that_the_policy_does_not_know_stay():
    (verdict,) = judge([point(ago(900), "Y", Kind.BACKUP)], by_age(keep_last=0), NOW)
    assert (verdict.remove, verdict.reason) == (False, "kept by the yearly schedule")


def test_a_temporary_point_goes_when_its_day_is_over():
    points = [point(ago(1), keep_until=NOW), point(ago(0.5), keep_until=NOW + timedelta(hours=12))]
    verdicts = judge(points, by_age(), NOW)
    assert removed(verdicts) == [True, False]
    assert verdicts[0].reason == "was kept until 2026-03-10 07:00 UTC"


def test_a_held_point_stays_with_its_flags_until_the_date():
    held = point(ago(30), "D", keep_until=NOW + timedelta(days=1))
    (verdict,) = judge([held], rule(keep={Flag.DAILY: 0}), NOW)
    assert (verdict.remove, verdict.flags) == (False, {Flag.DAILY})
    (after,) = judge([held], rule(keep={Flag.DAILY: 0}), NOW + timedelta(days=1))
    assert after.remove


def test_a_manual_point_without_a_time_is_kept_for_good():
    (verdict,) = judge([point(ago(9000), manual=True)], rule(), NOW)
    assert (verdict.remove, verdict.reason) == (False, "manual, kept until removed by hand")


def test_repeating_retention_changes_nothing():
    made = rule(keep={Flag.DAILY: 2, Flag.WEEKLY: 1})
    points = [point(ago(day), "DW" if day % 3 == 0 else "D") for day in range(9)]
    first = {verdict.point_id: verdict for verdict in judge(points, made, NOW)}
    left = [
        each.model_copy(update={"flags": first[each.point_id].flags})
        for each in points
        if not first[each.point_id].remove
    ]
    again = judge(left, made, NOW)
    assert not any(verdict.remove or verdict.unassigned for verdict in again)


def test_the_rule_of_each_kind_comes_from_the_schedules_that_make_it():
    made = policy(
        daily={
            "snapshots": {"keep": 3},
            "replicas": {"hours": [7], "keep": 4},
            "backups": {"hours": [7], "keep": "9 days"},
        },
        monthly={"archive": {"months": "all", "keep": "2 years"}},
        yearly={"archive": {"keep": "7 years"}},
        time_zone="Asia/Tokyo",
        keep_last=5,
    )
    assert rule_for(made, Kind.SNAPSHOT).keep == {Flag.DAILY: 3, Flag.MONTHLY: 3, Flag.YEARLY: 1}
    assert rule_for(made, Kind.REPLICA).keep == {Flag.DAILY: 4, Flag.YEARLY: 1}
    assert rule_for(made, Kind.BACKUP).keep == {Flag.DAILY: keep(days=9)}
    assert rule_for(made, Kind.ARCHIVE).keep == {Flag.MONTHLY: keep(years=2), Flag.YEARLY: keep(years=7)}
    assert rule_for(made, Kind.ARCHIVE).zone.key == "Asia/Tokyo"
    assert rule_for(made, Kind.ARCHIVE).keep_last == 5


@pytest.mark.parametrize(
    "created, unit, zone, expected",
    [
        ("2026-01-31T12:00", {"months": 1}, "UTC", "2026-02-28T12:00"),
        ("2026-01-31T12:00", {"months": 2}, "UTC", "2026-03-31T12:00"),
        ("2026-01-30T12:00", {"months": 3}, "UTC", "2026-04-30T12:00"),
        ("2028-02-29T12:00", {"years": 1}, "UTC", "2029-02-28T12:00"),
        ("2026-11-30T12:00", {"months": 3}, "UTC", "2027-02-28T12:00"),
        ("2026-03-28T06:00", {"days": 1}, "Europe/Berlin", "2026-03-29T05:00"),
        ("2026-01-31T23:30", {"months": 1}, "Asia/Tokyo", "2026-02-28T23:30"),
    ],
)
def test_days_and_months_are_those_of_the_calendar_in_the_zone(created, unit, zone, expected):
    at = datetime.fromisoformat(created).replace(tzinfo=UTC)
    until = kept_until(at, keep(**unit), ZoneInfo(zone))
    assert until == datetime.fromisoformat(expected).replace(tzinfo=UTC)


def test_a_time_beyond_the_calendar_is_for_good():
    late = datetime(9990, 1, 1, tzinfo=UTC)
    assert kept_until(late, keep(years=99), UTC_ZONE) == FOREVER
    assert kept_until(late, keep(days=36000), UTC_ZONE) == FOREVER


@pytest.mark.parametrize("unit", [{"days": 1}, {"days": 40}, {"months": 1}, {"months": 30}, {"years": 3}])
def test_the_bounds_without_a_calendar_hold(unit):
    for month in range(1, 13):
        at = datetime(2027, month, 28, 3, tzinfo=UTC)
        whole = kept_until(at, keep(**unit), ZoneInfo("America/New_York")) - at
        assert timedelta(days=shortest_days(keep(**unit))) <= whole
        assert timedelta(days=longest_days(keep(**unit))) >= whole


def test_chains_are_points_of_one_instance_kind_and_place():
    points = [
        point(ago(2), "D"),
        point(ago(1), "D", Kind.BACKUP, repository="main"),
        point(ago(1), "D"),
        point(ago(0), "D", Kind.BACKUP, repository="other"),
    ]
    assert [(key[3], key[4], len(found)) for key, found in chains(points)] == [
        ("backup", "main", 1),
        ("backup", "other", 1),
        ("snapshot", "", 2),
    ]


@pytest.mark.parametrize(
    "mode, protected, age, remove, reason",
    [
        ("after", True, 900, False, "a policy processes the instance"),
        ("after", False, 19, False, "obsolete, kept for 20 days"),
        (
            "after",
            False,
            20,
            True,
            "no policy processes the instance, and obsolete snapshots are kept for 20 days",
        ),
        ("never", False, 900, False, "obsolete snapshots are never removed"),
    ],
)
def test_obsolete_snapshots_follow_the_global_rule(mode, protected, age, remove, reason):
    made = ObsoleteSnapshots(mode=mode, days=20 if mode == "after" else None, months=None)
    (verdict,) = judge_obsolete([point(ago(age), "D")], made, NOW, UTC_ZONE, protected=protected)
    assert (verdict.remove, verdict.reason) == (remove, reason)


def test_obsolete_retention_leaves_manual_snapshots_alone():
    made = ObsoleteSnapshots(mode="after", days=20, months=None)
    points = [point(ago(90), manual=True), point(ago(80), manual=True, keep_until=ago(1))]
    assert removed(judge_obsolete(points, made, NOW, UTC_ZONE, protected=False)) == [False, True]
