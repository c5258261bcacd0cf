"""What stopping a session changes in its steps, and what it leaves alone."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from holdfast.errors import ConflictError, NotFoundError, PermanentError, UnavailableError
from holdfast.model import tags as names
from holdfast.model.restore_point import Kind
from holdfast.model.session import Session, State
from holdfast.operations.sessions.conclude_instance import read_outcome, write_outcome
from holdfast.operations.sessions.stop_marks import STOP, stop_key
from holdfast.operations.sessions.stop_session import StopSession, stop_session
from holdfast.operations.steps import InstanceStep
from tests.session_play import Event, play, step
from tests.session_world import ACCOUNT, POLICY, REGION, START, SessionWorld

ANNA = "arn:aws:iam::999999999999:user/anna"


def stop(world: SessionWorld) -> Event:
    return step(StopSession, stop_session, {"policy": POLICY, "by": ANNA}, world)


def stopping(world: SessionWorld, operation: str, *, first: int = 0) -> None:
    """Let the call after the ``first`` ones of an operation be the moment at which somebody stops."""
    faults = world.spoke(POLICY, ACCOUNT, REGION).faults.setdefault(operation, [])
    nothing: Callable[[], object] = bool
    faults += [*([nothing] * first), lambda: stop(world)]


def marks(world: SessionWorld) -> list[str]:
    found = world.spoke(POLICY, ACCOUNT, REGION).snapshots.values()
    return [one.snapshot_id for one in found if names.IN_USE in one.tags]


def test_a_snapshot_being_taken_is_finished_and_the_next_instance_does_not_start():
    world = SessionWorld()
    one, two = world.add_instance(1), world.add_instance(2)
    stopping(world, "create_snapshots")
    ended = play(world)
    outcomes = world.outcomes(ended["session_id"])
    assert (outcomes[one].state, outcomes[one].kinds) == (State.STOPPED, ("snapshot",))
    assert (outcomes[two].state, outcomes[two].kinds) == (State.STOPPED, ())
    assert [point.kind for point in world.catalog.points(one)] == [Kind.SNAPSHOT]
    assert list(world.catalog.points(two)) == []
    assert list(world.repository("main", create=True).list_points()) == []
    assert marks(world) == []


def test_a_stopped_session_says_by_whom_and_is_not_retried():
    world = SessionWorld()
    world.add_instance(1)
    world.add_instance(2)
    stopping(world, "create_snapshots")
    ended = play(world)
    session = world.catalog.read_session(ended["session_id"])
    assert (session.state, session.attempt, session.counts["stopped"]) == (State.STOPPED, 0, 2)
    assert session.problems[0].message.startswith(f"{ANNA} stopped the session at 2026-11-22T07:0")
    assert "2 of its instances were not done" in session.problems[0].message
    assert ended["retry"] is False
    ((_, metrics),) = world.metrics
    assert (metrics["Sessions"], metrics["SessionsFailed"]) == (1, 1)


def test_workers_stop_at_the_mark_in_their_region_and_leave_nothing_visible():
    world = SessionWorld()
    instance = world.add_instance(1)
    faults = world.spoke(POLICY, ACCOUNT, REGION).faults
    faults["read_snapshots"] = [lambda: world.work.write(stop_key(session_of(world)), {"by": "", "at": ""})]
    ended = play(world)
    outcome = world.outcomes(ended["session_id"])[instance]
    assert (outcome.state, outcome.problems[0].code) == (State.STOPPED, "Stopped")
    assert "abandoned" in outcome.problems[0].message
    assert list(world.repository("main").list_points()) == []


def session_of(world: SessionWorld) -> str:
    (session,) = world.catalog.session_records
    return session


def test_stopping_between_two_attempts_hides_no_failure():
    world = SessionWorld()
    broken = world.add_instance(1)
    spoke = world.spoke(POLICY, ACCOUNT, REGION)
    spoke.faults["create_snapshots"] = [PermanentError("The key is gone.")]
    stopping(world, "configuration", first=1)
    ended = play(world)
    outcome = world.outcomes(ended["session_id"])[broken]
    assert outcome.state is State.FAILED
    assert {problem.code for problem in outcome.problems} == {"Permanent", "Stopped"}
    session = world.catalog.read_session(ended["session_id"])
    assert (session.state, session.attempt) == (State.FAILED, 1)


def test_the_session_after_a_stopped_one_is_whole():
    world = SessionWorld()
    instance = world.add_instance(1)
    stopping(world, "create_snapshots")
    play(world)
    world.clock.current = world.clock.now().replace(hour=17, minute=0, second=0)
    ended = play(world)
    assert world.outcomes(ended["session_id"])[instance].state is State.SUCCESS
    assert len(list(world.repository("main").list_points())) == 1


def test_a_session_that_has_ended_is_not_stopped():
    world = SessionWorld()
    world.add_instance(1)
    ended = play(world)
    with pytest.raises(ConflictError, match="has ended: Success"):
        stop_session(StopSession(session_id=ended["session_id"]), world)
    with pytest.raises(NotFoundError, match="No session of the policy is running"):
        stop_session(StopSession(policy=POLICY), world)
    assert world.catalog.read_part(ended["session_id"], STOP) is None


def test_an_unknown_session_cannot_be_stopped():
    with pytest.raises(NotFoundError):
        stop_session(StopSession(session_id="nobody"), SessionWorld())


def test_a_pass_of_retention_is_not_stopped():
    world = SessionWorld()
    world.catalog.write_session(Session(session_id="pass", policy="", slot=START, started_at=START))
    with pytest.raises(ConflictError, match="pass of retention"):
        stop_session(StopSession(session_id="pass"), world)


@pytest.mark.parametrize("asked", [{}, {"session_id": "one", "policy": "daily"}])
def test_what_to_stop_is_said_in_one_way(asked: Event):
    with pytest.raises(ValueError, match="give session_id or policy"):
        StopSession.model_validate(asked)


def test_a_region_that_cannot_be_marked_is_told_and_the_steps_stop_all_the_same():
    world = SessionWorld()
    instance = world.add_instance(1)
    world.refused[REGION] = UnavailableError("S3 does not answer.")
    errors: list[Exception] = []

    def stop_badly() -> None:
        with pytest.raises(UnavailableError) as caught:
            stop_session(StopSession(policy=POLICY), world)
        errors.append(caught.value)

    world.spoke(POLICY, ACCOUNT, REGION).faults["create_snapshots"] = [stop_badly]
    ended = play(world)
    assert len(errors) == 1
    assert world.outcomes(ended["session_id"])[instance].state is State.STOPPED


def test_an_attempt_that_ends_late_does_not_speak_over_a_later_one():
    world = SessionWorld()
    instance = world.add_instance(1)
    ended = play(world)
    (outcome,) = world.outcomes(ended["session_id"]).values()
    session = world.catalog.read_session(ended["session_id"])
    told = {"policy": POLICY, "slot": session.slot, "region": REGION, "account": ACCOUNT}
    early, late = (
        InstanceStep(session_id=session.session_id, instance_id=instance, attempt=attempt, **told)
        for attempt in (0, 1)
    )
    write_outcome(late, outcome, world)
    write_outcome(early, outcome.model_copy(update={"state": State.FAILED}), world)
    found = read_outcome(early, world)
    assert found is not None
    assert found.state is State.SUCCESS
