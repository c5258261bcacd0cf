"""Vectors of data-protection windows."""

from __future__ import annotations

from datetime import timedelta
from zoneinfo import ZoneInfo

from holdfast.model.configuration import SlaTemplate
from holdfast.model.regions import TIME_ZONES
from holdfast.model.sla import Window
from holdfast.model.windows import closes_at
from holdfast.planning.sla import Action, at_close, at_creation, sla_slots
from tests.vectors.policies import instant

ACTIONS = {
    "compute_sla": Action.COMPUTE_SLA,
    "continue_to_completion": Action.CONTINUE,
    "run_health_check_if_scheduled_day": Action.HEALTH_CHECK,
    "run_immediately": Action.RUN_NOW,
    "run_retention": Action.RETENTION,
    "send_report": Action.REPORT,
}


def run(vector: dict) -> int:
    """Run one vector; returns how many expectations it had."""
    for case in vector["cases"]:
        if "every_min" in case:
            expanded(case)
        elif "region" in case:
            local(vector, case)
        elif "event" in case:
            event(case)
        else:
            raise AssertionError(f"unknown case {case}")
    return len(vector["cases"])


def expanded(case: dict) -> None:
    found = Window(start=case["start"], end=case["end"]).runs(case["every_min"])
    if "expect" in case:
        assert [f"{minute // 60 % 24:02}:{minute % 60:02}" for minute in found] == case["expect"]
    if "expect_count" in case:
        assert len(found) == case["expect_count"]


def template(window: dict) -> SlaTemplate:
    hourly = {"daily": {"hours": 1}}
    return SlaTemplate.model_validate(
        {
            "name": "t",
            "snapshots": hourly,
            "backups": hourly,
            "snapshot_window": window,
            "backup_window": window,
        }
        | {"health_check": {"run_on": {"day": 15}}}
    )


def local(vector: dict, case: dict) -> None:
    assert TIME_ZONES[case["region"]] == case["tz"]
    zone = ZoneInfo(case["tz"])
    opens = instant(case.get("date", vector["date"])).replace(tzinfo=zone)
    first = next(sla_slots(template(vector["window"]), zone, opens, opens + timedelta(days=1)))
    assert first.at == instant(case["first_run_utc"])


def event(case: dict) -> None:
    window = {"start": "09:00", "end": "21:00"}
    zones = [ZoneInfo("America/Los_Angeles"), ZoneInfo("Asia/Singapore")]
    made, day = template(window), instant("2026-01-15").date()
    closed = closes_at(made.backup_window, zones, day)
    if case["event"] == "session_still_running_at_window_end":
        first_end = closes_at(made.backup_window, zones[1:], day)
        assert at_close(made, zones, day, first_end) == (ACTIONS[case["action"]],)
    elif case["event"] == "policy_created_inside_window":
        inside = instant("2026-01-15T12:00")
        assert at_creation(made.backup_window, zones[1], inside) == (ACTIONS[case["action"]],)
        assert at_creation(made.backup_window, zones[1], inside + timedelta(hours=2)) == ()
    elif case["event"] == "all_regions_backup_window_closed":
        assert at_close(made, zones, day, closed) == tuple(ACTIONS[action] for action in case["action"])
        other_day = day + timedelta(days=1)
        closed = closes_at(made.backup_window, zones, other_day)
        assert Action.HEALTH_CHECK not in at_close(made, zones, other_day, closed)
    else:
        raise AssertionError(f"unknown event {case['event']}")
