"""A retention pass: whoever owns an instance now judges its whole chain, and nothing is guessed."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from holdfast.errors import AccessDeniedError, ConflictError, HoldfastError, UnavailableError
from holdfast.model import tags as names
from holdfast.model.ids import stamp
from holdfast.model.restore_point import Kind
from holdfast.model.session import State
from holdfast.operations.retention.conclude_retention import ConcludeRetention, conclude_retention
from holdfast.operations.retention.plan_retention import PlanRetention, plan_retention
from holdfast.operations.retention.retention_in_force import confirm, obsolete_in_force, waiting
from holdfast.operations.retention.retention_pass import all_owners
from holdfast.ports import OrganizationAccount
from tests.retention_play import PassWorld, newest_pass, play_pass, problems, two_policies
from tests.session_world import (
    ACCOUNT,
    POLICY,
    REGION,
    REPOSITORY,
    START,
    MemoryOrganization,
    Snapshot,
    configured,
)
from tests.sla_world import sla_configuration

DAY = timedelta(days=1)
FOUR = START.replace(hour=4)
OBSOLETE = {"mode": "after", "days": 15}


def daily(keep: int = 2, **more: Any) -> dict[str, Any]:
    return {"daily": {"snapshots": {"hours": [7], "keep": keep}}, **more}


def a_world(**changes: Any) -> tuple[PassWorld, str]:
    """One policy that keeps two snapshots of one instance; five are there, a day apart."""
    world = PassWorld(configured(**{"repository": "", "daily": daily()["daily"], **changes}))
    return world, fill(world)


def fill(world: PassWorld, days: int = 5, **more: Any) -> str:
    """An instance with a snapshot for each of so many days before START."""
    instance_id = world.add_instance(tags=more.pop("instance_tags", None))
    for number in range(days, 0, -1):
        world.put(instance_id, START - number * DAY, **more)
    return instance_id


def confirm_obsolete(world: PassWorld) -> None:
    obsolete_in_force(world)
    for found in waiting("obsolete", world.catalog):
        confirm(found, "somebody", world.clock.now(), world.catalog)


def test_a_disabled_policy_goes_on_ageing_its_points():
    world, _ = a_world(enabled=False)
    done = play_pass(world, FOUR + DAY)
    assert (world.left(), world.listed) == (["11-20", "11-21"], ["11-20", "11-21"])
    assert (done["state"], done["removed"], done["kept"]) == ("Success", 3, 2)


def test_a_policy_that_an_operator_switched_off_goes_on_ageing_its_points():
    world, _ = a_world()
    world.catalog.switch_policy(POLICY, off=True)
    play_pass(world, FOUR + DAY)
    assert world.left() == ["11-20", "11-21"]


def test_the_new_owner_of_an_instance_judges_the_whole_chain():
    """RT-8, for a schedule-based policy."""
    world = PassWorld(two_policies(first=daily(5), second=daily(1)))
    instance_id = fill(world, policy="first", instance_tags={"backup": "first"})
    play_pass(world, FOUR + DAY)
    assert len(world.left()) == 5
    world.retag(instance_id, backup="second")
    play_pass(world, FOUR + DAY)
    assert world.left() == ["11-21"]


def test_an_sla_policy_adopts_the_chain_of_the_policy_before():
    """RT-8: flags from before age by the template's longest time."""
    world = PassWorld(
        sla_configuration({"snapshots": {"daily": {"hours": 2, "keep": {"days": 3}}}}, storage_template="")
    )
    fill(world, policy="gone", flags="DW")
    play_pass(world, FOUR + DAY)
    assert world.left() == ["11-20", "11-21"]


def test_flags_that_the_new_owner_does_not_know_keep_their_points():
    world = PassWorld(two_policies(first=daily(5), second=daily(1)))
    instance_id = fill(world, policy="first", flags="DW", instance_tags={"backup": "second"})
    play_pass(world, FOUR + DAY)
    assert len(world.left()) == 5
    tags = [one.tags[names.FLAGS] for one in world.spoke("", ACCOUNT, REGION).snapshots.values()]
    assert tags == ["W", "W", "W", "W", "DW"]
    assert next(one.flags for one in world.catalog.points(instance_id)) == frozenset("W")


@pytest.mark.parametrize("state", ["terminated", "retagged", "policy removed"])
def test_snapshots_in_no_policy_stay_for_ever_unless_told_otherwise(state: str):
    world = PassWorld(two_policies(first=daily(1), second=daily(1)))
    instance_id = fill(world, policy="first", instance_tags={"backup": "first"})
    if state == "terminated":
        world.terminate(instance_id)
    elif state == "retagged":
        world.retag(instance_id)
    else:
        world.configuration = two_policies(first=daily(1), second=daily(1), policies=[])
    play_pass(world, FOUR + 900 * DAY)
    assert len(world.left()) == 5


