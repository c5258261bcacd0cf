"""What retention removes of a chain of snapshots, and what it keeps."""

from __future__ import annotations

from datetime import timedelta

import pytest

from holdfast.errors import AccessDeniedError, ConflictError, ThrottledError
from holdfast.model import tags as names
from holdfast.model.restore_point import Kind
from holdfast.operations.retention.removal import Doomed, remove_snapshots
from holdfast.operations.steps import InstanceStep
from tests.session_play import play
from tests.session_world import REPOSITORY, SessionWorld, Snapshot, configured
from tests.spoilt_chains import a_world, chain, deleted, hour, retain, retain_at, there
from tests.unit.operations.test_take_snapshots import event


def test_the_worked_example_of_changed_block_tracking():
    """CBT-1: two are kept, and the one that the next backup compares with."""
    world, _ = a_world()
    seen = []
    for number in (7, 9, 11, 13, 15, 17):
        play(world, hour(number))
        seen.append(chain(world))
    assert seen == [
        ["07*"],
        ["07*", "09"],
        ["07*", "09", "11"],
        ["07*", "11", "13"],
        ["07*", "13", "15"],
        ["15", "17*"],
    ]


def test_the_catalog_follows_the_snapshots():
    world, instance_id = a_world()
    for number in (7, 8, 9, 10):
        play(world, hour(number))
    points = [f"{point.taken_at:%H}" for point in world.catalog.points(instance_id, Kind.SNAPSHOT)]
    assert points == ["07", "09", "10"]
    assert all(point.complete for point in world.catalog.points(instance_id))


def test_every_removal_was_recorded_with_its_reason_before_it_happened():
    world, instance_id = a_world(repository="", daily={"snapshots": {"hours": list(range(24)), "keep": 1}})
    play(world, hour(7))
    seen_at_deletion: list[bool] = []
    there(world).faults["delete_snapshot"] = [
        lambda: seen_at_deletion.append(
            any(part.startswith("removal/") for _, part in world.catalog.part_records)
        )
    ]
    last = play(world, hour(8))
    ((_, body),) = world.catalog.parts(last["session_id"], "removal/")
    assert seen_at_deletion == [True]
    assert body["reason"] == "the daily schedule keeps the newest 1"
    assert len(body["snapshots"]) == 2
    assert instance_id


def test_a_verdict_that_is_not_true_any_more_is_taken_back_while_nothing_is_gone():
    world, instance_id = a_world(repository="", daily={"snapshots": {"hours": list(range(24)), "keep": 1}})
    play(world, hour(7))
    there(world).faults["read_snapshots"] = [lambda: None, AccessDeniedError("denied")]
    play(world, hour(8))
    assert [point.complete for point in world.catalog.points(instance_id)] == [False, True]
    world.configuration = configured(
        repository="", daily={"snapshots": {"hours": list(range(24)), "keep": 5}}
    )
    play(world, hour(9))
    assert [point.complete for point in world.catalog.points(instance_id)] == [True, True, True]
    assert chain(world) == ["07", "08", "09"]


def test_the_base_is_never_removed_even_when_its_verdict_is_wrong():
    world, instance_id = a_world()
    play(world, hour(7))
    base = [one.shown() for one in there(world).snapshots.values() if names.BASE in one.tags]
    step = InstanceStep.model_validate(event(instance_id))
    problems = remove_snapshots(Doomed(base, "a wrong verdict"), step, there(world), world)
    assert deleted(world) == []
    assert {problem.code for problem in problems} == {"NotRemoved"}


def test_the_base_is_known_from_the_newest_backup_when_its_tag_was_lost():
    world, _ = a_world()
    play(world, hour(7))
    for one in there(world).snapshots.values():
        one.tags.pop(names.BASE, None)
    for number in (8, 9, 10, 11):
        play(world, hour(number))
    assert chain(world) == ["07", "10", "11"]


