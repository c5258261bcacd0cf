"""Runs everything that happens over time in the simulated world: executions, waits, schedules.

Virtual time moves only while nobody works: no activity is ready and no handler is running. Waits therefore
overlap as they do in AWS (a thousand waits of 60 s take 60 s), and a wait costs no real time.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import heapq
import itertools
import logging
import selectors
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol, TypeVar

T = TypeVar("T")

_LOG = logging.getLogger(__name__)

_working: contextvars.ContextVar[bool] = contextvars.ContextVar("working", default=False)


class VirtualClock(Protocol):
    """The clock that the engine moves."""

    def now(self) -> datetime:
        """The current virtual instant."""
        ...


@dataclass(order=True, slots=True)
class Timer:
    """Something due at an instant."""

    at: datetime
    order: int
    action: Callable[[], None] = field(compare=False)
    cancelled: bool = field(compare=False, default=False)


@dataclass(slots=True)
class _Waiter:
    until: datetime | None
    done: Future[None]


class _IdleSelector(selectors.DefaultSelector):
    """Asks the engine for something to do before it sleeps."""

    on_idle: Callable[[], bool] | None = None

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if (timeout is None or timeout > 0) and self.on_idle is not None:
            arrived = super().select(0)
            if arrived or self.on_idle():
                return arrived
        return super().select(timeout)


class Engine:
    """A discrete-event loop in a thread of its own.

    ``flows``: when true, executions that wait draw the clock forward on their own; when false, only
    :meth:`settle` with an instant moves it. Handlers run in ``workers`` threads; with one worker every run of
    the same world takes the same course.
    """

    def __init__(
        self, clock: VirtualClock, move_clock: Callable[[datetime], None], *, workers: int = 4
    ) -> None:
        self.clock = clock
        self.flows = True
        self._move_clock = move_clock
        self._passive: list[Timer] = []
        self._flowing: list[Timer] = []
        self._order = itertools.count()
        self._busy = 0
        self._lock = threading.Lock()
        self._waiters: list[_Waiter] = []
        self._tasks: set[asyncio.Task[Any]] = set()
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="handler")
        selector = _IdleSelector()
        selector.on_idle = self._on_idle
        self._loop = asyncio.SelectorEventLoop(selector)
        self._thread = threading.Thread(target=self._loop.run_forever, name="engine", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Abandon what is running and end the threads."""

        async def cancel() -> None:
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

        with contextlib.suppress(TimeoutError):
            asyncio.run_coroutine_threadsafe(cancel(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._pool.shutdown(wait=False, cancel_futures=True)
        if not self._thread.is_alive():
            self._loop.close()

    def start(self, activity: Coroutine[Any, Any, T]) -> Future[T]:
        """Begin an activity from any thread; the future ends with it."""
        outcome: Future[T] = Future()

        def begin() -> None:
            task = self._loop.create_task(activity)
            self._tasks.add(task)
            task.add_done_callback(ended)

        def ended(task: asyncio.Task[T]) -> None:
            self._tasks.discard(task)
            if task.cancelled():
                outcome.cancel()
            elif (error := task.exception()) is not None:
                _LOG.error("an activity of the simulator failed", exc_info=error)
                outcome.set_exception(error)
            else:
                outcome.set_result(task.result())

        self._loop.call_soon_threadsafe(begin, context=contextvars.Context())
        return outcome

    def post(self, action: Callable[[], None]) -> None:
        """Run a short action on the engine's thread, where activities live."""
        self._loop.call_soon_threadsafe(action, context=contextvars.Context())

    def at(self, instant: datetime, action: Callable[[], None], *, flows: bool = False) -> Timer:
        """Run ``action`` on the engine's thread when the clock reaches ``instant``.

        A timer that ``flows`` draws time towards it; the others are only passed.
        """
        timer = Timer(instant, next(self._order), action)
        with self._lock:
            heapq.heappush(self._flowing if flows else self._passive, timer)
        self._wake()
        return timer

    async def sleep_until(self, instant: datetime) -> None:
        """Let an activity wait for an instant; returns at once when it has passed."""
        if instant <= self.clock.now():
            return
        reached = self._loop.create_future()
        timer = self.at(instant, lambda: reached.done() or reached.set_result(None), flows=True)
        try:
            await reached
        finally:
            timer.cancelled = True

    async def sleep(self, seconds: float) -> None:
        """Let an activity wait for ``seconds`` of virtual time."""
        await self.sleep_until(self.clock.now() + timedelta(seconds=seconds))

    async def call(self, function: Callable[[], T]) -> T:
        """Run blocking work (a handler, an AWS call) in a worker thread; the clock stands still meanwhile."""
        context = contextvars.copy_context()
        self._begin_work()
        try:
            return await self._loop.run_in_executor(self._pool, context.run, self._in_worker, function)
        finally:
            self._end_work()

    async def within(self, seconds: float | None, activity: Coroutine[Any, Any, T]) -> T:
        """The result of an activity. Raises TimeoutError after ``seconds`` of virtual time."""
        if seconds is None:
            return await activity
        work = self._loop.create_task(activity)
        late = self._loop.create_task(self.sleep(seconds))
        try:
            await asyncio.wait({work, late}, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                return work.result()
            raise TimeoutError
        finally:
            for task in (work, late):
                task.cancel()
            await asyncio.gather(work, late, return_exceptions=True)

    @contextlib.contextmanager
    def busy(self) -> Iterator[None]:
        """Hold the clock while the calling thread works inside the world."""
        if _working.get():
            yield
            return
        token = _working.set(True)
        self._begin_work()
        try:
            yield
        finally:
            _working.reset(token)
            self._end_work()

    def settle(self, until: datetime | None = None, *, timeout: float | None = None) -> None:
        """Block until nothing more happens by itself, with the clock at ``until`` or later.

        Everything due up to ``until`` has then happened, in order. Raises TimeoutError after ``timeout``
        real seconds.
        """
        if _working.get() or threading.current_thread() is self._thread:
            raise RuntimeError("a handler cannot wait for the world that waits for it")
        waiter = _Waiter(until, Future())

        def enter() -> None:
            self._waiters.append(waiter)

        self._loop.call_soon_threadsafe(enter)
        waiter.done.result(timeout)

    def await_future(self, outcome: Future[T], *, timeout: float | None = None) -> T:
        """What the engine was asked for. Raises TimeoutError when the world comes to rest without it."""
        while not outcome.done():
            self.settle(timeout=timeout)
            if not outcome.done() and not self.flows:
                raise TimeoutError("time does not flow, and the execution waits for it")
            if not outcome.done():
                raise TimeoutError("nothing happens any more: the execution waits for something from outside")
        return outcome.result()

    def _in_worker(self, function: Callable[[], T]) -> T:
        _working.set(True)
        return function()

    def _begin_work(self) -> None:
        with self._lock:
            self._busy += 1

    def _end_work(self) -> None:
        with self._lock:
            self._busy -= 1
        self._wake()

    def _wake(self) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is left to wake
            self._loop.call_soon_threadsafe(lambda: None)

    def _due(self, heap: list[Timer]) -> Timer | None:
        while heap and heap[0].cancelled:
            heapq.heappop(heap)
        return heap[0] if heap else None

    def _pop_until(self, horizon: datetime) -> Timer | None:
        """The earliest timer at or before ``horizon``, taken off its heap."""
        with self._lock:
            heaps = [heap for heap in (self._passive, self._flowing) if self._due(heap)]
            if not heaps:
                return None
            earliest = min(heaps, key=lambda heap: heap[0])
            return heapq.heappop(earliest) if earliest[0].at <= horizon else None

    def _horizon(self) -> datetime:
        """How far time may move now."""
        limits = [waiter.until for waiter in self._waiters if waiter.until is not None]
        with self._lock:
            flowing = self._due(self._flowing) if self.flows else None
        return max([self.clock.now(), *limits, *([flowing.at] if flowing else [])])

    def _on_idle(self) -> bool:
        """Called when nothing is ready. True when it made something ready."""
        with self._lock:
            if self._busy:
                return False
        timer = self._pop_until(self._horizon())
        if timer is not None:
            if timer.at > self.clock.now():
                self._move_clock(timer.at)
            self._loop.call_soon(timer.action, context=contextvars.Context())
            return True
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if waiter.until is not None and waiter.until > self.clock.now():
                self._move_clock(waiter.until)
            waiter.done.set_result(None)
        return bool(waiters)
