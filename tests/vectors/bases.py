"""Vectors of changed block tracking and the snapshot that it keeps."""

from __future__ import annotations

from datetime import timedelta
from zoneinfo import ZoneInfo

from holdfast.model.configuration import SlaTemplate
from holdfast.model.restore_point import Kind, RestorePoint
from holdfast.planning.cbt import Read, Until, reading, sla_source
from holdfast.planning.retention import judge, keeps_cbt_base, rule_for
from holdfast.planning.sla import sla_rule
from tests.vectors.policies import instant, point, policy
from tests.vectors.retentions import NOW

KEPT = {
    "next_backup_completes": Until.NEXT_BACKUP_COMPLETES,
    "next_backup_starts": Until.COMPARISON_COMPLETES,
    "this_backup_completes": Until.THIS_BACKUP_COMPLETES,
    "sla_retention": Until.RETENTION,
}
READS = {
    "all_blocks": Read.ALL_AND_COMPARE,
    "allocated_blocks_only": Read.ALLOCATED,
    "changed_blocks": Read.CHANGED,
    "whole_volume": Read.WHOLE,
    "whole_volume_compare_with_repository": Read.ALL_AND_COMPARE,
}


def run(vector: dict) -> int:
    """Run one vector; returns how many expectations it had."""
    if "sessions" in vector:
        return simulated(vector)
    for case in vector["cases"]:
        if "starts_together" in case:
            source(case)
        elif "first_backup" in case:
            read(case)
        elif "backups_enabled" in case:
            extra(case)
        else:
            raise AssertionError(f"unknown case {case}")
    return len(vector["cases"])


def simulated(vector: dict) -> int:
    """Sessions with retention after each; the base is pinned as the kind of policy says."""
    sla = vector["policy_type"] == "sla"
    if sla:
        keep = {"daily": {"hours": 24, "keep": {"days": vector["keep_days"]}}}
        template = SlaTemplate.model_validate({"name": "t", "snapshots": keep})
        rule = sla_rule(template, Kind.SNAPSHOT, ZoneInfo("UTC"))
    else:
        rule = rule_for(
            policy(daily={"snapshots": {"hours": [7], "keep": vector["keep_snapshots"]}}), Kind.SNAPSHOT
        )
    chain: list[RestorePoint] = []
    base = ""
    names: dict[str, str] = {}
    for session in vector["sessions"]:
        at = instant(session["at"] if "T" in session["at"] else f"2026-01-05T{session['at']}")
        new = point(at, "D")
        names[new.point_id] = session["at"]
        chain.append(new)
        before = base
        if session["backup"]:
            if "compare" in session:
                assert [names[base], names[new.point_id]] == session["compare"]
            base = new.point_id
        pinned = {before if sla and before else base}
        verdicts = judge(chain, rule, at, pinned=pinned)
        removed = {verdict.point_id for verdict in verdicts if verdict.remove}
        assert [names[each.point_id] for each in chain if each.point_id in removed] == session["deleted"]
        flags = {verdict.point_id: verdict.flags for verdict in verdicts}
        chain = [
            each.model_copy(update={"flags": flags[each.point_id]})
            for each in chain
            if each.point_id not in removed
        ]
        found = [names[each.point_id] + ("*" if each.point_id == base else "") for each in chain]
        assert found == session["chain"]
    return len(vector["sessions"])


def source(case: dict) -> None:
    found = sla_source(
        starts_together=case["starts_together"],
        cbt=case["cbt"],
        base_survives=case.get("base_retention_ends", "after_next_backup_start") == "after_next_backup_start",
    )
    assert found.temporary is (case["snapshot_kind"] == "temporary")
    assert found.keep is KEPT[case["keep_until"]]
    assert found.next_read is READS[case["read_mode"]]


def read(case: dict) -> None:
    found = reading(
        first=case["first_backup"],
        direct_apis=case.get("ebs_direct_api", True),
        base_present=case.get("base_snapshot_present", True),
        repository_changed=case.get("repository_changed", False),
        chain_damaged=case.get("chain_marked_corrupted", False),
    )
    assert found.full is (case["stored"] == "FULL")
    assert found.new_chain is case.get("new_chain", False)
    if "read" in case:
        assert found.read is READS[case["read"]]


def extra(case: dict) -> None:
    keep = case.get("keep", case.get("keep_in_every_schedule"))
    made = policy(
        repository="standard" if case["backups_enabled"] else "",
        daily={"snapshots": {"hours": [7], "keep": keep}, "backups": {"hours": [7]}},
    )
    rule = rule_for(made, Kind.SNAPSHOT)
    points = [point(NOW + timedelta(days=day), "D") for day in range(keep + 3)]
    if case.get("base_kept") is False or case.get("extra_snapshot") is False:
        assert not keeps_cbt_base(made)
        assert sum(not verdict.remove for verdict in judge(points, rule, NOW)) == keep
        if "next_read" in case:
            assert reading(first=False, base_present=False).read is READS[case["next_read"]]
        return
    assert keeps_cbt_base(made)
    older, newest = points[0].point_id, points[-1].point_id
    assert sum(not verdict.remove for verdict in judge(points, rule, NOW, pinned=[older])) == keep + 1
    assert sum(not verdict.remove for verdict in judge(points, rule, NOW, pinned=[newest])) == keep