@pytest.mark.parametrize("state", ["terminated", "retagged"])
def test_obsolete_snapshots_go_from_aws_when_their_time_is_over(state: str):
    """RT-5."""
    world = PassWorld(two_policies(first=daily(1), second=daily(1), obsolete_snapshots=OBSOLETE))
    instance_id = fill(world, policy="first", instance_tags={"backup": "first"})
    world.retag(instance_id) if state == "retagged" else world.terminate(instance_id)
    confirm_obsolete(world)
    done = play_pass(world, START + 12 * DAY)
    assert (world.left(), world.listed) == (["11-20", "11-21"], ["11-20", "11-21"])
    assert (done["obsolete"], done["removed"]) == (3, 3)
    play_pass(world, START + 15 * DAY)
    assert world.left() == []


def test_obsolete_snapshots_wait_for_a_person_before_the_first_of_them_goes():
    world = PassWorld(two_policies(first=daily(1), second=daily(1), obsolete_snapshots=OBSOLETE))
    world.terminate(fill(world, policy="first"))
    done = play_pass(world, START + 12 * DAY)
    assert (len(world.left()), done["held"], done["state"]) == (5, 3, "Warning")
    assert problems(world)["RetentionShortened"].message == (
        "Retention was shortened for obsolete snapshots: 3 restore points would go."
    )


def test_an_instance_that_an_inventory_forgot_is_asked_for_by_its_id():
    world = PassWorld(two_policies(first=daily(5), second=daily(1), obsolete_snapshots=OBSOLETE))
    instance_id = fill(world, policy="first", instance_tags={"backup": "first"})
    confirm_obsolete(world)
    spoke = world.spoke("", ACCOUNT, REGION)
    plain = spoke.instances
    spoke.instances = lambda ids=(): plain(ids) if ids else iter(())  # type: ignore[method-assign]
    play_pass(world, START + 100 * DAY)
    assert len(world.left()) == 5
    assert ("instances", None) in spoke.calls
    assert instance_id


@pytest.mark.parametrize("error", [AccessDeniedError("denied"), UnavailableError("no answer")])
@pytest.mark.parametrize("operation", ["instances", "find_snapshots"])
def test_an_account_that_cannot_be_read_loses_nothing(operation: str, error: HoldfastError):
    world = PassWorld(two_policies(first=daily(1), second=daily(1), obsolete_snapshots=OBSOLETE))
    fill(world, policy="gone")
    confirm_obsolete(world)
    world.spoke("", ACCOUNT, REGION).faults[operation] = [error] * 9
    done = play_pass(world, START + 100 * DAY)
    assert (len(world.left()), done["state"]) == (5, "Warning")
    (problem,) = newest_pass(world).problems
    assert f"Account {ACCOUNT} was not judged in {REGION}" in problem.message


def test_an_account_that_fails_stops_no_other():
    world, _ = a_world()
    other = "222222222222"
    role = {"name": "other", "arn": f"arn:aws:iam::{other}:role/HoldfastBackup"}
    configuration = world.configuration.model_dump(mode="json", exclude_defaults=True)
    policy = {**configuration["policies"][0], "name": "other", "source": {"role": "other"}}
    configuration["roles"].append(role)
    configuration["policies"].append(policy)
    world.configuration = type(world.configuration).model_validate(configuration)
    world.closed[ACCOUNT, REGION] = AccessDeniedError("denied")
    instance_id = world.add_instance(2, account=other)
    for number in (3, 2, 1):
        world.put(instance_id, START - number * DAY, account=other, policy="other")
    done = play_pass(world, FOUR + DAY)
    assert (len(world.left()), world.left(other)) == (5, ["11-20", "11-21"])
    assert (done["state"], done["removed"], done["places"]) == ("Warning", 1, 2)


def organization(*, denied: bool = False, member: bool = True, state: str = "ACTIVE") -> MemoryOrganization:
    members = [OrganizationAccount(ACCOUNT, "shop", state)] if member else []
    tree = MemoryOrganization({"r-1": ((), members)})
    if denied:
        tree.roots = lambda: (_ for _ in ()).throw(AccessDeniedError("denied"))  # type: ignore[method-assign]
    return tree


