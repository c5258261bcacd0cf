"""Plan, move, commit: what is read, what is written, and what a repeated step does."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from holdfast.bootstrap import require_empty
from holdfast.errors import (
    ConfigurationError,
    ConflictError,
    DamagedError,
    PermanentError,
)
from holdfast.model import tags as names
from holdfast.model.blocks import SEGMENT_BLOCKS
from holdfast.model.restore_point import Flag, Kind
from holdfast.operations.sessions.commit_backup import CommitBackup, commit_backup
from holdfast.operations.sessions.move_segment import MoveSegment, move_segment
from holdfast.operations.sessions.plan_backup import PlanBackup, plan_backup
from holdfast.repository.layout import PointName
from tests.backup_play import (
    HOURS_17,
    SEVEN,
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
from tests.memory_store import MemoryStore
from tests.session_play import Failed, play, play_backup, step
from tests.session_world import (
    INSTALLATION,
    POLICY,
    REPOSITORY,
    START,
    SessionWorld,
)
from tests.unit.operations.test_take_snapshots import check, event, take


def test_the_first_backup_reads_every_allocated_block_and_gives_it_back():
    world, instance_id = a_world(sizes=(1, 2))
    concluded = play(world)
    outcome = world.outcomes(concluded["session_id"])[instance_id]
    manifest = newest(world, instance_id)
    assert (outcome.full, outcome.blocks_read, outcome.kinds) == (True, 6, ("snapshot", "backup"))
    assert content(world, manifest, 0) == world.disks[disk(world, instance_id, 0)]
    assert content(world, manifest, 1) == world.disks[disk(world, instance_id, 1)]


def test_the_manifest_carries_what_recreating_the_instance_needs():
    world, instance_id = a_world()
    play(world)
    manifest = newest(world, instance_id)
    assert manifest.configuration == there(world).machines[instance_id]
    assert (manifest.policy, manifest.flags, manifest.taken_at) == (POLICY, frozenset({Flag.DAILY}), START)
    (point,) = world.catalog.points(instance_id, Kind.BACKUP)
    assert (point.root_digest, point.repository, point.complete) == (manifest.root, REPOSITORY, True)


def test_the_next_backup_reads_only_what_changed():
    world, instance_id = a_world(sizes=(1, 2))
    play(world)
    world.ebs.reads.clear()
    write(world, disk(world, instance_id, 1), {7: "new", 9: "more"})
    concluded = play(world, HOURS_17)
    outcome = world.outcomes(concluded["session_id"])[instance_id]
    assert (outcome.full, [index for _, index in world.ebs.reads]) == (False, [7, 9])
    for number in (0, 1):
        volume = disk(world, instance_id, number)
        assert content(world, newest(world, instance_id), number) == world.disks[volume]


def test_segments_without_a_change_are_not_even_listed_for_a_worker():
    world, instance_id = a_world(sizes=(40,))
    play(world)
    write(world, disk(world, instance_id), {SEGMENT_BLOCKS + 5: "x"})
    world.clock.current = HOURS_17
    complete = ready_at(world, instance_id, "20261122T170000Z-daily-1")
    plan, items = planned(world, complete)
    assert (plan["segments"], [item["segment"][0] for item in items]) == (1, [1])
    assert items[0]["base_snapshot_id"] != ""


def ready_at(world: SessionWorld, instance_id: str, session_id: str) -> dict[str, Any]:
    taken = take(world, instance_id, session_id=session_id, slot=world.clock.now(), **SEVEN)
    complete = {**event(instance_id, session_id=session_id, slot=world.clock.now(), **SEVEN), **taken}
    check(world, instance_id, taken, session_id=session_id, slot=world.clock.now())
    return complete


def test_listing_changes_is_bounded_by_touched_segments():
    world, instance_id = a_world(sizes=(48,))
    play(world)
    write(world, disk(world, instance_id), dict.fromkeys(range(SEGMENT_BLOCKS, SEGMENT_BLOCKS + 9_000), 1))
    seen = 0
    changed = world.ebs.changed

    def counting(*arguments: Any):
        nonlocal seen
        for ref in changed(*arguments):
            seen += 1
            yield ref

    world.ebs.changed = counting  # type: ignore[method-assign]
    world.clock.current = HOURS_17
    _, items = planned(world, ready_at(world, instance_id, "20261122T170000Z-daily-1"))
    assert [item["segment"][0] for item in items] == [1]
    assert seen == 2_000


def test_an_unchanged_instance_costs_no_worker_and_still_becomes_a_restore_point():
    world, instance_id = a_world()
    play(world)
    world.ebs.reads.clear()
    concluded = play(world, HOURS_17)
    outcome = world.outcomes(concluded["session_id"])[instance_id]
    assert (outcome.full, outcome.bytes_read, world.ebs.reads) == (False, 0, [])
    assert len(list(world.repository(REPOSITORY).list_points(instance_id))) == 2


def test_without_the_base_everything_is_read_and_only_changes_are_stored():
    world, instance_id = a_world()
    first = world.outcomes(play(world)["session_id"])[instance_id]
    there(world).snapshots.clear()
    write(world, disk(world, instance_id), {9: "more"})
    second = world.outcomes(play(world, HOURS_17)["session_id"])[instance_id]
    assert (second.full, second.blocks_read) == (True, 4)
    assert second.bytes_stored < first.bytes_stored
    assert content(world, newest(world, instance_id)) == world.disks[disk(world, instance_id)]


def test_unrelated_snapshots_are_read_as_a_whole():
    world, instance_id = a_world()
    play(world)
    world.ebs.unrelated = set(world.ebs.snapshots)
    outcome = world.outcomes(play(world, HOURS_17)["session_id"])[instance_id]
    assert (outcome.full, outcome.state) == (True, "Success")


def test_a_volume_that_grew_is_backed_up_whole():
    world, instance_id = a_world(sizes=(16,))
    play(world)
    machine = there(world).machines[instance_id]
    grown = machine.instance.volumes[0].model_copy(update={"size_bytes": 33 << 30})
    there(world).machines[instance_id] = machine.model_copy(
        update={"instance": machine.instance.model_copy(update={"volumes": (grown,)})}
    )
    write(world, disk(world, instance_id), {2 * SEGMENT_BLOCKS + 3: "tail"})
    world.ebs.reads.clear()
    play(world, HOURS_17)
    manifest = newest(world, instance_id)
    assert [index for _, index in world.ebs.reads] == [2 * SEGMENT_BLOCKS + 3]
    assert manifest.volumes[0].size_bytes == 33 << 30
    assert content(world, manifest) == world.disks[disk(world, instance_id)]


def test_a_volume_that_is_new_is_read_whole_beside_one_that_is_not():
    world, instance_id = a_world(sizes=(1,))
    play(world)
    second = world.add_instance(99, sizes=(1,))
    new_volume = world.volumes(second)[0].model_copy(update={"device": "/dev/sdb", "root": False})
    machine = there(world).machines[instance_id]
    del there(world).machines[second]
    there(world).machines[instance_id] = machine.model_copy(
        update={
            "instance": machine.instance.model_copy(
                update={"volumes": (*machine.instance.volumes, new_volume)}
            )
        }
    )
    write(world, new_volume.volume_id, {3: "three"})
    world.ebs.reads.clear()
    outcome = world.outcomes(play(world, HOURS_17)["session_id"])[instance_id]
    assert [index for _, index in world.ebs.reads] == [3]
    assert outcome.full is False


def test_a_lost_catalog_does_not_lose_the_chain():
    world, _ = a_world()
    play(world)
    world.catalog.point_records.clear()
    world.ebs.reads.clear()
    play(world, HOURS_17)
    assert world.ebs.reads == []


def test_a_damaged_manifest_is_passed_over_and_told():
    world, instance_id = a_world()
    play(world)
    play(world, START + timedelta(hours=10))
    (older, newer) = sorted(world.repository(REPOSITORY).list_points(instance_id))
    world.stores[REPOSITORY].objects[newer.key] = b"rubbish"
    outcome = world.outcomes(play(world, START + timedelta(days=1))["session_id"])[instance_id]
    assert outcome.state == "Warning"
    assert "cannot be built on" in outcome.problems[0].message
    assert content(world, newest(world, instance_id)) == world.disks[disk(world, instance_id)]
    assert older != newer


def test_a_worker_whose_time_runs_out_goes_on_from_its_cursor():
    world, instance_id = a_world()
    write(world, disk(world, instance_id), {index: f"b{index}" for index in range(120)})
    complete = ready(world, instance_id)
    plan, (item,) = planned(world, complete)
    world.ebs.on_read = lambda snapshot_id, index: setattr(world, "seconds_left", 0 if index >= 40 else 900)
    first = move(world, complete, plan, item)
    world.ebs.on_read = lambda snapshot_id, index: None
    world.seconds_left = 900
    assert first["done"] is False
    assert 0 < first["cursor"] < 120
    read = len(world.ebs.reads)
    second = move(world, complete, plan, {**item, **first})
    assert second == {"done": True, "cursor": 2048, "checkpoint": None}
    committed = step(CommitBackup, commit_backup, {**complete, **plan}, world)
    assert committed["blocks_read"] == len(world.ebs.reads)
    assert len(world.ebs.reads) - read < 121
    assert content(world, newest(world, instance_id)) == world.disks[disk(world, instance_id)]


def test_a_worker_that_crashed_is_simply_run_again():
    world, instance_id = a_world()
    complete = ready(world, instance_id)
    plan, (item,) = planned(world, complete)

    def crash(snapshot_id: str, index: int) -> None:
        raise KeyboardInterrupt

    world.ebs.on_read = crash
    with pytest.raises(BaseException):  # noqa: B017 the sandbox dies, in whatever way
        move_segment(
            MoveSegment(**{k: v for k, v in {**complete, **plan, **item}.items() if k in FIELDS}), world
        )
    assert list(world.repository(REPOSITORY).list_points()) == []
    world.ebs.on_read = lambda snapshot_id, index: None
    assert move(world, complete, plan, item)["done"]
    step(CommitBackup, commit_backup, {**complete, **plan}, world)
    assert content(world, newest(world, instance_id)) == world.disks[disk(world, instance_id)]


FIELDS = MoveSegment.__dataclass_fields__.keys()


def test_nothing_is_visible_before_the_commit():
    world, instance_id = a_world(sizes=(1, 1))
    complete = ready(world, instance_id)
    plan, items = planned(world, complete)
    move(world, complete, plan, items[0])
    with pytest.raises(PermanentError, match="result is missing"):
        commit_backup(CommitBackup.model_validate({**complete, **plan}), world)
    assert list(world.repository(REPOSITORY).list_points()) == []
    assert list(world.catalog.points(instance_id, Kind.BACKUP)) == []


def test_a_repeated_commit_is_the_same_success():
    world, instance_id = a_world()
    complete = ready(world, instance_id)
    first = play_backup(world, complete, complete)
    plan = {
        "plan_key": next(key for key in world.work.documents if key.endswith("plan.json")),
        "repository": REPOSITORY,
    }
    again = step(CommitBackup, commit_backup, {**complete, **plan}, world)
    assert again["root_digest"] == first["root_digest"]
    assert len(list(world.repository(REPOSITORY).list_points(instance_id))) == 1


def test_a_retry_after_the_manifest_was_written_reads_nothing_and_catches_up():
    world, instance_id = a_world()
    complete = ready(world, instance_id)
    play_backup(world, complete, complete)
    world.catalog.point_records.clear()
    world.ebs.reads.clear()
    for one in there(world).snapshots.values():
        one.tags.pop(names.BASE, None)
    plan, items = planned(world, {**complete, "attempt": 1})
    assert items == []
    step(CommitBackup, commit_backup, {**complete, "attempt": 1, **plan}, world)
    assert [point.kind for point in world.catalog.points(instance_id)] == [Kind.BACKUP]
    assert len(base_tags(world)) == 1


def test_a_name_that_another_session_has_taken_is_a_conflict():
    world, instance_id = a_world()
    complete = ready(world, instance_id)
    repository = world.repository(REPOSITORY, create=True)
    play_backup(world, complete, complete)
    there_is = newest(world, instance_id)
    key = PointName(instance_id, complete["point_id"]).key
    del world.stores[REPOSITORY].objects[key]
    repository.commit_point(
        there_is.model_copy(update={"session_id": "another"}), ids=world.ids, installation=INSTALLATION
    )
    with pytest.raises(Failed, match="Another restore point has this name"):
        play_backup(world, {**complete, "attempt": 1}, complete)


def test_a_repository_of_another_installation_is_refused():
    world, instance_id = a_world()
    complete = ready(world, instance_id)
    repository = world.repository(REPOSITORY, create=True)
    repository.claim("somebody-else", START, take_over=True)
    with pytest.raises(ConflictError, match="somebody-else"):
        plan_backup(PlanBackup.model_validate(complete), world)


def test_a_repository_that_lost_its_header_is_not_built_over():
    store = MemoryStore()
    store.put_new("points/i-1/p", b"x")
    with pytest.raises(DamagedError, match=r"repository\.json is missing"):
        require_empty(store, REPOSITORY)


def test_a_due_backup_without_repository_names_the_setting():
    world, instance_id = a_world(repository="")
    with pytest.raises(ConfigurationError, match="names no repository"):
        plan_backup(PlanBackup.model_validate(ready(world, instance_id)), world)


def test_the_owner_of_the_repository_is_this_installation():
    world, _ = a_world()
    play(world)
    owner = world.repository(REPOSITORY).owner()
    assert owner is not None
    assert owner.installation == INSTALLATION


def test_points_of_two_instances_do_not_meet():
    world, first = a_world()
    second = world.add_instance(2)
    write(world, disk(world, second), {0: "other"})
    play(world)
    repository = world.repository(REPOSITORY)
    for instance_id in (first, second):
        (name,) = repository.list_points(instance_id)
        assert name == PointName(instance_id, name.point_id)
        assert content(world, repository.read_point(name)) == world.disks[disk(world, instance_id)]
