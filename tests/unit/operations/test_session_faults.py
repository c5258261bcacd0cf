"""What goes wrong in a session: the right instance gets the right state and reason, the others go on.

Every story ends with the invariants: nothing partial is offered, nothing foreign is gone, a re-run completes.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from holdfast.errors import (
    AccessDeniedError,
    ChecksumError,
    HoldfastError,
    KeyUnavailableError,
    SourceGoneError,
    ThrottledError,
    UnavailableError,
)
from holdfast.model.restore_point import Kind
from holdfast.model.session import Outcome, State
from holdfast.operations.sessions.report_cell import ReportCell, report_cell
from tests.session_play import Crash, play
from tests.session_world import (
    ACCOUNT,
    POLICY,
    REGION,
    REPOSITORY,
    START,
    AccountRegion,
    SessionWorld,
    configured,
)
from tests.snapshots import block

KEY = "arn:aws:kms:eu-central-1:111122223333:key/0a1b2c3d-0000-4000-8000-000000000000"


def there(world: SessionWorld) -> AccountRegion:
    return world.spoke(POLICY, ACCOUNT, REGION)


def a_world(**changes: Any) -> tuple[SessionWorld, str, str]:
    """Two instances; the first is the one that things happen to."""
    world = SessionWorld(configured(**{"retries": 0, **changes}))
    troubled, healthy = world.add_instance(1, sizes=(1, 1)), world.add_instance(2)
    for instance_id in (troubled, healthy):
        for volume in world.volumes(instance_id):
            world.disks[volume.volume_id] = {0: block(volume.volume_id), 5: block("five")}
    return world, troubled, healthy


def play_outcomes(world: SessionWorld, **more: Any) -> dict[str, Outcome]:
    return world.outcomes(play(world, **more)["session_id"])


def only_for(world: SessionWorld, instance_id: str, error: HoldfastError) -> None:
    """Make reading the snapshots of one instance fail, wherever it is tried."""
    volumes = {volume.volume_id for volume in world.volumes(instance_id)}

    def refuse(snapshot_id: str, index: int) -> None:
        if there(world).snapshots[snapshot_id].volume_id in volumes:
            raise error

    world.ebs.on_read = refuse


def assert_invariants(world: SessionWorld) -> None:
    """R-ORDER, R-NODEL and R-NEVER-GREEN-WRONG over everything there is."""
    repository_points = set()
    if REPOSITORY in world.stores:
        repository = world.repository(REPOSITORY)
        repository_points = set(repository.list_points())
        for name in repository_points:
            repository.read_point(name)
    for instance_id in {key[0] for key in world.catalog.point_records}:
        for point in world.catalog.points(instance_id):
            if point.kind is Kind.BACKUP:
                assert (point.instance_id, point.point_id) in repository_points
            elif point.complete:
                states = {there(world).snapshots[one].state for one in point.snapshot_ids.values()}
                assert states == {"completed"}
    for session_id, session in world.catalog.session_records.items():
        if session.ended_at:
            states = [outcome.state for outcome in world.outcomes(session_id).values()]
            assert State.FAILED not in states or session.state is State.FAILED
            assert State.WARNING not in states or session.state is not State.SUCCESS


FAULTS = [
    pytest.param(
        "create_snapshots",
        AccessDeniedError(
            "HoldfastBackup was denied ec2:CreateSnapshots", resource="arn:role", remedy="Allow it."
        ),
        "AccessDenied",
        id="missing permission",
    ),
    pytest.param(
        "configuration", SourceGoneError("The instance was terminated."), "SourceGone", id="instance gone"
    ),
    pytest.param(
        "create_snapshots",
        KeyUnavailableError("The key is disabled.", resource=KEY, remedy="Enable the key."),
        "KeyUnavailable",
        id="key disabled",
    ),
]


@pytest.mark.parametrize("operation, error, code", FAULTS)
def test_a_fault_of_one_instance_is_its_own(operation: str, error: HoldfastError, code: str):
    world, troubled, healthy = a_world()
    there(world).faults[operation] = [error]
    outcomes = play_outcomes(world)
    assert (outcomes[troubled].state, outcomes[healthy].state) == (State.FAILED, State.SUCCESS)
    (problem,) = outcomes[troubled].problems
    assert (problem.code, problem.message, problem.remedy) == (code, error.message, error.remedy)
    assert problem.resource == (error.resource or troubled)
    assert_invariants(world)


def test_a_re_run_completes_what_a_fault_left():
    world, troubled, _ = a_world()
    there(world).faults["create_snapshots"] = [AccessDeniedError("denied")]
    play(world)
    outcomes = play_outcomes(world, at=START + timedelta(hours=10))
    assert {outcome.state for outcome in outcomes.values()} == {State.SUCCESS}
    assert len(list(world.catalog.points(troubled, Kind.BACKUP))) == 1
    assert_invariants(world)


def test_a_role_that_cannot_be_assumed_is_a_warning_of_the_session_that_names_the_account():
    world, _, _ = a_world()
    world.refused[ACCOUNT] = AccessDeniedError(
        "denied sts:AssumeRole",
        resource="arn:aws:iam::111122223333:role/HoldfastBackup",
        remedy="Fix the trust.",
    )
    concluded = play(world)
    session = world.catalog.read_session(concluded["session_id"])
    (problem,) = session.problems
    assert (session.state, session.counts["unreachable"]) == (State.WARNING, 1)
    assert ACCOUNT in problem.message
    assert problem.remedy == "Fix the trust."


def test_a_role_that_is_lost_mid_way_fails_the_instance_and_clears_nothing_away():
    world, troubled, healthy = a_world()
    expelled = AccessDeniedError("external id does not match")

    def expel() -> None:
        world.refused[ACCOUNT] = expelled

    there(world).faults["create_snapshots"] = [expel]
    outcomes = play_outcomes(world)
    assert {outcomes[one].state for one in (troubled, healthy)} == {State.FAILED}
    assert there(world).snapshots
    world.refused.clear()
    again = play_outcomes(world, at=START + timedelta(hours=10))
    assert {outcome.state for outcome in again.values()} == {State.SUCCESS}
    assert_invariants(world)


def test_throttling_is_waited_out_and_never_a_failure():
    world, _, _ = a_world()
    there(world).faults["create_snapshots"] = [ThrottledError("PendingSnapshotLimitExceeded")] * 30
    there(world).faults["read_snapshots"] = [ThrottledError("RequestLimitExceeded")] * 2
    outcomes = play_outcomes(world)
    assert {outcome.state for outcome in outcomes.values()} == {State.SUCCESS}
    assert len(there(world).snapshots) == 3


def test_a_snapshot_in_error_leaves_no_partial_set_and_the_other_instance_its_own():
    world, troubled, healthy = a_world()
    there(world).fates[world.volumes(troubled)[1].volume_id] = "error"
    outcomes = play_outcomes(world)
    assert (outcomes[troubled].state, outcomes[healthy].state) == (State.FAILED, State.SUCCESS)
    assert {one.volume_id for one in there(world).snapshots.values()} == {world.volumes(healthy)[0].volume_id}
    assert list(world.catalog.points(troubled)) == []
    assert_invariants(world)


def test_a_backup_that_fails_keeps_the_snapshot_and_is_told_as_failed():
    world, troubled, healthy = a_world()
    only_for(world, troubled, KeyUnavailableError("The key is disabled.", resource=KEY))
    outcomes = play_outcomes(world)
    assert (outcomes[troubled].state, outcomes[troubled].kinds) == (State.FAILED, ("snapshot",))
    assert outcomes[troubled].problems[0].resource == KEY
    assert outcomes[healthy].state is State.SUCCESS
    assert [point.kind for point in world.catalog.points(troubled)] == [Kind.SNAPSHOT]
    assert_invariants(world)


def test_snapshots_do_not_pile_up_while_backups_fail_and_the_base_stays():
    world, troubled, _ = a_world()
    play(world)
    base = set(there(world).snapshots)
    only_for(world, troubled, KeyUnavailableError("The key is disabled.", resource=KEY))
    for volume in world.volumes(troubled):
        world.disks[volume.volume_id][7] = block("changed")
    states = [play_outcomes(world, at=START + timedelta(days=day))[troubled].state for day in range(1, 8)]
    mine = [
        one
        for one in there(world).snapshots.values()
        if one.volume_id == world.volumes(troubled)[0].volume_id
    ]
    assert set(states) == {State.FAILED}
    assert len(mine) == 3
    assert base & {one.snapshot_id for one in mine}
    world.ebs.on_read = lambda snapshot_id, index: None
    healed = play_outcomes(world, at=START + timedelta(days=8))[troubled]
    assert (healed.state, healed.full) == (State.SUCCESS, False)
    assert_invariants(world)


def test_a_checksum_that_never_matches_fails_the_instance_as_an_integrity_error():
    world, troubled, healthy = a_world()
    only_for(world, troubled, ChecksumError("The block does not match its checksum."))
    outcomes = play_outcomes(world)
    assert (outcomes[troubled].problems[0].code, outcomes[healthy].state) == ("Integrity", State.SUCCESS)
    assert list(world.catalog.points(troubled, Kind.BACKUP)) == []
    assert_invariants(world)


def test_a_checksum_that_matches_when_read_again_is_no_problem():
    world, troubled, _ = a_world()
    once = [ChecksumError("damaged on the way")]

    def flip(snapshot_id: str, index: int) -> None:
        if once:
            raise once.pop()

    world.ebs.on_read = flip
    assert play_outcomes(world)[troubled].state is State.SUCCESS


def test_snapshots_that_vanish_while_they_are_read_fail_the_instance_alone():
    world, troubled, healthy = a_world()
    volumes = {volume.volume_id for volume in world.volumes(troubled)}

    def vanish(snapshot_id: str, index: int) -> None:
        if there(world).snapshots.get(snapshot_id, None) is None:
            return
        if there(world).snapshots[snapshot_id].volume_id in volumes:
            raise SourceGoneError("The snapshot does not exist.", resource=snapshot_id)

    world.ebs.on_read = vanish
    outcomes = play_outcomes(world)
    assert (outcomes[troubled].problems[0].code, outcomes[healthy].state) == ("SourceGone", State.SUCCESS)


def test_an_expired_token_is_a_passing_problem():
    world, troubled, _ = a_world()
    there(world).faults["read_snapshots"] = [UnavailableError("ExpiredToken")]
    assert play_outcomes(world)[troubled].state is State.SUCCESS


def test_failed_instances_alone_are_retried_sixty_seconds_apart():
    """SEL-2: three attempts, each with the instances that failed in the one before."""
    world = SessionWorld(configured(retries=3, repository="", daily={"snapshots": {"hours": [7]}}))
    first, second, third = (world.add_instance(number) for number in (1, 2, 3))
    plan = {first: 0, second: 1, third: 2}
    tried: list[list[str]] = []
    plain = there(world).create_snapshots

    def create(instance_id: str, **more: Any) -> Any:
        tried[-1].append(instance_id)
        if plan[instance_id]:
            plan[instance_id] -= 1
            raise AccessDeniedError("not yet")
        return plain(instance_id, **more)

    there(world).create_snapshots = create  # type: ignore[method-assign]
    begin = world.catalog.read_part

    def count_attempts(session_id: str, part: str) -> Any:
        if part == "scope" and (not tried or tried[-1]):
            tried.append([])
        return begin(session_id, part)

    world.catalog.read_part = count_attempts  # type: ignore[method-assign]
    concluded = play(world)
    assert [one for one in tried if one] == [[first, second, third], [second, third], [third]]
    assert (concluded["state"], concluded["attempt"]) == ("Success", 2)
    assert world.clock.now() - START >= timedelta(seconds=120)


def test_retries_end_where_the_policy_says():
    world = SessionWorld(configured(retries=2))
    instance_id = world.add_instance()
    there(world).faults["create_snapshots"] = [AccessDeniedError("never")] * 9
    concluded = play(world)
    assert (concluded["attempt"], concluded["state"]) == (2, "Failed")
    assert len(there(world).faults["create_snapshots"]) == 6
    assert world.outcomes(concluded["session_id"])[instance_id].state is State.FAILED


def test_manual_runs_are_not_retried():
    world = SessionWorld(configured(retries=3))
    world.add_instance()
    there(world).faults["create_snapshots"] = [AccessDeniedError("never")] * 9
    assert play(world, manual=True)["attempt"] == 0


def test_a_retry_of_the_backup_uses_the_snapshots_that_are_there():
    world, troubled, _ = a_world(retries=1)
    volumes = {volume.volume_id for volume in world.volumes(troubled)}
    failures = [KeyUnavailableError("disabled", resource=KEY)]

    def refuse(snapshot_id: str, index: int) -> None:
        if failures and there(world).snapshots[snapshot_id].volume_id in volumes:
            raise failures.pop()

    world.ebs.on_read = refuse
    concluded = play(world)
    assert (concluded["state"], concluded["attempt"]) == ("Success", 1)
    assert len(there(world).snapshots) == 3
    assert_invariants(world)


def test_an_instance_that_ended_without_a_word_is_a_failure():
    world, silent, _ = a_world()
    session = {"session_id": "20261122T070000Z-daily-1", "policy": POLICY, "slot": START.isoformat()}
    world.work.write("items.json", [{"account": ACCOUNT, "instance_id": silent, "instance_name": "web"}])
    answer = report_cell(
        ReportCell.model_validate({**session, "region": REGION, "items_key": "items.json"}), world
    )
    outcome = world.outcomes(session["session_id"])[silent]
    assert (answer["state"], outcome.state, outcome.problems[0].code) == (
        "Failed",
        State.FAILED,
        "NotConcluded",
    )


def test_a_scope_that_cannot_be_read_fails_the_session_and_says_why():
    world = SessionWorld(
        configured(
            source={"organization": "company"},
            organizations=[
                {"name": "company", "management_role": "arn:aws:iam::777777777777:role/HoldfastOrganization"}
            ],
        )
    )

    class Closed:
        def roots(self) -> list[str]:
            raise AccessDeniedError("denied organizations:ListRoots", remedy="Delegate an administrator.")

    world.organizations["company"] = Closed()  # type: ignore[assignment]
    concluded = play(world)
    session = world.catalog.read_session(concluded["session_id"])
    assert (concluded["state"], concluded["broken"], concluded["retry"]) == ("Failed", True, False)
    assert session.problems[0].remedy == "Delegate an administrator."


def crash_points(world: SessionWorld, log: list[str], die_at: int | None, *, after: bool) -> None:
    """Count every call that changes something; die before or after the ``die_at``-th."""
    counted = 0

    def wrap(owner: Any, name: str) -> None:
        plain = getattr(owner, name)

        def call(*arguments: Any, **more: Any) -> Any:
            nonlocal counted
            counted += 1
            mine = counted
            log.append(name)
            if mine == die_at and not after:
                raise Crash
            result = plain(*arguments, **more)
            if mine == die_at:
                raise Crash
            return result

        setattr(owner, name, call)

    for name in ("create_snapshots", "tag_snapshot", "untag_snapshot", "delete_snapshot"):
        wrap(there(world), name)
    for name in ("begin_session", "write_session", "write_part", "remove_part", "add_point", "remove_point"):
        wrap(world.catalog, name)
    wrap(world.work, "write")
    for name in ("put_new", "replace", "delete"):
        wrap(world.stores[REPOSITORY], name)


def crashing_session(die_at: int | None, *, after: bool) -> tuple[SessionWorld, list[str], str]:
    """Two sessions, the second of which removes the snapshots of the first; the crash is in the second."""
    world = SessionWorld(
        configured(
            retries=0,
            daily={"snapshots": {"hours": list(range(24)), "keep": 1}, "backups": {"hours": list(range(24))}},
        )
    )
    instance_id = world.add_instance(1, sizes=(1, 1))
    for volume in world.volumes(instance_id):
        world.disks[volume.volume_id] = {0: block("boot"), 9: block(volume.volume_id)}
    play(world)
    world.disks[world.volumes(instance_id)[0].volume_id][9] = block("changed")
    log: list[str] = []
    crash_points(world, log, die_at, after=after)
    world.clock.current = START + timedelta(hours=1)
    play(world)
    return world, log, instance_id


def writes_of_a_session() -> int:
    return len(crashing_session(None, after=False)[1])


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_crash_at_any_change_leaves_nothing_partial_and_the_repeated_step_completes(after: bool):
    """T1: once for every call that changes anything, before and after it."""
    total = writes_of_a_session()
    assert total > 20
    for die_at in range(1, total + 1):
        world, log, instance_id = crashing_session(die_at, after=after)
        where = f"{'after' if after else 'before'} change {die_at}: {log[die_at - 1]}"
        assert_invariants(world)
        session_id = max(world.catalog.session_records)
        session = world.catalog.read_session(session_id)
        assert session.state is State.SUCCESS, where
        backups = list(world.catalog.points(instance_id, Kind.BACKUP))
        assert len(backups) == 2, where
        snapshots = [one for one in world.catalog.points(instance_id, Kind.SNAPSHOT) if one.complete]
        assert len(snapshots) == 1, where
        assert set(there(world).snapshots) == set(snapshots[0].snapshot_ids.values()), where
