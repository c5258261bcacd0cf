"""What retention removes, and everything that it must never remove."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.errors import AccessDeniedError, ConflictError, ThrottledError
from holdfast.model import ids
from holdfast.model import tags as names
from holdfast.model.restore_point import Kind
from holdfast.operations.retention.apply_retention import ApplyRetention, apply_retention
from holdfast.operations.retention.removal import Doomed, remove_snapshots
from holdfast.operations.steps import InstanceStep
from tests.session_play import play
from tests.session_world import (
    ACCOUNT,
    POLICY,
    REGION,
    REPOSITORY,
    START,
    AccountRegion,
    SessionWorld,
    Snapshot,
    configured,
)
from tests.snapshots import block
from tests.unit.operations.test_take_snapshots import event


def there(world: SessionWorld) -> AccountRegion:
    return world.spoke(POLICY, ACCOUNT, REGION)


def hour(number: int) -> Any:
    return START.replace(hour=0) + timedelta(hours=number)


def a_world(**changes: Any) -> tuple[SessionWorld, str]:
    world = SessionWorld(configured(**changes))
    instance_id = world.add_instance(sizes=(1, 1))
    world.disks[world.volumes(instance_id)[0].volume_id] = {0: block("boot")}
    return world, instance_id


def chain(world: SessionWorld) -> list[str]:
    """The restore points that snapshots make, by hour, ``*`` at the base."""
    found: dict[str, bool] = {}
    for one in there(world).snapshots.values():
        if one.tags.get(names.INSTALLATION) == "holdfast":
            label = f"{one.started_at:%H}"
            found[label] = found.get(label, False) or names.BASE in one.tags
    return [label + "*" * is_base for label, is_base in sorted(found.items())]


def deleted(world: SessionWorld) -> list[str]:
    return [argument for operation, argument in there(world).calls if operation == "delete_snapshot"]


def retain(world: SessionWorld, instance_id: str) -> dict[str, Any]:
    return apply_retention(ApplyRetention.model_validate(event(instance_id)), world)


def foreign(world: SessionWorld, instance_id: str, **tags: str) -> Snapshot:
    """A snapshot like ours, old enough to go, but for ``tags`` (empty: without that tag)."""
    real = next(iter(there(world).snapshots.values()))
    merged = {**real.tags, **{key.replace("_", "-"): value for key, value in tags.items()}}
    snapshot = Snapshot(
        f"snap-{next(world.numbers) + 0xF000:017x}",
        real.volume_id,
        "completed",
        START - timedelta(days=400),
        real.size_bytes,
        {key: value for key, value in merged.items() if value},
    )
    there(world).snapshots[snapshot.snapshot_id] = snapshot
    return snapshot


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


@pytest.mark.parametrize(
    "tags",
    [
        pytest.param({names.INSTALLATION: ""}, id="without our tag"),
        pytest.param({names.INSTALLATION: "holdfast-2"}, id="of another installation"),
        pytest.param({names.POLICY: "weekly"}, id="of another policy"),
        pytest.param({names.POLICY: ""}, id="of no policy"),
        pytest.param({names.INSTANCE: "i-99999999999999999"}, id="of another instance"),
        pytest.param({names.POINT: ""}, id="of no restore point"),
        pytest.param({names.KIND: "replica"}, id="a replica"),
        pytest.param({names.KIND: "temporary"}, id="of a restore under way"),
        pytest.param({names.KIND: ""}, id="of no kind"),
    ],
)
def test_a_snapshot_that_is_not_ours_to_remove_stays(tags: dict[str, str]):
    world, instance_id = a_world()
    play(world, hour(7))
    alone = {names.POINT: "20251018T070000Z-aaaaaaaaaaaa", names.VOLUMES: "1", names.BASE: ""}
    stranger = foreign(world, instance_id, **{**alone, **tags})
    for number in (8, 9, 10, 11):
        play(world, hour(number))
    assert stranger.snapshot_id in there(world).snapshots
    assert stranger.snapshot_id not in deleted(world)


def test_a_snapshot_with_forged_tags_that_the_catalog_does_not_know_stays_for_this_pass():
    """Somebody copied all our tags to a snapshot of his own: it breaks the set, so nothing of it goes."""
    world, instance_id = a_world()
    play(world, hour(7))
    copied = foreign(world, instance_id)
    outcomes = [world.outcomes(play(world, hour(number))["session_id"])[instance_id] for number in (8, 9, 10)]
    assert copied.snapshot_id not in deleted(world)
    assert outcomes[-1].state == "Warning"
    assert "are kept" in outcomes[-1].problems[-1].message


def test_a_lone_snapshot_that_is_ours_in_every_way_goes_when_its_time_is_over():
    """What the strangers above differ from."""
    world, instance_id = a_world()
    play(world, hour(7))
    session = "20251018T070000Z-daily"
    made = {names.SESSION: session, names.POINT: ids.point_id(session, instance_id)}
    own = foreign(world, instance_id, **{**made, names.VOLUMES: "1", names.BASE: ""})
    for number in (8, 9):
        play(world, hour(number))
    assert own.snapshot_id in deleted(world)


def test_a_point_that_the_catalog_knows_as_made_of_other_snapshots_stays():
    world, instance_id = a_world(repository="", daily={"snapshots": {"hours": list(range(24)), "keep": 1}})
    play(world, hour(7))
    (point,) = world.catalog.points(instance_id)
    world.catalog.add_point(point.model_copy(update={"snapshot_ids": {"vol-1": "snap-1"}}))
    for number in (8, 9):
        play(world, hour(number))
    assert chain(world) == ["07", "09"]


def test_an_empty_tag_proves_nothing():
    world, instance_id = a_world()
    play(world, hour(7))
    for one in there(world).snapshots.values():
        one.tags.pop(names.BASE, None)
        one.tags[names.POINT] = ""
    doomed = [one.shown() for one in there(world).snapshots.values()]
    step = InstanceStep.model_validate(event(instance_id))
    assert len(remove_snapshots(Doomed(doomed, "wrong"), step, there(world), world)) == 2
    assert deleted(world) == []


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


def test_tags_that_change_after_the_verdict_save_a_snapshot():
    world, instance_id = a_world(repository="", daily={"snapshots": {"hours": list(range(24)), "keep": 1}})
    play(world, hour(7))
    first = sorted(there(world).snapshots)
    plain = there(world).read_snapshots
    looked: list[tuple[str, ...]] = []

    def look(snapshot_ids: Any) -> Any:
        looked.append(tuple(snapshot_ids))
        if sorted(snapshot_ids) == first:
            there(world).snapshots[first[0]].tags[names.POLICY] = "kept-by-hand"
        return plain(snapshot_ids)

    there(world).read_snapshots = look  # type: ignore[method-assign]
    outcome = world.outcomes(play(world, hour(8))["session_id"])[instance_id]
    assert tuple(first) in looked
    assert first[0] in there(world).snapshots
    assert outcome.state == "Warning"
    assert "holdfast:policy is 'kept-by-hand' now" in outcome.problems[0].message


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


def retain_at(world: SessionWorld, instance_id: str, number: int) -> dict[str, Any]:
    world.clock.current = hour(number)
    return retain(world, instance_id)


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


@given(
    gone=st.sets(
        st.sampled_from([names.INSTALLATION, names.POLICY, names.INSTANCE, names.POINT]), min_size=1
    ),
    forged=st.booleans(),
)
def test_no_snapshot_whose_identity_is_in_doubt_is_ever_deleted(gone: set[str], forged: bool):
    """R-NODEL: nothing without our tags and our record is deleted, whatever the verdict says."""
    world, instance_id = a_world()
    play(world, hour(7))
    doomed = [one.shown() for one in there(world).snapshots.values()]
    for one in there(world).snapshots.values():
        one.tags.pop(names.BASE, None)
        for key in gone:
            if forged:
                one.tags[key] = "forged"
            else:
                one.tags.pop(key)
    step = InstanceStep.model_validate(event(instance_id))
    remove_snapshots(Doomed(doomed, "wrong"), step, there(world), world)
    assert deleted(world) == []


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


@pytest.mark.parametrize("known", [False, True])
def test_a_second_whole_set_of_a_restore_point_goes_a_day_later_and_the_point_is_judged(known: bool):
    world, instance_id = a_world(repository="")
    play(world, hour(7))
    (point,) = world.catalog.points(instance_id)
    first = list(there(world).snapshots.values())
    for number, one in enumerate(first):
        twin = Snapshot(
            f"snap-{number + 0xF000:017x}",
            one.volume_id,
            "completed",
            one.started_at + timedelta(minutes=5),
            one.size_bytes,
            {**one.tags, names.SET: "another"},
        )
        there(world).snapshots[twin.snapshot_id] = twin
    twins = {one.volume_id: one.snapshot_id for one in there(world).snapshots.values()}
    if known:
        world.catalog.add_point(point.model_copy(update={"snapshot_ids": twins}))
    chosen = set(twins.values() if known else point.snapshot_ids.values())
    retain_at(world, instance_id, 8)
    assert len(there(world).snapshots) == 4
    retain_at(world, instance_id, 32)
    assert set(there(world).snapshots) == chosen
    for number in (33, 34):
        play(world, hour(number))
    assert chosen.isdisjoint(there(world).snapshots)


@pytest.mark.parametrize("edited", ["", "daily", "-", "W", None])
def test_a_restore_point_whose_flags_were_edited_is_kept_with_a_warning(edited: str | None):
    world, instance_id = a_world(repository="")
    play(world, hour(7))
    for one in there(world).snapshots.values():
        one.tags.pop(names.FLAGS)
        if edited is not None:
            one.tags[names.FLAGS] = edited
    outcomes = [world.outcomes(play(world, hour(number))["session_id"])[instance_id] for number in (8, 9, 10)]
    assert "07" in chain(world)
    for outcome in outcomes[: 1 if edited == "W" else 3]:  # A schedule that lapses writes the tag anew.
        (problem,) = outcome.problems
        assert (outcome.state, problem.code) == ("Warning", "FlagsChanged")
        assert problem.resource.startswith("20261122T070000Z")


@pytest.mark.parametrize("key, value", [(names.FLAGS, "DY"), (names.KEEP_UNTIL, "20361122T000000Z")])
def test_flags_or_a_date_given_after_the_verdict_save_a_snapshot(key: str, value: str):
    world, instance_id = a_world(repository="")
    play(world, hour(7))
    doomed = [one.shown() for one in there(world).snapshots.values()]
    next(iter(there(world).snapshots.values())).tags[key] = value
    step = InstanceStep.model_validate(event(instance_id))
    (problem,) = remove_snapshots(Doomed(doomed, "wrong"), step, there(world), world)
    assert f"its tag {key} was changed" in problem.message
    assert len(there(world).snapshots) == 1


def test_taking_flags_off_that_broke_off_is_finished_without_a_warning():
    daily = {"snapshots": {"hours": list(range(24)), "keep": 1}}
    world, instance_id = a_world(repository="", daily=daily)
    play(world, hour(7))
    (point,) = world.catalog.points(instance_id)
    for one in there(world).snapshots.values():
        one.tags[names.FLAGS] = "DW"
    world.catalog.add_point(point.model_copy(update={"flags": frozenset("DW")}))
    next(iter(there(world).snapshots.values())).tags[names.FLAGS] = "W"
    assert play(world, hour(8))["state"] == "Success"
    assert [one.tags[names.FLAGS] for one in there(world).snapshots.values()] == ["W", "W", "D", "D"]
    assert next(iter(world.catalog.points(instance_id))).flags == frozenset("W")
