"""Work in threads that can be left behind: what hangs in one of them (a dead mount, a server that does not
answer) holds up neither the step nor the end of the process.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from queue import Empty, SimpleQueue
from typing import TypeVar

from lifecycle_agent.deadline import Deadline
from lifecycle_agent.steps import Work

T = TypeVar("T")

# How late a request to stop may be noticed, and how often progress is said: no person sees the difference.
TICK = 0.1


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


def bounded(job: Callable[[], T], work: Work, until: Deadline) -> T:
    """The job's result.

    Raises:
        TimeoutError: there was none by `until`.
    """
    for result in each([job], 1, work, until, lambda: None):
        return result
    raise TimeoutError


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
