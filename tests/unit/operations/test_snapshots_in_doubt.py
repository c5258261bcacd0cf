"""Snapshots whose tags are forged, edited or in doubt: retention must never remove them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.model import ids
from holdfast.model import tags as names
from holdfast.operations.retention.removal import Doomed, remove_snapshots
from holdfast.operations.steps import InstanceStep
from tests.session_play import play
from tests.session_world import Snapshot
from tests.spoilt_chains import a_world, chain, deleted, foreign, hour, retain_at, there
from tests.unit.operations.test_take_snapshots import event


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
