"""Backups leave their repository in two steps, and only when everything agrees."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from holdfast.errors import PermanentError
from holdfast.model.ids import parse_stamp
from holdfast.model.restore_point import Kind
from holdfast.operations.retention.expire_backups import ExpireBackups, expire_backups
from tests.session_play import play
from tests.session_world import REPOSITORY, START, SessionWorld, configured
from tests.snapshots import block

DAY = timedelta(days=1)


def a_world(backups: int = 3, **changes: Any) -> tuple[SessionWorld, str]:
    """A backup a day from START on, kept for two days."""
    daily = {"snapshots": {"hours": [7], "keep": 1}, "backups": {"hours": [7], "keep": {"days": 2}}}
    world = SessionWorld(configured(**{"daily": daily, **changes}))
    instance_id = world.add_instance()
    world.disks[world.volumes(instance_id)[0].volume_id] = {0: block("boot")}
    for number in range(backups):
        play(world, START + number * DAY)
    return world, instance_id


def expire(world: SessionWorld, at: datetime, **request: Any) -> dict[str, Any]:
    world.clock.current = at
    return expire_backups(ExpireBackups.model_validate(request), world)


def days(world: SessionWorld, instance_id: str) -> list[int]:
    """The days (after START) whose backups are in the repository."""
    return [
        (parse_stamp(name.point_id[:16]) - START).days
        for name in world.repository(REPOSITORY).list_points(instance_id)
    ]


def test_a_backup_goes_a_day_after_it_was_noted():
    world, instance_id = a_world()
    first = expire(world, START + 2 * DAY + timedelta(hours=1))
    assert (first["expired"], first["noted"], first["removed"], days(world, instance_id)) == (
        1,
        1,
        0,
        [0, 1, 2],
    )
    soon = expire(world, START + 2 * DAY + timedelta(hours=20))
    assert (soon["noted"], soon["removed"], days(world, instance_id)) == (0, 0, [0, 1, 2])
    later = expire(world, START + 3 * DAY + timedelta(hours=1))
    assert (later["noted"], later["removed"], days(world, instance_id)) == (1, 1, [1, 2])


def test_the_catalog_forgets_what_was_removed():
    world, instance_id = a_world()
    expire(world, START + 2 * DAY + timedelta(hours=1))
    expire(world, START + 3 * DAY + timedelta(hours=1))
    points = list(world.catalog.points(instance_id, Kind.BACKUP))
    assert [(point.taken_at - START).days for point in points] == [1, 2]


def test_the_catalog_forgets_what_was_removed_under_every_name_of_its_repository():
    world, instance_id = a_world()
    first = next(iter(world.catalog.points(instance_id, Kind.BACKUP)))
    world.catalog.add_point(first.model_copy(update={"repository": "as-it-was-called-before"}))
    expire(world, START + 2 * DAY + timedelta(hours=1))
    expire(world, START + 3 * DAY + timedelta(hours=1))
    points = list(world.catalog.points(instance_id, Kind.BACKUP))
    assert [(point.taken_at - START).days for point in points] == [1, 2]


def test_the_newest_backup_of_an_instance_is_never_removed_by_age_alone():
    world, instance_id = a_world()
    for number in range(10, 40):
        expire(world, START + number * DAY)
    assert days(world, instance_id) == [2]


def test_a_longer_retention_takes_a_note_back():
    world, instance_id = a_world()
    expire(world, START + 2 * DAY + timedelta(hours=1))
    daily = {"snapshots": {"hours": [7], "keep": 1}, "backups": {"hours": [7], "keep": {"days": 60}}}
    world.configuration = configured(daily=daily)
    later = expire(world, START + 4 * DAY)
    assert (later["expired"], later["removed"], days(world, instance_id)) == (0, 0, [0, 1, 2])
    assert [key for key in world.stores[REPOSITORY].objects if key.startswith("candidates/")] == []


def test_a_dry_run_changes_nothing():
    world, _ = a_world()
    before = dict(world.stores[REPOSITORY].objects)
    answer = expire(world, START + 5 * DAY, dry_run=True)
    assert answer["expired"] == 2
    assert world.stores[REPOSITORY].objects == before


def test_points_that_the_catalog_lost_are_judged_by_their_manifests():
    world, instance_id = a_world()
    world.catalog.point_records.clear()
    assert expire(world, START + 2 * DAY + timedelta(hours=1))["expired"] == 1
    assert len(list(world.catalog.points(instance_id, Kind.BACKUP))) == 3


def test_a_damaged_manifest_is_never_removed():
    world, instance_id = a_world()
    world.catalog.point_records.clear()
    name = min(world.repository(REPOSITORY).list_points(instance_id))
    world.stores[REPOSITORY].objects[name.key] = b"rubbish"
    for number in range(3, 9):
        expire(world, START + number * DAY)
    assert name.key in world.stores[REPOSITORY].objects


def test_points_of_a_policy_that_is_gone_stay():
    world, instance_id = a_world()
    document = configured().model_dump(exclude_defaults=True)
    document["policies"][0]["name"] = "another"
    world.configuration = type(world.configuration).model_validate(document)
    for number in range(3, 9):
        expire(world, START + number * DAY)
    assert days(world, instance_id) == [0, 1, 2]


def test_a_repository_that_was_never_used_is_no_problem():
    assert expire(SessionWorld(), START)["judged"] == 0


def test_a_repository_of_another_installation_is_left_and_told():
    world, instance_id = a_world()
    world.repository(REPOSITORY).claim("somebody-else", START, take_over=True)
    with pytest.raises(PermanentError, match="belongs to installation 'somebody-else'"):
        expire(world, START + 5 * DAY)
    assert days(world, instance_id) == [0, 1, 2]


def test_without_time_nothing_is_removed_and_that_is_told():
    world, instance_id = a_world()
    expire(world, START + 2 * DAY + timedelta(hours=1))
    world.seconds_left = 10
    with pytest.raises(PermanentError, match="too many restore points"):
        expire(world, START + 4 * DAY)
    assert days(world, instance_id) == [0, 1, 2]


def test_packs_and_maps_are_never_touched():
    world, _ = a_world()
    kept = {key for key in world.stores[REPOSITORY].objects if key.startswith(("packs/", "maps/"))}
    for number in range(3, 9):
        expire(world, START + number * DAY)
    assert kept <= world.stores[REPOSITORY].objects.keys()
