"""The base of changed block tracking under SLA templates: kept through the pass of the day, then released."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

from holdfast.model import tags as names
from holdfast.model.restore_point import Kind
from holdfast.operations.retention.chain_judges import lift_marks
from holdfast.operations.retention.snapshot_retention import Chain, find_sets, needed_points, retain
from holdfast.planning.protection import rule_of
from holdfast.planning.retention import judge
from tests.session_world import ACCOUNT, POLICY, REGION, REPOSITORY, SessionWorld
from tests.sla_world import play_slot, sla_configuration

MONDAY = date(2026, 1, 5)
AT_SEVEN = {"start": "07:00", "end": "08:00"}
TEMPLATE = {
    "snapshots": {"daily": {"hours": 1, "keep": {"days": 2}}},
    "snapshot_window": AT_SEVEN,
    "backups": {"weekly": {"days": ["mon", "fri"]}},
    "backup_window": AT_SEVEN,
}


def seven(on: date) -> datetime:
    return datetime(on.year, on.month, on.day, 7, tzinfo=UTC)


def pass_over(world: SessionWorld, instance_id: str) -> None:
    """The retention pass of a closed day, over the chain as the tags show it."""
    chain = Chain(Kind.SNAPSHOT, ACCOUNT, REGION, instance_id, "pass", policy=POLICY)
    spoke = world.spoke(POLICY, ACCOUNT, REGION)
    policy = world.configuration.sla_policies[0]
    rule = rule_of(world.configuration, policy, Kind.SNAPSHOT, REGION)
    sets = find_sets(chain, spoke, world)
    retain(
        chain,
        sets,
        lambda points, sets: judge(
            points,
            rule,
            world.clock.now(),
            pinned=set(needed_points(points, sets, REPOSITORY, chain, world)),
        ),
        spoke,
        world,
    )
    left = {
        point: [one for one in found if one.snapshot_id in spoke.snapshots] for point, found in sets.items()
    }
    lift_marks(chain, left, spoke, world)


def kept_days(world: SessionWorld, instance_id: str) -> dict[str, bool]:
    """Weekdays of the snapshots that are there, and whether each is marked as a base."""
    snapshots = world.spoke(POLICY, ACCOUNT, REGION).snapshots.values()
    return {f"{one.started_at:%a}": names.BASE in one.tags for one in snapshots}


def test_the_worked_example_with_two_days_and_backups_on_mondays_and_fridays():
    world = SessionWorld(sla_configuration(TEMPLATE))
    instance = world.add_instance()
    seen = []
    for day in range(6):
        on = MONDAY + timedelta(days=day)
        play_slot(world, seven(on))
        world.clock.current = seven(on)  # The example judges at the instant of the session.
        pass_over(world, instance)
        seen.append(kept_days(world, instance))
    assert seen == [
        {"Mon": True},
        {"Mon": True, "Tue": False},
        {"Mon": True, "Tue": False, "Wed": False},
        {"Mon": True, "Wed": False, "Thu": False},
        {"Mon": False, "Thu": False, "Fri": True},  # Lifted by the pass that has just spared it.
        {"Fri": True, "Sat": False},
    ]
    first, second = sorted(world.catalog.points(instance, Kind.BACKUP), key=lambda one: one.taken_at)
    assert (first.full, second.full) == (True, False)


def test_without_tracking_nothing_is_marked_and_every_snapshot_ages():
    world = SessionWorld(sla_configuration(TEMPLATE | {"cbt": False}))
    instance = world.add_instance()
    play_slot(world, seven(MONDAY))
    assert kept_days(world, instance) == {"Mon": False}


def test_a_temporary_base_goes_as_soon_as_the_next_backup_has_compared_with_it():
    template = {
        "backups": {"daily": {"hours": 4}},
        "backup_window": {"start": "08:00", "end": "16:00"},
    }
    world = SessionWorld(sla_configuration(template))
    instance = world.add_instance()
    hours = []
    for hour in (8, 12):
        play_slot(world, seven(MONDAY).replace(hour=hour))
        snapshots = world.spoke(POLICY, ACCOUNT, REGION).snapshots.values()
        hours.append([(one.started_at.hour, names.BASE in one.tags) for one in snapshots])
    assert hours == [[(8, True)], [(12, True)]]
    assert [one.full for one in world.catalog.points(instance, Kind.BACKUP)] == [True, False]
