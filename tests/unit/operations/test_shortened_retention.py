"""A retention that was shortened: held back, told, confirmed exactly as it was, and nothing else."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from holdfast.model.restore_point import Kind
from holdfast.operations.retention.expire_backups import ExpireBackups, expire_backups
from holdfast.operations.retention.retention_in_force import Waiting, confirm, prefix_of, waiting
from tests.retention_play import PassWorld, newest_pass, play_pass, problems
from tests.session_play import play
from tests.session_world import POLICY, REPOSITORY, START, configured
from tests.sla_world import sla_configuration
from tests.snapshots import block

DAY = timedelta(days=1)
FOUR = START.replace(hour=4) + DAY


def keeping(snapshots: int, **more: Any) -> dict[str, Any]:
    return {"repository": "", "daily": {"snapshots": {"hours": [7], "keep": snapshots}}, **more}


def a_world(snapshots: int = 5) -> PassWorld:
    """A policy that keeps five snapshots, all of them there; a pass has seen it."""
    world = PassWorld(configured(**keeping(snapshots)))
    instance_id = world.add_instance()
    for age in (5, 4, 3, 2, 1):
        world.put(instance_id, START - age * DAY)
    play_pass(world, FOUR)
    return world


def waits(world: PassWorld) -> list[Waiting]:
    return list(waiting(prefix_of(POLICY), world.catalog))


def say_yes(world: PassWorld, found: list[Waiting] | None = None) -> None:
    for one in waits(world) if found is None else found:
        confirm(one, "anna", world.clock.now(), world.catalog)


def test_the_first_retention_of_a_policy_needs_no_confirmation():
    world = a_world(2)
    assert (world.left(), waits(world)) == (["11-20", "11-21"], [])


def test_a_shorter_retention_is_held_back_told_and_applied_once_confirmed():
    world = a_world()
    world.configuration = configured(**keeping(2))
    done = play_pass(world, FOUR)
    assert (len(world.left()), done["held"], done["state"]) == (5, 3, "Warning")
    problem = problems(world)["RetentionShortened"]
    assert problem.message == "Retention was shortened for policy daily: 3 restore points would go."
    assert problem.remedy.startswith("`holdfast policy confirm 'daily'` applies it")
    assert ("daily", {"RestorePointsHeld": 3}) in world.metrics
    assert "3 restore points would go" in world.notifier.notices[-1][2]
    say_yes(world)
    done = play_pass(world, FOUR + DAY)
    assert (world.left(), done["state"], waits(world)) == (["11-20", "11-21"], "Success", [])


def test_a_session_holds_back_as_well_and_warns_once():
    world = a_world()
    world.configuration = configured(**keeping(2))
    concluded = play(world, START)
    session = world.catalog.read_session(concluded["session_id"])
    assert world.left() == ["11-18", "11-19", "11-20", "11-21", "11-22"]
    assert (concluded["state"], [one.code for one in session.problems]) == ("Warning", ["RetentionShortened"])
    assert "3 restore points would go" in session.problems[0].message
    say_yes(world)
    assert play(world, START + DAY)["state"] == "Success"
    assert world.left() == ["11-22", "11-23"]


def test_a_longer_retention_applies_at_once_and_ends_the_waiting():
    world = a_world()
    world.configuration = configured(**keeping(2))
    play_pass(world, FOUR)
    world.configuration = configured(**keeping(6))
    assert play_pass(world, FOUR)["state"] == "Success"
    assert (len(world.left()), waits(world)) == (5, [])


def test_a_confirmation_is_for_the_retention_that_was_shown_and_for_no_later_one():
    world = a_world()
    world.configuration = configured(**keeping(4))
    play_pass(world, FOUR)
    shown = waits(world)
    world.configuration = configured(**keeping(1))
    say_yes(world, shown)
    done = play_pass(world, FOUR)
    assert (len(world.left()), done["held"], done["state"]) == (4, 3, "Warning")
    (again,) = waits(world)
    assert (again.held, again.wanted.keep) == ((shown[0].wanted,), {"D": 1})


def test_a_confirmation_does_not_outlive_a_longer_retention():
    world = a_world()
    world.configuration = configured(**keeping(4))
    play_pass(world, FOUR)
    say_yes(world)
    world.configuration = configured(**keeping(9))
    play_pass(world, FOUR)
    world.configuration = configured(**keeping(4))
    play_pass(world, FOUR)
    assert len(waits(world)) == 1


def test_what_waits_is_what_the_functions_want_and_not_what_a_file_says():
    world = a_world()
    world.configuration = configured(**keeping(2))
    assert waits(world) == []
    play_pass(world, FOUR)
    assert [one.wanted.keep for one in waits(world)] == [{"D": 2}]


def test_fewer_points_that_age_never_removes_have_to_be_confirmed():
    world = PassWorld(sla_configuration({"snapshots": {"daily": {"hours": 2, "keep": {"days": 2}}}}))
    instance_id = world.add_instance()
    world.put(instance_id, START - 9 * DAY)
    play_pass(world, FOUR)
    world.configuration = sla_configuration(
        {"snapshots": {"daily": {"hours": 2, "keep": {"days": 2}}}}, keep_last=0
    )
    assert play_pass(world, FOUR)["held"] == 1
    say_yes(world)
    play_pass(world, FOUR)
    assert world.left() == []


def test_a_template_that_keeps_for_a_shorter_time_has_to_be_confirmed():
    world = PassWorld(sla_configuration({"snapshots": {"daily": {"hours": 2, "keep": {"days": 30}}}}))
    instance_id = world.add_instance()
    for age in (5, 4, 1):
        world.put(instance_id, START - age * DAY)
    play_pass(world, FOUR)
    world.configuration = sla_configuration({"snapshots": {"daily": {"hours": 2, "keep": {"days": 3}}}})
    done = play_pass(world, FOUR)
    assert (len(world.left()), done["held"]) == (3, 2)
    say_yes(world)
    play_pass(world, FOUR)
    assert world.left() == ["11-21"]


def test_a_policy_whose_name_goes_on_with_a_slash_is_another_one():
    world = a_world()
    world.configuration = configured(**keeping(2))
    play_pass(world, FOUR)
    (found,) = waits(world)
    confirm_other = Waiting("policy/daily/other/snapshot", found.wanted, found.held)
    world.catalog.write_part(
        "retention-in-force",
        confirm_other.part,
        {"held": [], "wanted": found.wanted.model_dump(mode="json")},
        at=START,
    )
    assert [one.part for one in waits(world)] == ["policy/daily/snapshot"]


def backups(days: int) -> dict[str, Any]:
    daily = {"snapshots": {"hours": [7], "keep": 1}, "backups": {"hours": [7], "keep": {"days": days}}}
    return {"daily": daily}


def test_backups_are_held_back_until_their_shorter_retention_is_confirmed():
    world = PassWorld(configured(**backups(30)))
    instance_id = world.add_instance()
    world.disks[world.volumes(instance_id)[0].volume_id] = {0: block("boot")}
    for number in range(3):
        play(world, START + number * DAY)
    expire_backups(ExpireBackups(), world)
    world.configuration = configured(**backups(1))
    later = START + 3 * DAY
    assert play_pass(world, later)["held"] == 2
    assert play_pass(world, later + 2 * DAY)["backups_removed"] == 0
    assert "2 restore points would go" in problems(world)["RetentionShortened"].message
    say_yes(world)
    play_pass(world, later + 3 * DAY)
    assert play_pass(world, later + 4 * DAY + timedelta(hours=1))["backups_removed"] == 2
    assert len(list(world.repository(REPOSITORY).list_points(instance_id))) == 1


def test_backups_are_judged_by_the_policy_under_which_their_instance_stands():
    """RT-8 for backups, once a pass has seen who owns the instance."""
    world = PassWorld(configured(**backups(30)))
    instance_id = world.add_instance()
    world.disks[world.volumes(instance_id)[0].volume_id] = {0: block("boot")}
    for number in range(3):
        play(world, START + number * DAY)
    document = world.configuration.model_dump(mode="json", exclude_defaults=True)
    before = {**document["policies"][0], "priority": 900}
    owner = {**before, "name": "owner", "priority": 1, **backups(1)}
    world.configuration = type(world.configuration).model_validate({**document, "policies": [owner, before]})
    assert expire_backups(ExpireBackups(), world)["expired"] == 0
    play_pass(world, START + 4 * DAY)
    answer = expire_backups(ExpireBackups(dry_run=True), world)
    assert answer["expired"] == 2


def test_an_owner_that_backs_up_elsewhere_does_not_judge_what_lies_in_the_repository_before():
    world = PassWorld(configured(**backups(30)))
    instance_id = world.add_instance()
    world.disks[world.volumes(instance_id)[0].volume_id] = {0: block("boot")}
    for number in range(3):
        play(world, START + number * DAY)
    document = world.configuration.model_dump(mode="json", exclude_defaults=True)
    before = {**document["policies"][0], "priority": 900}
    owner = {**before, "name": "owner", "priority": 1, "repository": "elsewhere", **backups(1)}
    elsewhere = {"name": "elsewhere", "bucket": "holdfast-elsewhere", "region": "eu-central-1"}
    document |= {"policies": [owner, before], "repositories": [*document["repositories"], elsewhere]}
    world.configuration = type(world.configuration).model_validate(document)
    assert play_pass(world, START + 4 * DAY)["backups_expired"] == 0


def test_backups_of_a_policy_that_is_gone_are_kept_and_told():
    world = PassWorld(configured(**backups(1)))
    instance_id = world.add_instance()
    world.disks[world.volumes(instance_id)[0].volume_id] = {0: block("boot")}
    for number in range(3):
        play(world, START + number * DAY)
    document = world.configuration.model_dump(mode="json", exclude_defaults=True)
    world.configuration = type(world.configuration).model_validate({**document, "policies": []})
    for number in range(4, 9):
        done = play_pass(world, START + number * DAY)
    assert (done["state"], done["backups_expired"]) == ("Success", 0)
    told = problems(world)["NoPolicy"]
    assert told.message.startswith("3 backups are kept for good: 'daily', which made them")
    assert len(list(world.catalog.points(instance_id, Kind.BACKUP))) == 3


def test_repositories_that_cannot_be_judged_fail_the_pass_and_snapshots_are_judged_all_the_same():
    world = PassWorld(configured(**backups(1)))
    instance_id = world.add_instance()
    world.disks[world.volumes(instance_id)[0].volume_id] = {0: block("boot")}
    for number in range(3):
        play(world, START + number * DAY)
    for age in (3, 2):
        world.put(instance_id, START - age * DAY)
    world.stores[REPOSITORY].objects["repository.json"] = b"rubbish"
    done = play_pass(world, START + 4 * DAY)
    assert (done["state"], done["removed"]) == ("Failed", 2)
    assert "Retention could not run" in newest_pass(world).problems[0].message


@pytest.mark.parametrize("replicas", [2, 5])
def test_a_pass_judges_replicas_by_their_own_retention_in_force(replicas: int):
    vault = "444444444444"

    def policy(keep: int) -> Any:
        daily = {"snapshots": {"hours": [7], "keep": 9}, "replicas": {"hours": [7], "keep": keep}}
        return configured(repository="", daily=daily)

    world = PassWorld(policy(5))
    instance_id = world.add_instance()
    for age in (5, 4, 3, 2, 1):
        source = {"holdfast:source": "111122223333/eu-central-1/snap-1"}
        world.put(instance_id, START - age * DAY, account=vault, kind=Kind.REPLICA, **source)
    play_pass(world, FOUR)
    world.configuration = policy(replicas)
    assert play_pass(world, FOUR)["held"] == 5 - replicas
    say_yes(world)
    play_pass(world, FOUR)
    assert len(world.left(vault)) == replicas
