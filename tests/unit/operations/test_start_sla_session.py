"""Sessions of SLA-based policies begin: by the clock of their Region, or at once inside an open window."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import pytest

from holdfast.errors import ConfigurationError
from holdfast.model.restore_point import Kind
from holdfast.operations.sessions.start_session import StartSession, start_session
from holdfast.operations.sla.sla_records import noted_sessions
from tests.session_play import play_session
from tests.session_world import POLICY, REGION, SessionWorld, configured
from tests.sla_world import close, play_slot, sla_configuration

BOTH = {
    "snapshots": {"daily": {"hours": 2}, "weekly": {"days": ["mon"]}},
    "snapshot_window": {"start": "08:00", "end": "12:00"},
    "backups": {"daily": {"hours": 4}},
    "backup_window": {"start": "10:00", "end": "18:00"},
}
MONDAY = date(2026, 11, 23)


def at(hour: int, minute: int = 0) -> datetime:
    return datetime(2026, 11, 23, hour, minute, tzinfo=UTC)


def begin(world: SessionWorld, when: datetime, **event: Any) -> dict[str, Any]:
    world.clock.current = when
    request = StartSession.model_validate({"policy": POLICY, "region": REGION, **event})
    return start_session(request, world)


def started(world: SessionWorld) -> dict[str, Any]:
    (event,) = [event for _, event in world.executions(REGION).started.values()]
    return event


@pytest.mark.parametrize(
    "hour, temporary, backup",
    [(8, False, None), (10, False, "-"), (14, True, "-")],
    ids=["a snapshot alone", "a snapshot that the backup reuses", "a backup with a snapshot of its own"],
)
def test_what_is_due_at_a_slot_decides_what_its_session_makes(hour: int, temporary: bool, backup: str | None):
    world = SessionWorld(sla_configuration(BOTH))
    assert begin(world, at(hour), scheduled_at=at(hour))["started"] is True
    event = started(world)
    assert (event["temporary"], event["backup_flags"]) == (temporary, backup)
    assert event["only_regions"] == [REGION]


def test_inside_an_open_window_a_session_starts_at_once_and_earns_flags_as_usual():
    world = SessionWorld(sla_configuration(BOTH))
    instance = world.add_instance()
    answer = begin(world, at(11, 17), now=True)
    assert answer["started"] is True
    play_session(world, started(world))
    (snapshot,) = world.catalog.points(instance, Kind.SNAPSHOT)
    (backup,) = world.catalog.points(instance, Kind.BACKUP)
    assert ("".join(sorted(snapshot.flags)), "".join(sorted(backup.flags))) == ("DW", "D")
    assert snapshot.temporary is False
    close(world, MONDAY, at(18, 5))
    assert dict(noted_sessions(POLICY, MONDAY, world.catalog)).keys() == {answer["session_id"]}


def test_after_the_snapshot_window_only_a_backup_starts_at_once():
    world = SessionWorld(sla_configuration(BOTH))
    begin(world, at(13), now=True)
    event = started(world)
    assert (event["temporary"], event["backup_flags"]) == (True, "-")


def test_outside_of_every_window_nothing_starts_and_the_reason_is_told():
    world = SessionWorld(sla_configuration(BOTH))
    answer = begin(world, at(19), now=True)
    assert answer["started"] is False
    assert "No window" in answer["reason"]
    assert world.executions(REGION).started == {}


def test_a_session_that_started_at_once_takes_the_weekly_flag_of_its_day():
    world = SessionWorld(sla_configuration(BOTH))
    instance = world.add_instance()
    begin(world, at(8, 30), now=True)
    play_session(world, started(world))
    play_slot(world, at(10))
    flags = ["".join(sorted(one.flags)) for one in world.catalog.points(instance, Kind.SNAPSHOT)]
    assert flags == ["DW", "D"]


@pytest.mark.parametrize(
    "event, said",
    [
        ({"region": "eu-west-1", "now": True}, "does not protect"),
        ({}, "neither scheduled_at nor now"),
        ({"manual": True}, "by itself inside its windows"),
    ],
)
def test_an_event_that_an_sla_policy_cannot_follow_is_refused(event: dict[str, Any], said: str):
    world = SessionWorld(sla_configuration(BOTH))
    with pytest.raises(ConfigurationError, match=said):
        begin(world, at(10), **event)


def test_a_policy_with_schedules_does_not_take_now_for_an_instant():
    world = SessionWorld()
    with pytest.raises(ConfigurationError, match="neither scheduled_at nor manual"):
        start_session(StartSession(policy=POLICY, now=True), world)


def test_the_day_knows_of_a_session_before_it_begins():
    world = SessionWorld(sla_configuration(BOTH))

    def lost(*_: object, **__: object) -> bool:
        raise ConfigurationError("The table does not answer.")

    world.catalog.begin_session = lost  # type: ignore[method-assign]
    with pytest.raises(ConfigurationError):
        begin(world, at(10), scheduled_at=at(10))
    ((_, noted),) = noted_sessions(POLICY, MONDAY, world.catalog)
    assert noted["days"] == {"snapshot": "2026-11-23", "backup": "2026-11-23"}
    assert close(world, MONDAY, at(18, 5))["ready"] is True


def test_an_sla_policy_owns_what_a_policy_with_schedules_selects_too():
    lower = configured().model_dump(exclude_defaults=True)["policies"][0] | {
        "name": "scheduled",
        "priority": 1,
    }
    world = SessionWorld(sla_configuration(BOTH, policies=[lower]))
    instance = world.add_instance()
    play_slot(world, at(8))
    world.clock.current = at(9)
    event = {"policy": "scheduled", "scheduled_at": at(9).isoformat()}
    begun = start_session(StartSession.model_validate(event), world)
    ended = play_session(world, world.executions(REGION).started[begun["session_id"]][1])
    assert world.outcomes(ended["session_id"]) == {}
    assert {point.policy for point in world.catalog.points(instance)} == {POLICY}
