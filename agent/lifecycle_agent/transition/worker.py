"""Runs one step in a thread that can be left behind, so that no step can hold up the answer to the group."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue

from lifecycle_agent.deadline import Deadline
from lifecycle_agent.errors import Interrupted, StepFailed
from lifecycle_agent.steps import Done, Work
from lifecycle_agent.transition.progress import Teller

# Seconds that a step may be late: killing a command's processes takes up to 1 s (`clients.process_group`).
# They come out of the reserves behind it, the smallest of which is 5 s.
GRACE = 2.0
# Seconds until a step that does not notice the stop is left behind; the watcher kills us after 5 s.
STOP_GRACE = 2.0
# How late a tightened deadline or a stop is noticed while a step blocks. Its end is noticed at once.
TICK = 0.1


STOPPING = "stopping after this step, and at once when told again"


class Stop:
    """Being told to stop: now (SIGTERM), or after the step that is running (SIGINT once).

    The signal handlers set these events. The main thread only ever looks at them (`is_set`): were it to
    wait for one, a handler could come while it holds the event's lock, and wait for itself.
    """

    def __init__(self) -> None:
        self.now = threading.Event()
        self.after_step = threading.Event()

    def check(self) -> None:
        """Between two steps.

        Raises:
            Interrupted: the agent was told to stop.
        """
        if self.now.is_set() or self.after_step.is_set():
            raise Interrupted


class StepWork:
    """What a step gets to work with (see `steps.Work`)."""

    def __init__(self, deadline: Deadline, teller: Teller, stop: Stop) -> None:
        self.deadline = deadline
        self._teller = teller
        self._stop = stop
        self._left_behind = False
        self._said = ""

    def say(self, text: str, done: int | None = None, total: int | None = None) -> None:
        """Show what the step does or waits for."""
        if self._left_behind:
            return
        if self._stop.after_step.is_set():
            text = f"{text}; {STOPPING}" if text else STOPPING
        self._said = text
        self._teller.say(text, done, total)

    def say_stopping(self) -> None:
        """Once told to stop after the step, show that, while the step says nothing by itself."""
        if self._stop.after_step.is_set() and STOPPING not in self._said:
            self.say(self._said)

    def wait(self, seconds: float) -> None:
        """Sleep, but not past the deadline, and not when told to stop."""
        if self._stop.now.wait(min(seconds, self.deadline.remaining())) or self._left_behind:
            raise Interrupted

    def leave_behind(self) -> None:
        """The transition goes on without the step: it is not heard any more, and ends at its next wait."""
        self._left_behind = True


def run(name: str, step: Callable[[Work], Done], work: StepWork, stop: Stop) -> Done:
    """Run `step` until it ends, or until `GRACE` after its deadline.

    Raises:
        StepFailed: it was left behind.
        Interrupted: the agent was told to stop.
        Exception: whatever the step raised.
    """
    results: SimpleQueue[Done | BaseException] = SimpleQueue()

    def labour() -> None:
        try:
            results.put(step(work))
        except BaseException as error:
            results.put(error)

    try:
        threading.Thread(target=labour, name=name, daemon=True).start()
    except RuntimeError:  # no thread to be had: better without a limit than not at all
        labour()
    give_up: Deadline | None = None
    while True:
        try:
            result = results.get(timeout=TICK)
        except Empty:
            if stop.now.is_set():
                give_up = give_up or Deadline.after(STOP_GRACE)
                if give_up.passed:
                    work.leave_behind()
                    raise Interrupted from None
                continue
            work.say_stopping()
            if work.deadline.now() - work.deadline.at > GRACE:
                work.leave_behind()
                raise StepFailed(
                    "left behind: it blocks, and its time is up", "look for what hangs in the log above"
                ) from None
            continue
        if isinstance(result, Exception):
            raise result
        if isinstance(result, BaseException):  # sys.exit and the like: the step's end, not ours
            raise RuntimeError(repr(result)) from result
        return result
