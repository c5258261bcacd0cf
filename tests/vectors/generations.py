"""Vectors of block generations in immutable repositories."""

from __future__ import annotations

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from holdfast.model.restore_point import Flag
from holdfast.model.schedules import Keep
from holdfast.planning.generations import GENERATION, Generation, deletable_at, extended, lock
from holdfast.planning.schedule import manual_flags
from tests.vectors.policies import instant, policy

ZONE = ZoneInfo("UTC")


def run(vector: dict) -> int:
    """Run one vector; returns how many expectations it had."""
    if "backups" in vector:
        return dated(vector)
    for case in vector["cases"]:
        if "N" in case:
            boundary(case, vector["retention_days"])
        elif "event" in case:
            event(case)
        else:
            raise AssertionError(f"unknown case {case}")
    return len(vector["cases"])


def days(count: int) -> Keep:
    return Keep(days=count, months=None, years=None)


def dated(vector: dict) -> int:
    assert timedelta(days=vector["generation_days"]) == GENERATION
    current: Generation | None = None
    locks: list[datetime] = []
    for backup in vector["backups"]:
        at = instant(backup["date"])
        started = current.started_at if current else at
        found = lock(at, days(vector["retention_days"]), Flag.WEEKLY, current, ZONE)
        assert (at - started).days == backup["N"]
        assert found.generation.number == backup["generation"]
        assert (found.until - at).days == backup["immutability_days"]
        assert found.until == instant(backup["lock_until"])
        assert found.removed_at == instant(backup["removed_on"])
        if found.extend_inherited:
            assert deletable_at(locks[-1]) == instant(*vector["orphan_blocks_deleted_on"].values())
            assert extended(locks[-1], found.until) == instant(vector["inherited_blocks_relocked_to"])
        current = found.generation
        locks.append(found.until)
    return len(locks)


def boundary(case: dict, retention: int) -> None:
    start = instant("2027-03-01")
    current = Generation(Flag.DAILY, 1, start, days(retention))
    at = start + timedelta(days=case["N"])
    found = lock(at, days(retention), Flag.DAILY, current, ZONE)
    assert (found.generation != current) is case["new_generation"]
    assert (found.until - at).days == case["immutability_days"]


def event(case: dict) -> None:
    start = instant("2027-03-01")
    first = lock(start, days(30), Flag.DAILY, None, ZONE)
    later = start + timedelta(days=3)
    if case["event"] == "retention_shortened":
        shorter = lock(later, days(7), Flag.DAILY, first.generation, ZONE)
        assert (shorter.generation != first.generation) is case["new_generation"]
        assert case["existing_lock"] == "unchanged"
        assert extended(first.until, shorter.until) is None
    elif case["event"] == "manual_delete_of_locked_backup":
        assert case["outcome"] == "refused"
        assert deletable_at(first.until) > later
    elif case["event"] == "manual_policy_start":
        made = policy(
            daily={"backups": {"hours": [7]}}, weekly={"time": "07:00", "backups": {"days": ["mon"]}}
        )
        assert case["retention_used"] == "most frequent schedule"
        assert manual_flags(made) == {Flag.DAILY}
    elif case["event"] == "D_and_M_schedules_enabled":
        assert case["generations"] == "one per schedule type"
        other = lock(later, days(30), Flag.MONTHLY, first.generation, ZONE)
        assert other.generation.flag is Flag.MONTHLY
        assert other.generation != first.generation
    else:
        raise AssertionError(f"unknown event {case['event']}")
