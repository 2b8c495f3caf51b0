"""A time limit on the whole of a call, for libraries that only limit each read."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def within(seconds: float, call: Callable[[], T]) -> T:
    """Give `call` at most `seconds`, name resolution and slow answers included.

    It runs in a thread of its own. One that is still at it when the time is up is left behind: as a
    daemon thread it ends with the process.

    Raises:
        TimeoutError: the time was up first.
        Exception: whatever `call` raised.
    """
    answers: queue.SimpleQueue[tuple[T | None, BaseException | None]] = queue.SimpleQueue()

    def run() -> None:
        try:
            answers.put((call(), None))
        except BaseException as error:
            answers.put((None, error))

    try:
        threading.Thread(target=run, daemon=True, name="bounded-call").start()
    except RuntimeError:  # no thread to be had: better without a limit than not at all
        run()
    try:
        value, error = answers.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError(f"no answer within {seconds:.1f} s") from None
    if error is not None:
        raise error
    return value  # type: ignore[return-value]