def test_a_policy_that_stopped_making_backups_releases_its_base():
    world, _ = a_world()
    play(world, hour(7))
    world.configuration = configured(
        repository="", daily={"snapshots": {"hours": list(range(24)), "keep": 2}}
    )
    for number in (8, 9, 10):
        play(world, hour(number))
    assert chain(world) == ["09", "10"]


def test_a_failed_session_removes_nothing():
    world, instance_id = a_world()
    for number in (7, 8):
        play(world, hour(number))
    there(world).faults["create_snapshots"] = [AccessDeniedError("denied")] * 9
    concluded = play(world, hour(9))
    assert concluded["state"] == "Failed"
    assert (chain(world), deleted(world)) == (["07*", "08"], [])
    assert instance_id


def test_incomplete_sets_do_not_count_as_kept_restore_points():
    world, instance_id = a_world(repository="", daily={"snapshots": {"hours": list(range(24)), "keep": 2}})
    for number in (7, 8):
        play(world, hour(number))
    half = next(one for one in there(world).snapshots.values() if f"{one.started_at:%H}" == "08")
    del there(world).snapshots[half.snapshot_id]
    play(world, hour(9))
    assert chain(world) == ["07", "08", "09"]
    outcome = world.outcomes(play(world, hour(10))["session_id"])[instance_id]
    assert chain(world) == ["08", "09", "10"]
    assert "Somebody deleted or changed a snapshot" in outcome.problems[0].message


def test_a_removal_that_was_interrupted_is_finished_and_never_offered_meanwhile():
    world, instance_id = a_world(repository="", daily={"snapshots": {"hours": list(range(24)), "keep": 1}})
    play(world, hour(7))
    there(world).faults["delete_snapshot"] = [lambda: None, ThrottledError("slow down")]
    play(world, hour(8))
    offered = [point for point in world.catalog.points(instance_id) if point.complete]
    assert [f"{point.taken_at:%H}" for point in offered] == ["08"]
    assert chain(world) == ["07", "08"]
    play(world, hour(9))
    assert chain(world) == ["09"]
    assert len(list(world.catalog.points(instance_id))) == 1


def test_remains_of_a_set_that_never_became_whole_go_in_two_passes_a_day_later():
    world, instance_id = a_world()
    play(world, hour(7))
    real = next(iter(there(world).snapshots.values()))
    remains = Snapshot(
        "snap-0000000000000dead",
        real.volume_id,
        "error",
        hour(7),
        real.size_bytes,
        {**real.tags, names.POINT: "20261121T070000Z-000000000000"},
    )
    remains.tags.pop(names.BASE, None)
    there(world).snapshots[remains.snapshot_id] = remains
    present = []
    for number in (8, 24 + 8, 24 + 9):
        play(world, hour(number))
        present.append(remains.snapshot_id in there(world).snapshots)
    assert present == [True, True, False]
    assert all(point.complete for point in world.catalog.points(instance_id))


def test_a_set_that_is_still_pending_is_left_to_its_session():
    world, instance_id = a_world()
    play(world, hour(7))
    real = next(iter(there(world).snapshots.values()))
    pending = Snapshot(
        "snap-0000000000000beef",
        real.volume_id,
        "pending",
        hour(7) - timedelta(days=9),
        real.size_bytes,
        {**real.tags, names.POINT: "20261113T070000Z-000000000000"},
    )
    pending.tags.pop(names.BASE, None)
    there(world).snapshots[pending.snapshot_id] = pending
    for number in (30, 31, 32):
        retain_at(world, instance_id, number)
    assert pending.snapshot_id in there(world).snapshots


def test_points_that_the_catalog_lost_come_back_before_they_are_judged():
    world, instance_id = a_world()
    for number in (7, 8, 9):
        play(world, hour(number))
    world.catalog.point_records.clear()
    before = chain(world)
    retain_at(world, instance_id, 9)
    assert chain(world) == before
    assert len(list(world.catalog.points(instance_id, Kind.SNAPSHOT))) == 3


