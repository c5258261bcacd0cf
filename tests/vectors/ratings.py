"""Vectors of SLA compliance."""

from __future__ import annotations

from datetime import date, timedelta
from fractions import Fraction
from zoneinfo import ZoneInfo

import pytest

from holdfast.model.configuration import SlaTemplate
from holdfast.model.restore_point import Flag, Kind
from holdfast.model.sla import Cadences, SlaReplicas
from holdfast.planning.compliance import (
    VIEWS,
    LedgerEntry,
    Share,
    credited,
    label,
    policy_ratio,
    removal,
    rerated,
    status,
    target_of,
    views,
)
from holdfast.planning.sla import earned_flags, expected, published_at, replica_due
from tests.vectors.policies import instant, spelled
from tests.vectors.schedules import WEEK

UTC_ZONE = ZoneInfo("UTC")
DAY = date(2026, 1, 12)


def run(vector: dict) -> int:
    """Run one vector; returns how many expectations it had."""
    if "credited" in vector:
        return joined(vector)
    if "history_success" in vector:
        return edited(vector)
    if "instances" in vector:
        return labelled(vector)
    if "chart_entries" in vector:
        return charts(vector)
    if "attempts" in vector:
        return success_driven(vector)
    for case in vector["cases"]:
        one(case)
    return len(vector["cases"])


def one(case: dict) -> None:
    if "instances_pct" in case:
        shares = [
            Share(str(number), 1000, round(pct * 10)) for number, pct in enumerate(case["instances_pct"])
        ]
        ratio = policy_ratio(shares)
        assert float(ratio) * 100 == pytest.approx(case["policy_pct"], abs=1e-4)
        assert status(ratio, target_of(case["target_pct"])) == case["status"]
    elif "product_scheduled_in_template" in case:
        ratio = Fraction(str(case["ratio_pct"])) / 100 if "ratio_pct" in case else None
        found = status(
            ratio,
            target_of(case.get("target_pct", 97)),
            scheduled=case["product_scheduled_in_template"],
            finished=case.get("period_finished", True),
        )
        assert found == case["status"]
    elif "removed" in case:
        opened, closed = instant("2026-01-12T10:00"), instant("2026-01-12T18:00")
        left_at = opened if case["removed"] == "inside_window" else closed
        shown = removal(left_at, opened, closed)
        assert shown is (case["shown"] == "Removed")
        assert (policy_ratio([Share("i", 5, 5, removed=True)]) is not None) is case["rated"]
    elif "credited_this_month" in case:
        monthly(case)
    elif "replica" in case:
        replicas(case)
    else:
        raise AssertionError(f"unknown case {case}")


def template(window: dict, every: int) -> SlaTemplate:
    return SlaTemplate.model_validate(
        {"name": "t", "backups": {"daily": {"minutes": every}}, "backup_window": window}
    )


def joined(vector: dict) -> int:
    due = expected(template(vector["window"], vector["every_min"]), Kind.BACKUP, DAY, UTC_ZONE)
    assert len(due) == vector["expected_per_day"]
    before = credited(due, instant(f"{DAY}T{vector['instance_added_at']}"))
    assert before == vector["credited"]
    for case in vector["cases"]:
        assert len(due) - before == case["remaining"]
        share = Share("i", len(due), case["succeeded_of_remaining"], before)
        assert float(share.ratio) * 100 == case["ratio_pct"]
        assert status(policy_ratio([share]), target_of(vector["target_pct"])) == case["status"]
    return len(vector["cases"])


def edited(vector: dict) -> int:
    counts = {}
    for when in ("before", "after"):
        made = template(vector["window"], vector[when]["every_min"])
        counts[when] = len(expected(made, Kind.BACKUP, DAY, UTC_ZONE))
        assert counts[when] == vector[when]["expected"]
    share = Share("i", counts["before"], vector["history_success"])
    ledger = LedgerEntry("p", Kind.BACKUP, DAY, target_of(97), (share,))
    again = rerated(ledger, counts["after"])
    assert float(policy_ratio(ledger.shares)) * 100 == vector["before"]["ratio_pct"]
    assert float(policy_ratio(again.shares)) * 100 == vector["after"]["ratio_pct"]
    return 2


def labelled(vector: dict) -> int:
    target = target_of(vector["target_pct"])
    shares = [
        Share(
            str(number),
            each.get("expected", 5),
            each.get("success", 0),
            removed="removed_during_window" in each,
        )
        for number, each in enumerate(vector["instances"])
    ]
    labels = [label(share, target) for share in shares]
    assert labels == [each["label"] for each in vector["instances"]]
    wanted = vector["expect"]
    assert len(shares) == wanted["total"]
    for word in ("met", "missed", "removed"):
        assert sum(text.lower().startswith(word) for text in labels) == wanted[word]
    assert float(policy_ratio(shares)) * 100 == pytest.approx(wanted["mean_pct"], abs=1e-4)
    return len(shares)


def charts(vector: dict) -> int:
    names = {"daily": "day", "weekly": "week", "monthly": "month"}
    assert {names[name]: count for name, count in vector["chart_entries"].items()} == VIEWS
    assert [name for name, view in names.items() if view in views(Kind.ARCHIVE)] == vector["archive_filters"]
    made = template({"start": "10:00", "end": "18:00"}, 60)
    west, east = ZoneInfo("America/Los_Angeles"), ZoneInfo("Asia/Tokyo")
    assert published_at(made, (east, west), DAY) == expected(made, Kind.BACKUP, DAY, west)[-1]
    return 3


def success_driven(vector: dict) -> int:
    every = int(vector["schedules"]["D"].split()[1])
    ordinal, weekday = vector["schedules"]["M"].split()
    cadences = Cadences.model_validate(
        {"daily": {"hours": every}, "monthly": {"run_on": {"ordinal": ordinal, "weekday": weekday[:3]}}}
    )
    taken: set[Flag] = set()
    found = {}
    for attempt in vector["attempts"]:
        if attempt["ok"]:
            flags = earned_flags(cadences, date.fromisoformat(vector["day"]), taken)
            taken |= flags
            found[attempt["at"]] = spelled(flags)
    assert found == vector["expect"]
    return len(found)


def monthly(case: dict) -> None:
    """An instance that joins after the month's only run is credited with it; its first is next month's."""
    this_month, next_month = instant("2026-01-02T07:00"), instant("2026-02-02T07:00")
    added = this_month + timedelta(days=3)
    assert case["added"] == "after_monthly_session"
    assert (credited([this_month], added) == 1) is case["credited_this_month"]
    first = next(at for at in (this_month, next_month) if at >= added)
    assert (first == next_month) is (case["first_real_session"] == "next_month")


def replicas(case: dict) -> None:
    cadence, _, days = case["snapshot"].partition(" ")
    assert cadence == "weekly"
    weekly = {"days": "every_day" if days == "every day" else days.split(",")}
    made = SlaTemplate.model_validate({"name": "t", "snapshots": {"weekly": weekly}})
    monday = date(2026, 1, 5)
    replicated: list[date] = []
    for number in range(7):
        day = monday + timedelta(days=number)
        snapshot = expected(made, Kind.SNAPSHOT, day, UTC_ZONE)
        if snapshot and replica_due(SlaReplicas(every=case["replica"]), day, replicated):
            replicated.append(day)
    assert [WEEK[day.weekday()] for day in replicated] == case["replicated"]