def in_organization(world_of: MemoryOrganization, **parts: Any) -> tuple[PassWorld, str]:
    """A chain of a policy whose account lies in an Organization."""
    company = {"name": "company", "management_role": "arn:aws:iam::777777777777:role/HoldfastOrganization"}
    source = {"source": {"organization": "company"}, "selection": {"all": True}}
    world = PassWorld(
        two_policies(
            first=daily(2, **source),
            second=daily(1, enabled=False),
            organizations=[company],
            roles=[{"name": "production", "arn": "arn:aws:iam::888888888888:role/HoldfastBackup"}],
            **parts,
        )
    )
    world.organizations["company"] = world_of
    return world, fill(world, policy="first")


def test_instances_of_an_organization_are_judged_by_its_policy():
    world, _ = in_organization(organization())
    assert play_pass(world, FOUR + DAY)["state"] == "Success"
    assert world.left() == ["11-20", "11-21"]
    assert world.entered[ACCOUNT] == "company"


@pytest.mark.parametrize("terminated", [False, True])
def test_an_organization_that_cannot_be_walked_makes_nothing_obsolete(terminated: bool):
    world, instance_id = in_organization(organization(denied=True), obsolete_snapshots=OBSOLETE)
    confirm_obsolete(world)
    if terminated:
        world.terminate(instance_id)
    done = play_pass(world, START + 100 * DAY)
    assert (len(world.left()), done["state"]) == (5, "Warning")
    assert "were not judged" in problems(world)["NotJudged"].message


def test_under_whom_an_instance_stands_stays_noted_while_that_cannot_be_seen():
    world, instance_id = in_organization(organization())
    play_pass(world, FOUR + DAY)
    assert all_owners(world.catalog) == {instance_id: "first"}
    world.organizations["company"] = organization(denied=True)
    play_pass(world, FOUR + 2 * DAY)
    assert all_owners(world.catalog) == {instance_id: "first"}
    world.organizations["company"] = organization(member=False)
    play_pass(world, FOUR + 3 * DAY)
    assert all_owners(world.catalog) == {}


def test_an_account_that_left_the_organization_is_in_no_policy():
    world, _ = in_organization(organization(member=False), obsolete_snapshots=OBSOLETE)
    confirm_obsolete(world)
    play_pass(world, START + 12 * DAY)
    assert world.left() == ["11-20", "11-21"]


def test_an_account_that_is_moved_while_the_organization_is_walked_has_not_left_it():
    class Moving(MemoryOrganization):
        """The first walk has passed the unit into which the account is moved."""

        walks = 0

        def roots(self) -> list[str]:
            self.walks += 1
            return ["r-1"]

        def accounts(self, parent: str) -> list[OrganizationAccount]:
            return [OrganizationAccount(ACCOUNT, "shop", "ACTIVE")] if self.walks > 1 else []

    world, _ = in_organization(Moving({"r-1": ((), [])}), obsolete_snapshots=OBSOLETE)
    confirm_obsolete(world)
    play_pass(world, START + 100 * DAY)
    assert world.left() == ["11-20", "11-21"]


def test_a_suspended_account_is_left_alone():
    world, _ = in_organization(organization(state="SUSPENDED"), obsolete_snapshots=OBSOLETE)
    confirm_obsolete(world)
    done = play_pass(world, START + 100 * DAY)
    assert (len(world.left()), done["state"]) == (5, "Warning")
    assert "AccountClosed" in problems(world)


def test_what_is_younger_than_a_day_or_being_read_is_left_to_its_session():
    world, instance_id = a_world(daily=daily(0)["daily"], keep_last=0)
    for one in list(world.spoke("", ACCOUNT, REGION).snapshots.values())[1:2]:
        one.tags[names.IN_USE] = stamp(START)
    world.put(instance_id, START - timedelta(hours=3))
    play_pass(world, START)
    assert world.left() == ["11-18", "11-22"]


def test_an_obsolete_snapshot_that_is_being_read_is_not_even_given_up():
    world = PassWorld(two_policies(first=daily(1), second=daily(1), obsolete_snapshots=OBSOLETE))
    world.terminate(fill(world, policy="first"))
    confirm_obsolete(world)
    at = START + 100 * DAY
    first = next(iter(world.spoke("", ACCOUNT, REGION).snapshots.values()))
    first.tags[names.IN_USE] = stamp(at - DAY)
    assert play_pass(world, at)["state"] == "Success"
    assert (world.left(), world.listed) == (["11-17"], ["11-17"])


