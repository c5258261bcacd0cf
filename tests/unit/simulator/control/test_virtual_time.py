"""Virtual time moves only while nobody works, and everything due happens in order."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from simulator.clock import VirtualClock
from simulator.engine import Engine

START = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def engine() -> Iterator[Engine]:
    """An engine that begins at the turn of the year."""
    clock = VirtualClock(START)
    made = Engine(clock, clock.set)
    yield made
    made.close()


def after(seconds: float) -> datetime:
    """An instant of the world."""
    return START + timedelta(seconds=seconds)


def test_waits_overlap_and_end_in_order(engine):
    ended: list[tuple[int, datetime]] = []

    async def wait(seconds: int) -> None:
        await engine.sleep(seconds)
        ended.append((seconds, engine.clock.now()))

    with engine.busy():  # else time might flow before the last has begun
        for seconds in (30, 10, 20):
            engine.start(wait(seconds))
    engine.settle()

    assert ended == [(10, after(10)), (20, after(20)), (30, after(30))]


def test_what_is_only_passed_does_not_draw_time(engine):
    passed: list[datetime] = []
    engine.at(after(60), lambda: passed.append(engine.clock.now()))

    engine.settle()
    assert (passed, engine.clock.now()) == ([], START)
    engine.settle(after(100))
    assert (passed, engine.clock.now()) == ([after(60)], after(100))


def test_a_cancelled_timer_does_not_fire(engine):
    fired: list[int] = []
    timer = engine.at(after(60), lambda: fired.append(1))
    timer.cancelled = True

    engine.settle(after(100))

    assert fired == []


def test_time_stands_still_while_somebody_works(engine):
    begun, leave = threading.Event(), threading.Event()
    seen: list[datetime] = []

    def work() -> None:
        begun.set()
        leave.wait(30)
        seen.append(engine.clock.now())

    async def call() -> None:
        await engine.call(work)

    with engine.busy():
        engine.start(engine.sleep(10))
        engine.start(call())
        begun.wait(30)
    leave.set()
    engine.settle()

    assert seen == [START]
    assert engine.clock.now() == after(10)


def test_without_flow_only_settling_moves_time(engine):
    engine.flows = False
    ended = engine.start(engine.sleep(10))

    engine.settle()
    assert not ended.done()
    engine.settle(after(10))
    assert ended.done()


def test_an_activity_that_takes_too_long_is_ended(engine):
    async def patient() -> str:
        try:
            return await engine.within(5, engine.sleep(60))
        except TimeoutError:
            return "late"

    outcome = engine.start(patient())

    assert engine.await_future(outcome) == "late"
    assert engine.clock.now() == after(5)


def test_waiting_for_what_never_comes_is_an_error(engine):
    async def forever() -> None:
        await engine._loop.create_future()

    with pytest.raises(TimeoutError, match="something from outside"):
        engine.await_future(engine.start(forever()))


def test_a_handler_cannot_wait_for_the_world_that_waits_for_it(engine):
    async def call() -> str:
        try:
            await engine.call(engine.settle)
        except RuntimeError as error:
            return str(error)
        return "no error"

    assert "cannot wait" in engine.await_future(engine.start(call()))


def test_work_that_fails_fails_who_asked_for_it(engine):
    def fail() -> None:
        raise ValueError("no")

    async def call() -> None:
        await engine.call(fail)

    with pytest.raises(ValueError, match="no"):
        engine.await_future(engine.start(call()))
