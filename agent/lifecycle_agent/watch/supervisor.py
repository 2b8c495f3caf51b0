"""Starts the transition's process, and starts it again when it dies."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Callable, Sequence

from lifecycle_agent.deadline import Clock, boottime
from lifecycle_agent.logline import logger
from lifecycle_agent.model import Notice

# How a transition's process says that it ran to its end. Not 1: that is how Python ends by an exception.
DONE = 0
DONE_WITH_FAILURES = 10
# ... that it did nothing, for something else is being done by hand (the code of a lock that is held),
GAVE_WAY = 3
# ... and that it was told to stop, as a shell says it (128 + SIGTERM). It goes on, and that was no death.
INTERRUPTED = 143
# With anything else it has died, and goes on from its journal.

FIRST_PAUSE = 0.5  # seconds; a single death (out of memory, a stray kill) costs no more than this
LONGEST_PAUSE = 30.0  # seconds; the shortest heartbeat timeout AWS allows

STOP_SECONDS = 5.0  # a transition told to stop writes one line to its journal; it is killed after this

Launch = Callable[[Notice, int], Sequence[str]]


class Supervisor:
    """One transition: its process, or the pause before it is started again.

    Args:
        launch: the command line for a notice and the number of deaths so far.
    """

    def __init__(self, notice: Notice, launch: Launch, clock: Clock = boottime) -> None:
        self.notice = notice
        self._launch = launch
        self._clock = clock
        self._child: subprocess.Popen[bytes] | None = None
        self._start_at = 0.0
        self.deaths = 0
        self.exit_code: int | None = None
        self.check()

    @property
    def over(self) -> bool:
        """Whether the transition ran to its end."""
        return self.exit_code is not None

    @property
    def pid(self) -> int | None:
        """The transition's process, None between two of them."""
        return self._child.pid if self._child else None

    def pause_left(self) -> float | None:
        """Seconds until the transition is started again; None while it runs or when it is over."""
        if self.over or self._child is not None:
            return None
        return max(0.0, self._start_at - self._clock())

    def check(self) -> None:
        """Reap the process if it has ended, and start it (again) if it is time to. Never blocks."""
        if self.over:
            return
        if self._child is None:
            if self._clock() >= self._start_at:
                self._start()
            return
        code = self._child.poll()
        if code is None:
            return
        self._child = None
        if code in (DONE, DONE_WITH_FAILURES, GAVE_WAY):
            self.exit_code = code
        elif code == INTERRUPTED:
            self.deaths = 0
            self._start_at = self._clock() + FIRST_PAUSE
            logger.warning("the transition was told to stop, by somebody else; it goes on")
        else:
            how = f"killed by signal {-code}" if code < 0 else f"exit code {code}"
            self._died(how)

    def stop(self) -> None:
        """Stop the process, leaving the transition where it is: the journal says where to go on."""
        if self._child is None:
            return
        self._child.terminate()
        try:
            self._child.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()

    def _start(self) -> None:
        command = self._launch(self.notice, self.deaths)
        try:
            # In / because `python -m` looks for modules in the working directory first.
            self._child = subprocess.Popen(command, stdin=subprocess.DEVNULL, cwd="/")
        except OSError as error:  # no memory, no process slots: may pass
            self._died(str(error))

    def _died(self, how: str) -> None:
        self.deaths += 1
        pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** (self.deaths - 1)) * random.uniform(0.8, 1.2)  # noqa: S311
        self._start_at = self._clock() + pause
        logger.error(
            "the transition died (%s), death %d; it goes on from its journal in %.1f s",
            how,
            self.deaths,
            pause,
        )