@pytest.mark.parametrize("backup, marked", [(5, True), (4, True), (3, False)])
def test_the_mark_of_a_base_is_lifted_once_a_newer_backup_is_there(backup: int, marked: bool):
    """The backup is made of the snapshot of so many days ago; the mark is on the one of four days ago."""
    world, instance_id = a_world(repository=REPOSITORY, daily=daily(9)["daily"])
    points = {(START - one.taken_at).days: one for one in world.catalog.points(instance_id)}
    spoke = world.spoke("", ACCOUNT, REGION)
    (snapshot_id,) = points[4].snapshot_ids.values()
    spoke.snapshots[snapshot_id].tags[names.BASE] = REPOSITORY
    world.catalog.add_point(points[backup].model_copy(update={"kind": Kind.BACKUP, "repository": REPOSITORY}))
    play_pass(world, FOUR + DAY)
    assert (names.BASE in spoke.snapshots[snapshot_id].tags) is marked


def test_manual_snapshots_are_nobodys_but_their_own():
    world, instance_id = a_world(daily=daily(0)["daily"], obsolete_snapshots=OBSOLETE)
    confirm_obsolete(world)
    world.terminate(instance_id)
    by_hand = world.put(instance_id, START - 9 * DAY, "", policy="", **{names.KIND: names.MANUAL})
    of_run = world.put(instance_id, START - 8 * DAY, "", **{names.KIND: names.MANUAL})
    record = next(one for one in world.catalog.points(instance_id) if of_run in one.snapshot_ids.values())
    world.catalog.add_point(record.model_copy(update={"manual": True}))
    play_pass(world, START + 100 * DAY)
    assert set(world.spoke("", ACCOUNT, REGION).snapshots) == {by_hand, of_run}


def test_temporary_snapshots_go_when_no_backup_needs_them():
    world, instance_id = a_world(daily=daily(5)["daily"])
    world.put(instance_id, START - 9 * DAY, "", **{names.KIND: names.TEMPORARY})
    play_pass(world, FOUR + DAY)
    assert world.left() == ["11-17", "11-18", "11-19", "11-20", "11-21"]


def test_points_that_the_catalog_lost_come_back_with_the_pass_and_are_judged_by_the_next():
    world, instance_id = a_world()
    manual = world.put(
        instance_id, START - 9 * DAY, "", policy="", listed=False, **{names.KIND: names.MANUAL}
    )
    world.catalog.point_records.clear()
    done = play_pass(world, FOUR + DAY)
    assert (done["recovered"], done["removed"], len(world.left())) == (6, 0, 6)
    assert [one.manual for one in world.catalog.points(instance_id)] == [True, *[False] * 5]
    done = play_pass(world, FOUR + 2 * DAY)
    assert (done["recovered"], world.left()) == (0, ["11-13", "11-20", "11-21"])
    assert manual in world.spoke("", ACCOUNT, REGION).snapshots


def test_points_of_an_account_without_any_snapshot_leave_the_catalog():
    world, _ = a_world()
    world.spoke("", ACCOUNT, REGION).snapshots.clear()
    play_pass(world, FOUR + DAY)
    assert world.listed == []


def test_manual_points_whose_snapshots_somebody_deleted_leave_the_catalog():
    world, instance_id = a_world(daily=daily(9)["daily"])
    for age in (9, 8):
        snapshot_id = world.put(instance_id, START - age * DAY, "", policy="", **{names.KIND: names.MANUAL})
    del world.spoke("", ACCOUNT, REGION).snapshots[snapshot_id]
    play_pass(world, FOUR + DAY)
    assert world.listed == ["11-13", "11-17", "11-18", "11-19", "11-20", "11-21"]


@pytest.mark.parametrize("tagged", [True, False])
def test_what_the_next_backup_compares_with_is_kept_and_nobody_is_warned(tagged: bool):
    world, instance_id = a_world(repository=REPOSITORY, daily=daily(1)["daily"])
    first = next(iter(world.catalog.points(instance_id)))
    world.catalog.add_point(first.model_copy(update={"kind": Kind.BACKUP, "repository": REPOSITORY}))
    if tagged:
        next(iter(world.spoke("", ACCOUNT, REGION).snapshots.values())).tags[names.BASE] = REPOSITORY
    assert play_pass(world, FOUR + DAY)["state"] == "Success"
    assert world.left() == ["11-17", "11-21"]


def test_the_second_look_spares_what_somebody_needs_meanwhile():
    """Somebody deletes the newest two between listing and removal: the others are the newest now."""
    world, _ = a_world()
    spoke = world.spoke("", ACCOUNT, REGION)
    newest = sorted(spoke.snapshots.values(), key=lambda one: one.started_at)[-2:]
    spoke.faults["find_snapshots"] = [
        lambda: None,
        lambda: [spoke.snapshots.pop(one.snapshot_id) for one in newest] and None,
    ]
    play_pass(world, FOUR + DAY)
    assert world.left() == ["11-18", "11-19"]


