"""Work in threads that can be left behind: what hangs in one of them (a dead mount, a server that does not
answer) holds up neither the step nor the end of the process.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import TypeVar

from lifecycle_agent.deadline import Deadline
from lifecycle_agent.steps import Work

T = TypeVar("T")

# How late a request to stop may be noticed, and how often progress is said: no person sees the difference.
TICK = 0.1
ARENA_MAX, MMAP_THRESHOLD, TRIM_THRESHOLD = -8, -3, -1  # M_... in glibc's malloc.h


def each(
    jobs: Iterable[Callable[[], T]], threads: int, work: Work, until: Deadline, tick: Callable[[], None]
) -> Iterator[T]:
    """The jobs' results as they come; ends early at `until`, with the rest left behind.

    Raises:
        Interrupted: the agent was told to stop. What a job raises comes through as well.
    """
    waiting = deque(jobs)
    expected = len(waiting)
    results: SimpleQueue[tuple[T | None, BaseException | None]] = SimpleQueue()

    def labour() -> None:
        while True:
            try:
                job = waiting.popleft()
            except IndexError:
                return
            try:
                results.put((job(), None))
            except BaseException as error:
                results.put((None, error))

    for _ in range(min(threads, expected)):
        threading.Thread(target=labour, name="logs", daemon=True).start()
    try:
        for _ in range(expected):
            result = _next(results, work, until, tick)
            if result is None:
                return
            value, error = result
            if error is not None:
                raise error
            yield value  # type: ignore[misc] # a value, since there is no error
    finally:
        waiting.clear()


def spare_memory() -> None:
    """Have the threads of this process share two pools of memory.

    By default glibc gives nearly every thread one of its own, and what one has freed stays with it: 25 MiB
    in an upload of twelve threads. What is larger than 1 MiB should go back to the system when it is
    freed; what is smaller is soon needed again. Another C library than glibc may have no `mallopt`, and no
    such pools.
    """
    with suppress(ImportError, OSError, AttributeError):
        import ctypes

        libc = ctypes.CDLL(None)
        libc.mallopt(ARENA_MAX, 2)
        libc.mallopt(MMAP_THRESHOLD, 1 << 20)
        libc.mallopt(TRIM_THRESHOLD, 4 << 20)


def bounded(job: Callable[[], T], work: Work, until: Deadline) -> T:
    """The job's result.

    Raises:
        TimeoutError: there was none by `until`.
    """
    for result in each([job], 1, work, until, lambda: None):
        return result
    raise TimeoutError


class Pool:
    """Threads that do whatever is handed to them, in that order, until it is closed."""

    def __init__(self, threads: int) -> None:
        self._jobs: SimpleQueue[tuple[Callable[[], None], Future[None]] | None] = SimpleQueue()
        self._threads = threads
        for _ in range(threads):
            threading.Thread(target=self._labour, name="logs-send", daemon=True).start()

    def submit(self, job: Callable[[], None]) -> Future[None]:
        """Do it in one of the threads."""
        future: Future[None] = Future()
        self._jobs.put((job, future))
        return future

    def close(self) -> None:
        """Let the threads end once everything handed in is done."""
        for _ in range(self._threads):
            self._jobs.put(None)

    def _labour(self) -> None:
        while (handed := self._jobs.get()) is not None:
            job, future = handed
            try:
                job()
            except BaseException as error:
                future.set_exception(error)
            else:
                future.set_result(None)


def _next(
    results: SimpleQueue[tuple[T | None, BaseException | None]],
    work: Work,
    until: Deadline,
    tick: Callable[[], None],
) -> tuple[T | None, BaseException | None] | None:
    while True:
        work.wait(0)  # raises if the agent was told to stop
        tick()
        try:
            return results.get(timeout=until.timeout(TICK))
        except Empty:
            if until.passed:
                return None