def test_points_whose_snapshots_others_deleted_leave_the_catalog():
    world, instance_id = a_world()
    play(world, hour(7))
    there(world).snapshots.clear()
    retain_at(world, instance_id, 8)
    assert len(list(world.catalog.points(instance_id, Kind.SNAPSHOT))) == 1
    retain_at(world, instance_id, 40)
    assert list(world.catalog.points(instance_id, Kind.SNAPSHOT)) == []


def test_a_snapshot_that_cannot_be_removed_is_a_warning_of_its_instance():
    world, instance_id = a_world(repository="", daily={"snapshots": {"hours": list(range(24)), "keep": 1}})
    play(world, hour(7))
    there(world).faults["delete_snapshot"] = [ConflictError("in use by an image", remedy="Deregister it.")]
    outcome = world.outcomes(play(world, hour(8))["session_id"])[instance_id]
    assert outcome.state == "Warning"
    assert (outcome.problems[0].message, outcome.problems[0].remedy) == (
        "in use by an image",
        "Deregister it.",
    )


def test_flags_that_lapse_are_taken_off_the_snapshots():
    weekly = {"time": "07:00", "snapshots": {"days": ["sun"], "keep": 1}}
    world = SessionWorld(
        configured(repository="", daily={"snapshots": {"hours": list(range(24)), "keep": 1}})
    )
    document = world.configuration.model_dump(exclude_defaults=True)
    document["policies"][0]["weekly"] = weekly
    world.configuration = type(world.configuration).model_validate(document)
    instance_id = world.add_instance()
    play(world, hour(7))  # a Sunday
    play(world, hour(8))
    (seven,) = [one for one in there(world).snapshots.values() if f"{one.started_at:%H}" == "07"]
    assert seven.tags[names.FLAGS] == "W"
    points = {f"{p.taken_at:%H}": "".join(sorted(p.flags)) for p in world.catalog.points(instance_id)}
    assert points == {"07": "W", "08": "D"}


def test_snapshots_of_other_policies_of_the_same_instance_are_not_counted():
    world, instance_id = a_world(repository="", daily={"snapshots": {"hours": list(range(24)), "keep": 1}})
    play(world, hour(7))
    for one in there(world).snapshots.values():
        one.tags[names.POLICY] = "yearly"
    play(world, hour(8))
    play(world, hour(9))
    assert chain(world) == ["07", "09"]
    assert instance_id


def test_a_manual_run_without_schedule_is_kept_until_removed_by_hand():
    world, instance_id = a_world(daily=None, repository="")
    play(world, hour(7), manual=True)
    play(world, hour(8), manual=True)
    play(world, hour(9), manual=True)
    assert chain(world) == ["07", "08", "09"]
    assert all(point.manual for point in world.catalog.points(instance_id))


def test_the_newest_restore_point_of_every_chain_survives_a_month_of_sessions():
    world, instance_id = a_world(
        daily={"snapshots": {"hours": [7, 17], "keep": 1}, "backups": {"hours": [17]}}
    )
    for day in range(30):
        for number in (7, 17):
            play(world, hour(number + 24 * day))
            newest = max(
                (point for point in world.catalog.points(instance_id, Kind.SNAPSHOT)),
                key=lambda p: p.taken_at,
            )
            assert newest.taken_at == hour(number + 24 * day)
            assert set(newest.snapshot_ids.values()) <= there(world).snapshots.keys()
    assert len(there(world).snapshots) == 2
    assert REPOSITORY in world.stores


def test_an_account_that_cannot_be_read_forgets_no_restore_point():
    world, instance_id = a_world()
    play(world, hour(7))
    point = next(iter(world.catalog.points(instance_id, Kind.SNAPSHOT)))
    there(world).faults["read_snapshots"] = [AccessDeniedError("denied")]
    there(world).snapshots.clear()
    world.clock.current = hour(60)
    with pytest.raises(AccessDeniedError):
        retain(world, instance_id)
    assert list(world.catalog.points(instance_id, Kind.SNAPSHOT)) == [point]
