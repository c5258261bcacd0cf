"""Closing a day of an SLA-based policy: what the ledger says, and that it is written once."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from typing import Any

import pytest

from holdfast.errors import AccessDeniedError, ConfigurationError
from holdfast.model.restore_point import Kind
from holdfast.operations.sessions.start_session import StartSession, start_session
from holdfast.operations.sla.close_window import CloseWindow, close_window
from holdfast.operations.sla.sla_records import Page, pages, read_day
from holdfast.planning.compliance import Share, joined
from tests.session_play import Crash, play_session, step
from tests.session_world import ACCOUNT, POLICY, REGION, SessionWorld
from tests.sla_world import close, play_slot, report, sla_configuration

MONDAY = date(2026, 11, 23)
TUESDAY = MONDAY + timedelta(days=1)
WEST = "eu-west-1"


def at(hour: int, minute: int = 0, on: date = MONDAY) -> datetime:
    return datetime(on.year, on.month, on.day, hour, minute, tzinfo=UTC)


def run_day(world: SessionWorld, on: date = MONDAY, hours: tuple[int, ...] = (8, 10, 12, 14)) -> None:
    for hour in hours:
        play_slot(world, at(hour, on=on))


def page(world: SessionWorld, on: date = MONDAY, kind: Kind = Kind.SNAPSHOT) -> Page:
    (found,) = [
        one for one in pages(POLICY, world.catalog, f"{on}/") if (one.entry.on, one.entry.kind) == (on, kind)
    ]
    return found


def shares(world: SessionWorld, on: date = MONDAY, kind: Kind = Kind.SNAPSHOT) -> dict[str, Share]:
    return {one.instance_id: one for one in page(world, on, kind).entry.shares}


def world_of(**parts: object) -> SessionWorld:
    return SessionWorld(sla_configuration(**parts))


def test_a_whole_day_is_rated_with_what_was_expected_and_made():
    world = world_of()
    instance = world.add_instance()
    run_day(world)
    assert close(world, MONDAY, at(16, 5)) == {
        "ready": True,
        "wait_until": "2026-11-23T16:05:00Z",
        "rated": True,
    }
    assert shares(world) == {instance: Share(instance, 4, 4)}
    assert page(world).entry.target == Fraction(97, 100)
    assert world.metrics[-1] == (POLICY, {"SlaMissed": 0, "SlaSnapshotPercent": 100.0})


def test_nothing_is_rated_before_the_windows_of_all_regions_are_closed():
    world = world_of(regions=(REGION, WEST), region_time_zones={REGION: "UTC", WEST: "America/New_York"})
    world.add_instance()
    run_day(world)
    assert close(world, MONDAY, at(16, 5)) == {
        "ready": False,
        "wait_until": "2026-11-23T21:05:00Z",
        "rated": False,
    }
    assert list(pages(POLICY, world.catalog)) == []


def test_the_ledger_waits_for_a_session_that_still_runs_then_goes_on_without_it_and_says_so():
    world = world_of()
    world.add_instance()
    run_day(world, hours=(8, 10, 12))
    world.clock.current = at(14)
    event = {"policy": POLICY, "region": REGION, "scheduled_at": at(14).isoformat()}
    hanging = step(StartSession, start_session, event, world)["session_id"]
    answer = close(world, MONDAY, at(16, 5))
    assert (answer["ready"], answer["wait_until"]) == (False, "2026-11-23T16:10:00Z")
    assert close(world, MONDAY, at(16, 5, on=TUESDAY))["ready"] is True
    record = read_day(POLICY, MONDAY, world.catalog)
    assert record is not None
    assert record.unfinished == (hanging,)
    assert [(one.made, one.expected) for one in page(world).entry.shares] == [(3, 4)]
    report(world, MONDAY)
    assert "had not ended" in world.notifier.mails[-1].text


def test_a_session_that_outlasts_its_window_ends_as_any_other_and_counts():
    world = world_of()
    instance = world.add_instance()
    run_day(world, hours=(8, 10, 12))
    world.clock.current = at(14)
    event = {"policy": POLICY, "region": REGION, "scheduled_at": at(14).isoformat()}
    late = step(StartSession, start_session, event, world)["session_id"]
    assert close(world, MONDAY, at(16, 5))["ready"] is False
    world.clock.current = at(17)
    play_session(world, world.executions(REGION).started[late][1])
    assert close(world, MONDAY, at(17, 5))["ready"] is True
    assert shares(world) == {instance: Share(instance, 4, 4)}


def test_a_day_that_nothing_closed_is_rated_with_the_next_one():
    """Its windows were moved before the event of the old ones came, or the only event was lost."""
    world = world_of()
    instance = world.add_instance()
    run_day(world, hours=(8, 10, 12))
    run_day(world, on=TUESDAY)
    assert close(world, TUESDAY, at(16, 5, on=TUESDAY))["rated"] is True
    assert shares(world) == {instance: Share(instance, 4, 3)}
    assert shares(world, TUESDAY) == {instance: Share(instance, 4, 4)}
    record = read_day(POLICY, MONDAY, world.catalog)
    assert record is not None
    assert list(record.members) == [instance]


def test_a_repeat_leaves_the_ledger_as_it_was_written():
    world = world_of()
    instance = world.add_instance()
    run_day(world, hours=(8, 10, 12))
    close(world, MONDAY, at(16, 5))
    before = page(world)
    for point in list(world.catalog.points(instance)):
        world.catalog.remove_point(point)
    close(world, MONDAY, at(17))
    assert page(world) == before
    assert before.entry.shares[0].made == 3


def test_retention_is_started_once_when_the_day_is_closed():
    world = world_of()
    world.add_instance()
    run_day(world)
    close(world, MONDAY, at(16, 5))
    close(world, MONDAY, at(16, 6))
    retentions = [
        event
        for machine, event in world.executions(REGION).started.values()
        if machine.endswith(":holdfast-retention")
    ]
    assert retentions == [{"policy": POLICY}]


def test_two_events_of_a_closing_window_close_one_day():
    world = world_of(regions=(REGION, WEST))
    world.clock.current = at(16)
    answers = [
        step(
            CloseWindow,
            close_window,
            {"policy": POLICY, "region": region, "scheduled_at": at(16).isoformat()},
            world,
        )
        for region in (REGION, WEST, REGION)
    ]
    assert [one["started"] for one in answers] == [True, False, False]
    (started,) = world.executions(REGION).started.values()
    assert started[1] == {"policy": POLICY, "day": "2026-11-23"}


def test_a_policy_with_schedules_has_no_windows_to_close():
    world = SessionWorld()
    with pytest.raises(ConfigurationError, match="SLA-based"):
        close_window(CloseWindow(policy=POLICY, region=REGION, scheduled_at=at(16)), world)


def test_a_policy_that_was_taken_out_meanwhile_owes_nothing_and_disturbs_nobody():
    world = SessionWorld()  # Its policy of this name has schedules by now.
    assert close(world, MONDAY, at(16, 5))["rated"] is False
    assert report(world, MONDAY)["told"] is False
    assert world.executions(REGION).started == {}


def test_an_instance_that_joined_in_the_window_is_credited_for_what_was_over():
    world = world_of()
    first = world.add_instance(1)
    run_day(world, hours=(8, 10))
    second = world.add_instance(2)
    run_day(world, hours=(12, 14))
    close(world, MONDAY, at(16, 5))
    assert shares(world) == {first: Share(first, 4, 4), second: Share(second, 4, 2, credited=2)}


def test_a_policy_that_was_deployed_in_the_window_is_credited_for_the_slots_before_it():
    world = world_of()
    instance = world.add_instance()
    run_day(world, hours=(12, 14))
    close(world, MONDAY, at(16, 5))
    assert shares(world)[instance].ratio == 1


def test_slots_of_an_unreachable_account_are_owed_although_the_instance_is_new():
    world = world_of()
    instance = world.add_instance()
    world.refused[ACCOUNT] = AccessDeniedError("The role refuses.", resource=ACCOUNT)
    run_day(world, hours=(8, 10))
    world.refused.clear()
    run_day(world, hours=(12, 14))
    close(world, MONDAY, at(16, 5))
    assert shares(world)[instance] == Share(instance, 4, 2)


def test_an_instance_of_an_account_that_was_unreachable_all_day_owes_everything():
    world = world_of()
    instance = world.add_instance()
    run_day(world)
    close(world, MONDAY, at(16, 5))
    world.refused[ACCOUNT] = AccessDeniedError("The role refuses.", resource=ACCOUNT)
    run_day(world, TUESDAY)
    close(world, TUESDAY, at(16, 5, on=TUESDAY))
    assert shares(world, TUESDAY) == {instance: Share(instance, 4, 0)}
    assert world.metrics[-1] == (POLICY, {"SlaMissed": 1, "SlaSnapshotPercent": 0.0})


def test_a_day_without_any_session_is_owed_by_those_whom_the_day_before_knew():
    world = world_of()
    instance = world.add_instance()
    run_day(world)
    close(world, MONDAY, at(16, 5))
    close(world, TUESDAY, at(16, 5, on=TUESDAY))
    assert shares(world, TUESDAY) == {instance: Share(instance, 4, 0)}


def test_an_instance_that_left_in_the_window_is_removed_and_one_that_left_outside_is_hidden():
    world = world_of()
    stays, inside, outside = (world.add_instance(number) for number in (1, 2, 3))
    run_day(world)
    close(world, MONDAY, at(16, 5))
    machines = world.spoke(POLICY, ACCOUNT, REGION).machines
    machines.pop(outside)
    run_day(world, TUESDAY, hours=(8, 10))
    machines.pop(inside)
    run_day(world, TUESDAY, hours=(12, 14))
    close(world, TUESDAY, at(16, 5, on=TUESDAY))
    assert shares(world, TUESDAY) == {
        stays: Share(stays, 4, 4),
        inside: Share(inside, 4, 2, removed=True),
    }
    record = read_day(POLICY, TUESDAY, world.catalog)
    assert record is not None
    assert set(record.members) == {stays}


def test_temporary_snapshots_count_for_nothing():
    template = {"backups": {"daily": {"hours": 4}}, "backup_window": {"start": "08:00", "end": "16:00"}}
    world = world_of(template=template)
    instance = world.add_instance()
    run_day(world, hours=(8, 12))
    assert [one.temporary for one in world.catalog.points(instance, Kind.SNAPSHOT)] == [True]
    close(world, MONDAY, at(16, 5))
    assert [one.entry.kind for one in pages(POLICY, world.catalog)] == [Kind.BACKUP]
    assert shares(world, kind=Kind.BACKUP) == {instance: Share(instance, 2, 2)}


def replicate(world: SessionWorld, instance: str, hour: int, on: date) -> None:
    """What replicate_snapshots leaves behind of the session of one slot."""
    slot = at(hour, on=on)
    (source,) = [one for one in world.catalog.points(instance, Kind.SNAPSHOT) if one.taken_at == slot]
    world.catalog.add_point(source.model_copy(update={"kind": Kind.REPLICA, "region": WEST}))


def test_a_weekly_replica_is_owed_on_one_day_and_a_late_one_makes_up_for_it():
    weekly = {
        "snapshots": {"daily": {"hours": 2}},
        "snapshot_window": {"start": "08:00", "end": "16:00"},
        "replicas": {"every": "week"},
    }
    replication = [{"source_region": REGION, "region": WEST}]
    world = world_of(template=weekly, replication=replication)
    instance = world.add_instance()
    run_day(world)
    close(world, MONDAY, at(16, 5))
    run_day(world, TUESDAY)
    replicate(world, instance, 10, TUESDAY)
    close(world, TUESDAY, at(16, 5, on=TUESDAY))
    wednesday = TUESDAY + timedelta(days=1)
    run_day(world, wednesday)
    close(world, wednesday, at(16, 5, on=wednesday))
    assert shares(world, MONDAY, Kind.REPLICA) == {instance: Share(instance, 1, 0)}
    assert shares(world, TUESDAY, Kind.REPLICA) == {instance: Share(instance, 0, 1)}
    entries = [one.entry for one in pages(POLICY, world.catalog) if one.entry.kind is Kind.REPLICA]
    assert [one.on for one in entries] == [MONDAY, TUESDAY]
    assert joined(entries) == (Share(instance, 1, 1),)


def test_a_day_on_which_nothing_is_due_has_no_ledger_and_retention_runs():
    weekly = {
        "snapshots": {"weekly": {"days": ["tue"]}},
        "snapshot_window": {"start": "08:00", "end": "16:00"},
    }
    world = world_of(template=weekly)
    world.add_instance()
    assert close(world, MONDAY, at(16, 5))["rated"] is False
    assert len(world.executions(REGION).started) == 1


def test_a_policy_that_is_switched_off_owes_nothing():
    world = world_of()
    world.add_instance()
    run_day(world)
    close(world, MONDAY, at(16, 5))
    world.catalog.switch_policy(POLICY, off=True)
    run_day(world, TUESDAY)
    assert close(world, TUESDAY, at(16, 5, on=TUESDAY))["rated"] is False


def test_a_crash_between_ledger_and_retention_is_completed_by_the_repeat():
    world = world_of()
    instance = world.add_instance()
    run_day(world)
    executions = world.executions(REGION)
    start = executions.start

    def die(*arguments: object) -> bool:
        executions.start = start
        raise Crash

    executions.start = die  # type: ignore[method-assign]
    assert close(world, MONDAY, at(16, 5))["rated"] is True
    assert any(machine.endswith("retention") for machine, _ in executions.started.values())
    assert shares(world) == {instance: Share(instance, 4, 4)}


@pytest.mark.parametrize("survived", range(6))
def test_a_crash_at_any_write_is_completed_to_the_same_ledger_by_the_repeat(survived: int):
    both = {
        "snapshots": {"daily": {"hours": 2}},
        "snapshot_window": {"start": "08:00", "end": "16:00"},
        "backups": {"daily": {"hours": 4}},
        "backup_window": {"start": "08:00", "end": "16:00"},
    }
    ledgers = []
    for dies in (False, True):
        world = world_of(template=both)
        world.add_instance(1)
        run_day(world, hours=(8, 10))
        world.add_instance(2)
        run_day(world, hours=(12, 14))
        world.clock.current = at(16, 5)
        if dies:
            crash_after(world, survived)
        assert close(world, MONDAY)["rated"] is True
        report(world, MONDAY)
        ledgers.append(list(pages(POLICY, world.catalog)))
        assert len(world.notifier.mails) in (1, 1 + dies)
    assert ledgers[0] == ledgers[1]
    assert [page.entry.kind for page in ledgers[0]] == [Kind.BACKUP, Kind.SNAPSHOT]


def crash_after(world: SessionWorld, writes: int) -> None:
    """The sandbox dies once, right after so many writes of parts from now."""
    write, left = world.catalog.write_part, [writes]

    def counted(*arguments: Any, **options: Any) -> bool:
        done = write(*arguments, **options)
        left[0] -= 1
        if left[0] == -1:
            raise Crash
        return done

    world.catalog.write_part = counted  # type: ignore[method-assign]


def test_the_skipped_hour_of_sydney_is_no_slot_that_anybody_owes():
    sunday = date(2026, 10, 4)  # 02:00 becomes 03:00 at 16:00 UTC of the 3rd
    night = {"snapshots": {"daily": {"hours": 1}}, "snapshot_window": {"start": "00:00", "end": "05:00"}}
    world = world_of(template=night, region_time_zones={REGION: "Australia/Sydney"})
    instance = world.add_instance()
    for hour in (14, 15, 16, 17):
        play_slot(world, datetime(2026, 10, 3, hour, tzinfo=UTC))
    world.clock.current = datetime(2026, 10, 3, 18, tzinfo=UTC)
    event = {"policy": POLICY, "region": REGION, "scheduled_at": world.clock.now().isoformat()}
    assert step(CloseWindow, close_window, event, world)["day"] == sunday.isoformat()
    assert close(world, sunday)["wait_until"] == "2026-10-03T18:05:00Z"
    close(world, sunday, datetime(2026, 10, 3, 18, 5, tzinfo=UTC))
    assert shares(world, sunday) == {instance: Share(instance, 4, 4)}


def test_a_closing_event_of_a_policy_that_is_gone_names_the_policies_that_are_there():
    world = world_of()
    with pytest.raises(ConfigurationError, match=POLICY):
        close_window(CloseWindow(policy="gone", region=REGION, scheduled_at=at(16)), world)
