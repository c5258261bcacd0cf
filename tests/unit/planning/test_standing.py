"""Where an instance stands that a policy owns: what the last session of the day made of it decides."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from holdfast.model.ids import session_id
from holdfast.model.inventory import Instance
from holdfast.planning.standing import Ending, Judged, Look, Record, Run, Standing
from tests.vectors.policies import BASIS, REGION, configuration

START = datetime(2026, 11, 22, tzinfo=UTC)
END = START + timedelta(days=1)
NOW = END + timedelta(hours=4)
OWN = "444455556666"
INSTANCE = Instance(instance_id="i-0123456789abcdef0", account=OWN, region=REGION)
MORNING, EVENING = START.replace(hour=7), START.replace(hour=19)
DAILY = {"daily": {"snapshots": {"hours": [7, 19], "keep": 3}}}
SUNDAYS = {"weekly": {"time": "07:00", "snapshots": {"days": ["mon"], "keep": 3}}}
WENT_WELL = Run(ended=True, looks={REGION: Look(ended=True)})


def standing(
    *,
    runs: dict[datetime, Run] | None = None,
    ending: Ending | None = None,
    schedule: dict = DAILY,
    now: datetime = NOW,
    **more: object,
) -> Judged:
    made = configuration(BASIS | schedule)
    owner = made.policies[0]
    named = {session_id(owner.name, slot): run for slot, run in (runs or {}).items()}
    endings = {INSTANCE.instance_id: ending} if ending else {}
    return Record(made, START, END, now, runs=named, endings=endings, **more).standing_of(INSTANCE, owner)


def test_a_success_in_the_last_session_protects():
    found = standing(
        runs={MORNING: WENT_WELL, EVENING: WENT_WELL}, ending=Ending("policy", EVENING, made=True)
    )
    assert found == (Standing.PROTECTED, "restore point of 2026-11-22 19:00 UTC by policy 'policy'")


def test_a_warning_protects_and_is_told():
    ending = Ending("policy", EVENING, made=True, problem="Noted: retention broke off")
    assert standing(runs={EVENING: WENT_WELL, MORNING: WENT_WELL}, ending=ending).reason.endswith(
        "with a warning: Noted: retention broke off"
    )


def test_a_failure_in_the_last_session_fails_whatever_was_before():
    ending = Ending("policy", EVENING, made=False, problem="SourceGone: the volume is gone")
    found = standing(runs={MORNING: WENT_WELL, EVENING: WENT_WELL}, ending=ending)
    assert found == (
        Standing.FAILED,
        "the session of 2026-11-22 19:00 UTC failed: SourceGone: the volume is gone",
    )


@pytest.mark.parametrize(
    "evening, reason",
    [
        (None, "no session ran at 2026-11-22 19:00 UTC, although policy 'policy' was due"),
        (Run(ended=True, failure="AccessDenied: no Organization"), "failed: AccessDenied: no Organization"),
        (Run(ended=True), f"the session of 2026-11-22 19:00 UTC did not look at {REGION}"),
        (Run(ended=False), "the session of 2026-11-22 19:00 UTC had not ended"),
        (Run(ended=False, looks={REGION: Look(ended=False)}), "had not ended"),
        (Run(ended=True, looks={REGION: Look(ended=True, lost="Timeout: no answer")}), "Timeout: no answer"),
        (
            Run(ended=True, looks={REGION: Look(ended=True, problems={OWN: "AccessDenied: role"})}),
            "could not look: AccessDenied: role",
        ),
    ],
)
def test_a_slot_that_was_due_and_that_nobody_served_is_a_failure(evening: Run | None, reason: str):
    """Also after a success in the morning: the day's last slot made nothing."""
    runs = {MORNING: WENT_WELL} | ({EVENING: evening} if evening else {})
    found = standing(runs=runs, ending=Ending("policy", MORNING, made=True))
    assert found.standing is Standing.FAILED
    assert found.reason.endswith(reason)


def test_problems_of_other_accounts_and_regions_are_not_this_instance_s():
    look = Look(ended=True, problems={"999999999999": "AccessDenied"})
    run = Run(ended=True, looks={REGION: look, "eu-west-1": Look(ended=True, lost="Timeout")}, failure="x")
    found = standing(runs={MORNING: run, EVENING: run}, ending=Ending("policy", EVENING, made=True))
    assert found.standing is Standing.PROTECTED


def test_sessions_that_looked_and_did_not_find_it_mean_that_it_came_later():
    found = standing(runs={MORNING: WENT_WELL, EVENING: WENT_WELL})
    assert found.standing is Standing.NOT_SELECTED
    assert "appeared, or was selected, after 2026-11-22 19:00 UTC" in found.reason


def test_a_session_of_the_last_hours_may_still_come():
    now = EVENING + timedelta(minutes=30)
    found = standing(runs={MORNING: WENT_WELL}, ending=Ending("policy", MORNING, made=True), now=now)
    assert found.standing is Standing.PROTECTED
    running = {MORNING: WENT_WELL, EVENING: Run(ended=False)}
    assert standing(runs=running, ending=Ending("policy", MORNING, made=True), now=now).standing is (
        Standing.PROTECTED
    )
    late = EVENING + timedelta(hours=4)
    assert standing(runs=running, ending=Ending("policy", MORNING, made=True), now=late).standing is (
        Standing.FAILED
    )


@pytest.mark.parametrize("before", [Standing.PROTECTED, Standing.FAILED])
def test_a_day_without_a_slot_leaves_an_instance_where_it_stood(before: Standing):
    earlier = Judged(before, "as of Monday")
    assert standing(schedule=SUNDAYS, before={INSTANCE.instance_id: earlier}) == earlier


def test_without_an_earlier_ledger_the_newest_restore_point_counts():
    found = standing(schedule=SUNDAYS, newest=lambda _: START - timedelta(days=6))
    assert found == (
        Standing.PROTECTED,
        "newest restore point of 2026-11-16 00:00 UTC; none was due since",
    )
    unseen = {INSTANCE.instance_id: Judged(Standing.UNREACHABLE, "denied")}
    found = standing(schedule=SUNDAYS, before=unseen)
    assert found == (Standing.NOT_SELECTED, "no session of policy 'policy' was due since it appeared")


def test_slots_from_before_a_policy_was_there_do_not_count():
    found = standing(
        runs={EVENING: WENT_WELL},
        ending=Ending("policy", EVENING, made=True),
        counts_from={"policy": EVENING},
    )
    assert found.standing is Standing.PROTECTED
    assert standing(counts_from={"policy": END}).standing is Standing.NOT_SELECTED


def test_sessions_of_sla_policies_are_looked_up_region_by_region():
    made = configuration(
        sla_policies=[BASIS | {"sla_template": "t", "regions": [REGION, "eu-west-1"]}],
        sla_templates=[
            {"name": "t", "snapshots": {"daily": {"hours": 24}}, "snapshot_window": {"start": "12:00"}}
        ],
        region_time_zones={REGION: "UTC"},
    )
    (owner,) = made.sla_policies
    noon = START.replace(hour=12)
    other = Record(made, START, END, NOW, runs={session_id("policy", noon, "eu-west-1"): WENT_WELL})
    assert other.standing_of(INSTANCE, owner).standing is Standing.FAILED
    own = Record(
        made,
        START,
        END,
        NOW,
        runs={session_id("policy", noon, REGION): WENT_WELL},
        endings={INSTANCE.instance_id: Ending("policy", noon, made=True)},
    )
    assert own.standing_of(INSTANCE, owner).standing is Standing.PROTECTED
