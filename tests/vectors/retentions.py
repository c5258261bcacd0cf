"""Vectors of retention."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from pydantic import ValidationError

from holdfast.model.configuration import ObsoleteSnapshots, SlaTemplate
from holdfast.model.restore_point import Kind
from holdfast.planning.chain import Link, contents, remove
from holdfast.planning.retention import judge, judge_obsolete, rule_for
from holdfast.planning.schedule import retention_pass, slots, waits_for_retention
from holdfast.planning.sizing import parallel_chains, removal_worker
from holdfast.planning.sla import sla_rule
from tests.vectors.policies import days_ago, instant, point, policy

NOW = datetime(2026, 3, 10, 7, tzinfo=UTC)
UTC_ZONE = ZoneInfo("UTC")


def run(vector: dict) -> int:
    """Run one vector; returns how many expectations it had."""
    if "sessions" in vector:
        return counted(vector)
    if "outdated" in vector:
        return transformed(vector)
    if "sla_keep_days" in vector:
        return adopted(vector)
    for case in vector["cases"]:
        one(case, vector)
    return len(vector["cases"])


def one(case: dict, vector: dict) -> None:
    if "valid" in case:
        bounds(case)
    elif "obsolete_after_days" in vector:
        obsolete(case, vector["obsolete_after_days"])
    elif "policy_state" in case:
        continues(case)
    elif "logical_expiry" in case or "policy_slot" in case:
        timing(case, ZoneInfo(vector["appliance_tz"]))
    elif "ram_gb" in case:
        assert parallel_chains(case["ram_gb"]) == case["max_parallel_chains"]
    elif case.get("kind") == "manual_snapshot":
        manual(case)
    elif "delete_tb" in case:
        assert removal_worker(case["delete_tb"]) == case["type"]
    else:
        raise AssertionError(f"unknown case {case}")


def counted(vector: dict) -> int:
    made = policy(daily={"snapshots": {"hours": [7], "keep": vector["keep"]}})
    named = {NOW + timedelta(days=day): name for day, name in enumerate(vector["sessions"])}
    points = [point(taken_at, "D") for taken_at in named]
    verdicts = judge(points, rule_for(made, Kind.SNAPSHOT), max(named))
    names = {each.point_id: named[each.taken_at] for each in points}
    assert [names[verdict.point_id] for verdict in verdicts if not verdict.remove] == vector["expect_chain"]
    assert [names[verdict.point_id] for verdict in verdicts if verdict.remove] == vector["expect_deleted"]
    return len(vector["sessions"])


def links(chain: list[dict]) -> list[Link]:
    """Points that name no blocks get one that every point changes."""
    return [
        Link(each["t"], each["type"] == "FULL", each.get("blocks", {0: f"block of {each['t']}"}))
        for each in chain
    ]


def transformed(vector: dict) -> int:
    chain = links(vector["chain"])
    left, dropped = remove(chain, vector["outdated"])
    assert [(link.taken, link.full) for link in left] == [
        (each["t"], each["type"] == "FULL") for each in vector["expect_chain"]
    ]
    for link, expected in zip(left, vector["expect_chain"], strict=True):
        assert contents(left)[link.taken] == contents(chain)[link.taken]
        if "blocks" in expected:
            assert link.blocks == expected["blocks"]
    if "expect_dropped_block_versions" in vector:
        assert sorted(dropped) == sorted(vector["expect_dropped_block_versions"])
    return len(left)


def bounds(case: dict) -> None:
    given = (
        {"mode": "never"} if case.get("mode") == "never" else {"mode": "after", case["unit"]: case["value"]}
    )
    try:
        ObsoleteSnapshots.model_validate(given)
    except ValidationError:
        assert not case["valid"]
    else:
        assert case["valid"]


def obsolete(case: dict, days: int) -> None:
    rule = ObsoleteSnapshots(mode="after", days=days, months=None)
    (verdict,) = judge_obsolete(
        [point(days_ago(NOW, case["snapshot_age_days"]), "D")],
        rule,
        NOW,
        UTC_ZONE,
        protected=case["instance_in_any_policy"],
    )
    assert verdict.remove is case["delete_by_global"]


def continues(case: dict) -> None:
    off = "daily_schedule" in case
    age = case.get("point_age_days", 7)
    made = policy(
        enabled=case["policy_state"] == "enabled",
        keep_last=0,
        repository="standard",
        daily={"enabled": not off, "backups": {"hours": [7], "keep": {"days": case.get("keep_days", 7)}}},
    )
    (verdict,) = judge([point(days_ago(NOW, age), "D", Kind.BACKUP)], rule_for(made, Kind.BACKUP), NOW)
    assert verdict.remove is case.get("expired", case.get("retention_runs"))


def timing(case: dict, zone: ZoneInfo) -> None:
    if "logical_expiry" in case:
        assert retention_pass(instant(case["logical_expiry"]), zone) == instant(case["physical_removal_run"])
        return
    assert case["outcome"] == "queued"
    made = policy(daily={"snapshots": {"hours": [int(case["policy_slot"][:2])]}}, time_zone=zone.key)
    (slot,) = slots(made, NOW.replace(hour=0), NOW.replace(hour=0) + timedelta(days=1))
    assert waits_for_retention(slot.at, zone)


def adopted(vector: dict) -> int:
    template = SlaTemplate.model_validate(
        {"name": "t", "snapshots": {"daily": {"hours": 1, "keep": {"days": vector["sla_keep_days"]}}}}
    )
    now = instant(vector["now"])
    points = [point(instant(created), "DW") for created in vector["chain_created"]]
    verdicts = judge(points, sla_rule(template, Kind.SNAPSHOT, UTC_ZONE), now)
    removed = [each.taken_at for each, verdict in zip(points, verdicts, strict=True) if verdict.remove]
    assert removed == [instant(created) for created in vector["expect_deleted"]]
    left = [each.taken_at for each, verdict in zip(points, verdicts, strict=True) if not verdict.remove]
    assert left == [instant(created) for created in vector["expect_chain"]]
    return len(points)


def manual(case: dict) -> None:
    made = policy(daily={"snapshots": {"hours": [7], "keep": case.get("policy_keep", 1)}})
    taken_at = days_ago(NOW, case.get("age_days", 30))
    days = case.get("own_keep_days")
    kept = point(taken_at, "", manual=True, keep_until=taken_at + timedelta(days=days) if days else None)
    newer = [point(days_ago(NOW, day), "D") for day in range(case.get("newer_policy_snapshots", 0))]
    verdicts = {
        verdict.point_id: verdict for verdict in judge([kept, *newer], rule_for(made, Kind.SNAPSHOT), NOW)
    }
    expected = case["deleted"] if "deleted" in case else case["deleted_by_policy_retention"]
    assert verdicts[kept.point_id].remove is expected