def test_only_what_both_looks_remove_goes():
    """A session makes another snapshot between the two: what lapses by it is left to the session."""
    world, instance_id = a_world()
    spoke = world.spoke("", ACCOUNT, REGION)
    spoke.faults["find_snapshots"] = [lambda: None, lambda: world.put(instance_id, FOUR + DAY) and None]
    play_pass(world, FOUR + DAY)
    assert world.left() == ["11-20", "11-21", "11-23"]


def test_time_that_runs_out_goes_on_behind_the_last_chain():
    world, _ = a_world()
    for number in (2, 3):
        instance_id = world.add_instance(number)
        for age in (5, 4, 3, 2, 1):
            world.put(instance_id, START - age * DAY)
    world.seconds_left = 10
    done = play_pass(world, FOUR + DAY)
    assert (done["removed"], done["instances"], done["kept"]) == (9, 3, 6)
    assert len([1 for _, part in world.catalog.part_records if part.startswith("place/")]) > 2


def test_a_snapshot_that_cannot_be_removed_is_told_and_stops_no_other():
    world, _ = a_world()
    world.spoke("", ACCOUNT, REGION).faults["delete_snapshot"] = [ConflictError("in use by an image")]
    done = play_pass(world, FOUR + DAY)
    assert (done["removed"], done["state"], world.left()) == (2, "Warning", ["11-17", "11-20", "11-21"])
    ((topic, subject, text, document),) = world.notifier.notices
    assert (subject, "in use by an image" in text) == ("[Warning] Retention: 1 issue", True)
    assert document["counts"]["removed"] == 2
    assert topic == world.settings.topic_arn


def test_a_pass_that_is_all_well_is_recorded_and_told_to_nobody():
    world, _ = a_world()
    play_pass(world, FOUR + DAY)
    record = newest_pass(world)
    assert (record.state, record.policy, record.counts["removed"]) == (State.SUCCESS, "", 3)
    assert world.notifier.notices == []
    assert ("", {"RetentionPasses": 1, "RestorePointsRemoved": 3}.items()) == (
        world.metrics[-1][0],
        {key: world.metrics[-1][1][key] for key in ("RetentionPasses", "RestorePointsRemoved")}.items(),
    )


def test_a_pass_for_one_policy_judges_nothing_else():
    world = PassWorld(two_policies(first=daily(1), second=daily(1)))
    one = fill(world, policy="first", instance_tags={"backup": "first"})
    other = world.add_instance(2, tags={"backup": "second"})
    for age in (5, 4):
        world.put(other, START - age * DAY, policy="second")
    play_pass(world, FOUR + DAY, policy="first")
    assert world.left() == ["11-17", "11-18", "11-21"]
    assert one


def test_a_pass_that_cannot_be_planned_is_broken_and_says_why():
    world, _ = a_world()
    done = play_pass(world, FOUR + DAY, policy="mistyped")
    assert (done["broken"], done["state"], len(world.left())) == (True, "Failed", 5)
    assert "no policy 'mistyped'" in newest_pass(world).problems[0].message


def test_a_pass_that_could_not_be_published_stands_in_its_record():
    world, _ = a_world()
    world.spoke("", ACCOUNT, REGION).faults["delete_snapshot"] = [ConflictError("in use by an image")]
    world.notifier.broken[world.settings.topic_arn] = AccessDeniedError("denied")
    assert play_pass(world, FOUR + DAY)["state"] == "Warning"
    assert newest_pass(world).state is State.WARNING


def test_a_place_that_left_no_word_is_told():
    world, _ = a_world()
    plan_retention(PlanRetention(pass_id="retention-1"), world)
    done = conclude_retention(ConcludeRetention(pass_id="retention-1"), world)
    assert done["state"] == "Warning"
    assert "is not known" in problems(world)["NotConcluded"].message


def test_what_carries_no_instance_of_ours_is_not_looked_at():
    world, instance_id = a_world()
    stranger = Snapshot(
        "snap-0000000000000dead",
        "vol-1",
        "completed",
        START - 400 * DAY,
        1,
        {
            names.INSTALLATION: "holdfast",
            names.INSTANCE: "i-<script>",
            names.POINT: "x",
            names.KIND: "snapshot",
        },
    )
    world.spoke("", ACCOUNT, REGION).snapshots[stranger.snapshot_id] = stranger
    assert play_pass(world, FOUR + DAY)["state"] == "Success"
    assert stranger.snapshot_id in world.spoke("", ACCOUNT, REGION).snapshots
    assert instance_id
