"""Vectors of harmonized scheduling."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from holdfast.model.configuration import SchedulePolicy
from holdfast.model.restore_point import Flag, Kind, RestorePoint
from holdfast.planning.retention import judge, rule_for
from holdfast.planning.schedule import TEMPORARY_FOR, manual_flags, slots
from tests.vectors.policies import BASIS, PLURAL, configuration, errors, instant, point, policy, spelled

WEEK = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
SHORT = "%Y-%m-%dT%H:%M"


def run(vector: dict) -> int:
    """Run one vector; returns how many expectations it had."""
    if "simulate_from" in vector:
        return simulated(vector)
    done = 0
    for case in vector["cases"]:
        if "at" in case:
            flags_at(vector["schedules"], case)
        elif "manual_flag" in case:
            manual(case)
        elif "monthly" in case:
            aligned(case)
        elif "select" in case:
            implied(case)
        else:
            continue
        done += 1
    assert done == len(vector["cases"])
    return done


def kept(schedule: dict) -> object:
    if "keep_days" in schedule:
        return {"days": schedule["keep_days"]}
    if "keep_years" in schedule:
        return {"years": schedule["keep_years"]}
    return {"months": schedule["keep_months"]} if "keep_months" in schedule else schedule["keep"]


def built(vector: dict) -> SchedulePolicy:
    """The policy of a vector whose schedules make one product."""
    product = PLURAL[vector["product"]]
    parts: dict[str, object] = {"repository": "standard"}
    for flag, schedule in vector["schedules"].items():
        keep, times = kept(schedule), schedule["times"]
        hours = [int(time[:2]) for time in times]
        assert all(time.endswith(":00") for time in times), "daily slots are full hours"
        if flag == "D":
            parts["daily"] = {"days": schedule["days"], product: {"hours": hours, "keep": keep}}
        elif flag == "W":
            parts["weekly"] = {"time": times[0], product: {"days": schedule["days"], "keep": keep}}
        else:
            on = (
                {"day": schedule["on_day"]}
                if "on_day" in schedule
                else {
                    "ordinal": schedule["ordinal"],
                    "weekday": schedule["weekday"],
                }
            )
            if flag == "M":
                made = {product: {"months": schedule["months"], "keep": keep}}
            else:
                made = {"month": schedule["months"][0], product: {"keep": keep}}
            parts["monthly" if flag == "M" else "yearly"] = {"run_on": on, "time": times[0], **made}
    return policy(**parts)


def simulated(vector: dict) -> int:
    """Run the sessions in order with retention after each, and compare at the times that the vector names."""
    made = built(vector)
    kind = Kind(vector["product"])
    rule = rule_for(made, kind)
    expectations = {instant(at): expected for at, expected in vector["expect_after"].items()}
    chain: list[RestorePoint] = []
    seen = 0
    for slot in slots(made, instant(vector["simulate_from"]), max(expectations) + timedelta(minutes=1)):
        chain.append(point(slot.at, spelled(slot.flags_of(kind)), kind))
        verdicts = {verdict.point_id: verdict for verdict in judge(chain, rule, slot.at)}
        outcome = {
            "unflagged": {
                each.taken_at.strftime(SHORT): spelled(verdicts[each.point_id].unassigned)
                for each in chain
                if verdicts[each.point_id].unassigned
            },
            "deleted": [each.taken_at.strftime(SHORT) for each in chain if verdicts[each.point_id].remove],
        }
        chain = [
            each.model_copy(update={"flags": verdicts[each.point_id].flags})
            for each in chain
            if not verdicts[each.point_id].remove
        ]
        outcome["chain"] = {each.taken_at.strftime(SHORT): spelled(each.flags) for each in chain}
        if slot.at in expectations:
            compare(outcome, expectations[slot.at])
            seen += 1
    assert seen == len(expectations), "an expected session did not run"
    return seen


def compare(outcome: dict, expected: dict) -> None:
    for what, value in expected.items():
        if what == "chain":
            assert outcome["chain"] == value
        elif what == "deleted":
            assert outcome["deleted"] == value
        elif what == "deleted_includes":
            assert set(value) <= set(outcome["deleted"])
        elif what == "flags_of":
            assert value.items() <= outcome["chain"].items()
        elif what == "unflagged":
            for taken, flags in value.items():
                assert outcome["unflagged"].get(taken) == flags
        else:
            raise AssertionError(f"unknown expectation {what}")


def flags_at(schedules: dict, case: dict) -> None:
    """One session serves every schedule that fires at its minute, with flags of each product."""
    daily = {}
    for product, hours in schedules["D"].items():
        every = list(range(24)) if hours == "every hour, every day" else [int(hour[:2]) for hour in hours]
        daily[PLURAL[product]] = {"hours": every}
    weekly = {
        PLURAL[product]: {"days": days} for product, days in schedules["W"].items() if product != "time"
    }
    made = policy(daily=daily, weekly={"time": schedules["W"]["time"], **weekly})
    weekday, time = case["at"].split()
    monday = datetime(2026, 1, 5, tzinfo=UTC)
    at = monday + timedelta(days=WEEK.index(weekday), hours=int(time[:2]), minutes=int(time[3:]))
    (slot,) = slots(made, at, at + timedelta(minutes=1))
    assert {kind.value: spelled(flags) for kind, flags in slot.flags.items()} == case["expect"]
    assert not slot.temporary


def manual(case: dict) -> None:
    parts = {
        "daily": {"snapshots": {"hours": [7]}},
        "weekly": {"time": "07:00", "snapshots": {"days": ["mon"]}},
        "monthly": {"snapshots": {"months": "all"}},
        "yearly": {"backups": {}},
    }
    enabled = {Flag(flag).name.lower() for flag in case["enabled"]}
    made = policy(**{name: {**part, "enabled": name in enabled} for name, part in parts.items()})
    assert spelled(manual_flags(made)) == (case["manual_flag"] or "")


def aligned(case: dict) -> None:
    """Less frequent slots must coincide with weekly ones, unless they are a day of the month."""
    monthly = case["monthly"]
    free = "on_day" in monthly
    on = (
        {"day": monthly["on_day"]} if free else {"ordinal": monthly["ordinal"], "weekday": monthly["weekday"]}
    )
    weekly = {"time": case["weekly_time"], "snapshots": {"days": ["mon"]}, "backups": {"days": ["mon"]}}
    parts = {
        "weekly": weekly,
        "monthly": {
            "run_on": on,
            "time": monthly["time"],
            "archive": {"months": "all", "keep": {"years": 1}},
        },
        "repository": "standard",
        "archive_repository": "archive",
    }
    assert (errors(configuration(BASIS | parts)) == []) is case["valid"]
    if "creates_temporary_point_if_nothing_else_runs_that_day" in case:
        made = policy(**parts)
        nothing_else = datetime(2026, 1, 15, tzinfo=UTC)  # a Thursday
        (slot,) = slots(made, nothing_else, nothing_else + timedelta(days=1))
        expected = case["creates_temporary_point_if_nothing_else_runs_that_day"]
        assert (slot.temporary == {Kind.SNAPSHOT, Kind.BACKUP}) is expected
        weekly_runs = datetime(2026, 6, 15, tzinfo=UTC)  # a Monday
        assert all(not other.temporary for other in slots(made, weekly_runs, weekly_runs + timedelta(days=1)))
        assert timedelta(hours=case["temporary_ttl_hours"]) == TEMPORARY_FOR


def implied(case: dict) -> None:
    chosen = {
        PLURAL[kind]: {"hours": [int(time[:2]) for time in times]} for kind, times in case["select"].items()
    }
    day = datetime(2026, 1, 5, tzinfo=UTC)
    found = [
        f"{slot.at:%H:%M}"
        for slot in slots(policy(daily=chosen), day, day + timedelta(days=1))
        if Kind.SNAPSHOT in slot.flags
    ]
    assert found == case["effective_snapshot"]
