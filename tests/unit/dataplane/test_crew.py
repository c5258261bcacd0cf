from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from holdfast.dataplane.deadline import Deadline, no_deadline
from holdfast.dataplane.workers import Crew


def a_crew(
    source: Iterator[int], handle: Callable[[int], None], deadline: Deadline | None = None
) -> Crew[int]:
    return Crew(source, lambda item: item, lambda: handle, deadline or no_deadline())


@pytest.mark.parametrize("threads", [1, 8])
def test_every_item_is_handled_once(threads: int) -> None:
    handled: list[int] = []
    crew = a_crew(iter(range(0, 300, 3)), handled.append)
    assert crew.run(threads) is None
    assert sorted(handled) == list(range(0, 300, 3))
    assert crew.taken_count == 100


@pytest.mark.parametrize("threads", [1, 4])
def test_when_time_is_up_the_next_item_is_told(threads: int) -> None:
    left = iter([100.0] * 5)
    handled: list[int] = []
    crew = a_crew(iter(range(10, 90)), handled.append, Deadline(lambda: next(left, 50.0), margin=60.0))
    assert crew.run(threads) == 15
    assert sorted(handled) == [10, 11, 12, 13, 14]


@pytest.mark.parametrize("threads", [1, 4])
def test_the_error_of_an_item_is_raised_and_ends_the_work(threads: int) -> None:
    def handle(item: int) -> None:
        if item == 3:
            raise KeyError(item)

    source = iter(range(10_000))
    with pytest.raises(KeyError):
        a_crew(source, handle).run(threads)
    assert next(source) < 9_999


def test_the_error_of_the_source_is_raised() -> None:
    def source() -> Iterator[int]:
        yield 1
        raise KeyError("source")

    with pytest.raises(KeyError):
        a_crew(source(), lambda item: None).run(4)


def test_a_source_that_hangs_does_not_hold_up_the_end() -> None:
    asked, release = threading.Event(), threading.Event()

    def source() -> Iterator[int]:
        yield 7
        asked.set()
        release.wait()
        yield 8

    deadline = Deadline(lambda: 1.0 if asked.is_set() else 100.0, margin=60.0)
    assert a_crew(source(), lambda item: None, deadline).run(2) == 8
    release.set()


def test_threads_see_the_context_of_their_caller() -> None:
    from contextvars import ContextVar

    world: ContextVar[str] = ContextVar("world", default="none")
    world.set("simulated")
    seen: set[str] = set()
    a_crew(iter(range(20)), lambda item: seen.add(world.get())).run(3)
    assert seen == {"simulated"}
