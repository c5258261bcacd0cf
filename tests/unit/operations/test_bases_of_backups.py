"""The snapshot that the next backup compares with, and those that a backup still reads: who keeps them."""

from __future__ import annotations

from datetime import timedelta

import pytest

from holdfast.errors import (
    PermanentError,
)
from holdfast.model import tags as names
from holdfast.operations.retention.removal import Doomed, remove_snapshots
from holdfast.operations.sessions.commit_backup import CommitBackup, commit_backup
from holdfast.operations.sessions.conclude_instance import ConcludeInstance, conclude_instance
from holdfast.operations.steps import InstanceStep
from tests.backup_play import (
    HOURS_17,
    a_world,
    base_tags,
    content,
    disk,
    move,
    newest,
    planned,
    ready,
    there,
    write,
)
from tests.session_play import play, play_backup, step
from tests.session_world import (
    REPOSITORY,
    START,
)
from tests.unit.operations.test_take_snapshots import event


def test_the_base_moves_on_with_the_backup():
    world, _ = a_world(sizes=(1, 1))
    play(world)
    first = base_tags(world)
    play(world, START + timedelta(hours=1))
    assert base_tags(world) == first
    play(world, HOURS_17)
    second = base_tags(world)
    assert (set(first.values()), set(second.values())) == ({REPOSITORY}, {REPOSITORY})
    assert len(second) == 2
    assert first.keys().isdisjoint(second)


def test_no_base_is_kept_where_every_schedule_keeps_no_snapshot():
    world, instance_id = a_world(
        daily={"snapshots": {"hours": [7, 17], "keep": 0}, "backups": {"hours": [7, 17]}}
    )
    play(world)
    assert (base_tags(world), there(world).snapshots) == ({}, {})
    outcome = world.outcomes(play(world, HOURS_17)["session_id"])[instance_id]
    assert (outcome.full, outcome.state) == (True, "Success")


def test_a_base_that_cannot_be_marked_is_a_warning_and_the_backup_stands():
    world, instance_id = a_world()
    complete = ready(world, instance_id)
    there(world).faults["tag_snapshot"] = [PermanentError("denied ec2:CreateTags")]
    committed = play_backup(world, complete, complete)
    assert committed["warnings"] == [
        "The snapshot for the next comparison could not be marked: denied ec2:CreateTags"
    ]
    assert newest(world, instance_id).point_id == complete["point_id"]


def test_retention_keeps_the_snapshot_that_a_long_first_backup_still_reads():
    world, instance_id = a_world()
    complete = ready(world, instance_id)
    plan, items = planned(world, complete)
    for number in (1, 2, 3):
        assert play(world, START + timedelta(hours=number))["state"] == "Success"
    read = complete["snapshots"][0]["snapshot_id"]
    assert there(world).snapshots[read].tags[names.IN_USE] == "20261122T070000Z"
    for item in items:
        move(world, complete, plan, item)
    step(CommitBackup, commit_backup, {**complete, **plan}, world)
    assert names.IN_USE not in there(world).snapshots[read].tags
    assert base_tags(world) == {read: REPOSITORY}
    assert content(world, newest(world, instance_id)) == world.disks[disk(world, instance_id)]


def test_the_mark_of_a_backup_that_was_given_up_keeps_its_snapshot_for_a_week_only():
    world, instance_id = a_world()
    read = ready(world, instance_id)["snapshots"][0]["snapshot_id"]
    present = []
    for at in (timedelta(days=6, hours=1), timedelta(days=6, hours=2), timedelta(days=7, hours=1)):
        play(world, START + at)
        present.append(read in there(world).snapshots)
    assert present[0]
    assert not present[-1]


def test_a_snapshot_marked_as_in_use_is_not_removed_whatever_the_verdict():
    world, instance_id = a_world()
    read = ready(world, instance_id)["snapshots"][0]["snapshot_id"]
    doomed = Doomed([there(world).snapshots[read].shown()], "a wrong verdict")
    later = InstanceStep.model_validate(event(instance_id, session_id="20261122T080000Z-daily-1"))
    for value in ("20261122T070000Z", "edited"):
        there(world).snapshots[read].tags[names.IN_USE] = value
        (problem,) = remove_snapshots(doomed, later, there(world), world)
        assert "may still be reading it" in problem.message
    assert read in there(world).snapshots


@pytest.mark.parametrize("attempt, marked", [(0, True), (1, False)])
def test_only_the_last_failed_attempt_releases_the_snapshot(attempt: int, marked: bool):
    world, instance_id = a_world(retries=1)
    complete = ready(world, instance_id)
    ended = {"stage": "backup", "taken": complete, "error": {"Error": "PermanentError"}, "attempt": attempt}
    step(ConcludeInstance, conclude_instance, {**complete, **ended}, world)
    (left,) = there(world).snapshots.values()
    assert (names.IN_USE in left.tags) is marked


def test_a_backup_that_a_later_one_has_overtaken_does_not_take_the_base_from_it():
    world, instance_id = a_world()
    slow = ready(world, instance_id)
    plan, items = planned(world, slow)
    write(world, disk(world, instance_id), {9: "later"})
    play(world, HOURS_17)
    later = base_tags(world)
    for item in items:
        move(world, slow, plan, item)
    step(CommitBackup, commit_backup, {**slow, **plan}, world)
    assert base_tags(world) == later
    assert len(list(world.repository(REPOSITORY).list_points(instance_id))) == 2
    world.ebs.reads.clear()
    play(world, START + timedelta(days=1))
    assert world.ebs.reads == []
    assert content(world, newest(world, instance_id)) == world.disks[disk(world, instance_id)]


def test_a_base_for_a_repository_that_is_no_target_any_more_is_released():
    world, _ = a_world()
    play(world)
    (base,) = base_tags(world)
    there(world).snapshots[base].tags[names.BASE] = "earlier"
    play(world, HOURS_17)
    assert set(base_tags(world).values()) == {REPOSITORY}
    assert base not in base_tags(world)


def test_the_base_of_another_policy_in_its_own_repository_stays():
    world, _ = a_world()
    play(world)
    (base,) = base_tags(world)
    there(world).snapshots[base].tags |= {names.BASE: "other", names.POLICY: "weekly"}
    play(world, HOURS_17)
    assert base_tags(world)[base] == "other"
