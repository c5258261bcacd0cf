"""A crew of threads that take numbered items from one source, under a deadline.

The crew knows at any instant which items are taken and not finished: the lowest of them is where a
successor goes on. An item is finished only when its work returned; a failure anywhere stops everybody.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextvars import copy_context
from threading import Lock, Thread
from typing import Final, Generic, TypeVar

from holdfast.dataplane.deadline import Deadline

Item = TypeVar("Item")

GRACE: Final = 0.5
"""Share of the deadline's margin that threads get to finish what they have begun."""


class Crew(Generic[Item]):
    """Works off ``source`` with threads.

    ``key`` numbers an item; numbers rise. ``make_worker`` is called once in each thread and returns what
    handles one item (so that a thread has its own buffer).
    """

    def __init__(
        self,
        source: Iterator[Item],
        key: Callable[[Item], int],
        make_worker: Callable[[], Callable[[Item], None]],
        deadline: Deadline,
    ) -> None:
        self._source = source
        self._key = key
        self._make_worker = make_worker
        self._deadline = deadline
        self._lock = Lock()
        self._taken: set[int] = set()
        self._next = 0
        self._failure: BaseException | None = None
        self._stopped = False
        self.taken_count = 0
        self.exhausted = False

    def run(self, threads: int) -> int | None:
        """Work until the source is exhausted (None) or time is up: the first item that is not finished.

        Raises the first error of any worker or of the source.
        """
        try:
            if threads == 1:
                self._work()
            else:
                self._run_threads(threads)
        finally:
            self._stopped = True
        if self._failure is not None:
            raise self._failure
        # No lock: a thread that was left behind may hold it while it waits for the source. Items are added to
        # `_taken` before `_next` moves past them, so reading in the opposite order misses none.
        following = None if self.exhausted else self._next
        return min(self._taken, default=following)

    def _run_threads(self, threads: int) -> None:
        crew = [Thread(target=copy_context().run, args=(self._work,), daemon=True) for _ in range(threads)]
        for thread in crew:
            thread.start()
        for thread in crew:
            self._wait(thread)

    def _wait(self, thread: Thread) -> None:
        while thread.is_alive():
            thread.join(1.0)
            if self._deadline.remaining() < self._deadline.margin * GRACE:
                return

    def _take(self) -> Item | None:
        with self._lock:
            if self._stopped or self.exhausted or self._deadline.is_near:
                self._stopped = True
                return None
            item = next(self._source, None)
            if item is None:
                self.exhausted = True
                return None
            number = self._key(item)
            self._taken.add(number)
            self._next = number + 1
            self.taken_count += 1
            return item

    def _work(self) -> None:
        try:
            handle = self._make_worker()
            while (item := self._take()) is not None:
                handle(item)
                self._taken.discard(self._key(item))
        except BaseException as error:  # noqa: BLE001 - raised again by `run`, in the caller's thread
            self._failure = self._failure or error
            self._stopped = True
