"""A slot becomes one session, whatever happens to the events that mean it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from holdfast.errors import ConfigurationError
from holdfast.operations.sessions.start_session import StartSession, start_session
from tests.session_world import POLICY, REGION, START, SessionWorld, configured


def started(world: SessionWorld) -> dict[str, tuple[str, dict[str, object]]]:
    return world.executions(REGION).started


def at_seven(**changes: object) -> StartSession:
    return StartSession.model_validate({"policy": POLICY, "scheduled_at": START.isoformat(), **changes})


def test_a_slot_starts_one_execution_named_as_the_session():
    world = SessionWorld()
    answer = start_session(at_seven(), world)
    machine, event = started(world)[answer["session_id"]]
    assert answer["started"]
    assert machine == world.settings.session_machine_arn
    assert event == {
        "session_id": answer["session_id"],
        "policy": POLICY,
        "slot": "2026-11-22T07:00:00+00:00",
        "manual": False,
        "only_regions": [],
        "snapshot_flags": "D",
        "temporary": False,
        "replica_flags": None,
        "backup_flags": "D",
    }


def test_an_hour_without_backup_plans_none():
    world = SessionWorld()
    answer = start_session(at_seven(scheduled_at="2026-11-22T08:00:00Z"), world)
    assert started(world)[answer["session_id"]][1]["backup_flags"] is None


def test_a_duplicate_event_starts_nothing_twice():
    world = SessionWorld()
    first = start_session(at_seven(), world)
    world.clock.advance(timedelta(seconds=40))
    second = start_session(at_seven(), world)
    assert second == {
        "session_id": first["session_id"],
        "started": False,
        "reason": "The session of this slot was started before.",
    }
    assert len(started(world)) == 1
    assert world.catalog.read_session(first["session_id"]).started_at == START


def test_seconds_of_the_scheduler_do_not_make_another_session():
    world = SessionWorld()
    first = start_session(at_seven(), world)
    late = start_session(at_seven(scheduled_at="2026-11-22T07:00:42Z"), world)
    assert late["session_id"] == first["session_id"]
    assert len(started(world)) == 1


def test_a_crash_between_record_and_execution_is_made_good_by_the_repeated_event():
    world = SessionWorld()
    first = start_session(at_seven(), world)
    started(world).clear()
    assert start_session(at_seven(), world)["started"] is False
    assert list(started(world)) == [first["session_id"]]


def test_a_disabled_policy_does_not_run_and_says_so():
    world = SessionWorld(configured(enabled=False))
    answer = start_session(at_seven(), world)
    assert (answer["started"], answer["reason"]) == (False, "The policy is disabled in the configuration.")
    assert started(world) == {}
    assert world.catalog.session_records == {}


def test_a_policy_that_was_switched_off_does_not_run_and_says_so():
    world = SessionWorld()
    world.catalog.switch_policy(POLICY, off=True)
    assert "switched" in start_session(at_seven(), world)["reason"]
    assert started(world) == {}


def test_an_instant_that_no_schedule_selects_starts_nothing():
    world = SessionWorld(configured(daily={"snapshots": {"hours": [9]}}))
    assert (
        start_session(at_seven(), world)["reason"]
        == "No schedule of the policy selects 2026-11-22 07:00 UTC."
    )
    assert started(world) == {}


def test_a_person_may_run_a_disabled_policy_with_the_flag_of_its_most_frequent_schedule():
    world = SessionWorld(configured(enabled=False))
    world.clock.current = datetime(2026, 11, 22, 13, 37, 5, 250_000, tzinfo=UTC)
    answer = start_session(StartSession(policy=POLICY, manual=True), world)
    event = started(world)[answer["session_id"]][1]
    assert answer["session_id"].startswith("20261122T133705Z-")
    assert (event["manual"], event["snapshot_flags"], event["backup_flags"]) == (True, "D", "D")


def test_a_manual_run_in_the_second_of_a_slot_takes_nothing_from_the_slot():
    world = SessionWorld()
    manual = start_session(StartSession(policy=POLICY, manual=True), world)
    scheduled = start_session(StartSession(policy=POLICY, scheduled_at=world.clock.now()), world)
    assert (manual["started"], scheduled["started"]) == (True, True)
    assert world.catalog.read_session(scheduled["session_id"]).manual is False


def test_a_manual_run_of_a_policy_without_schedules_carries_no_flag():
    world = SessionWorld(configured(daily=None))
    answer = start_session(StartSession(policy=POLICY, manual=True), world)
    event = started(world)[answer["session_id"]][1]
    assert (event["snapshot_flags"], event["backup_flags"]) == ("-", "-")


def test_an_unknown_policy_is_refused_with_the_names_that_exist():
    with pytest.raises(ConfigurationError, match="'nightly'; the configuration has: daily"):
        start_session(StartSession(policy="nightly", manual=True), SessionWorld())


def test_an_event_with_neither_instant_nor_manual_is_refused():
    with pytest.raises(ConfigurationError, match="neither scheduled_at nor manual"):
        start_session(StartSession(policy=POLICY), SessionWorld())
