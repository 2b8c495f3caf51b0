"""Starts what ships closed logs, and ends it when there is something better to do. Keeps nothing of it."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable, Sequence

from lifecycle_agent.deadline import Clock, boottime
from lifecycle_agent.logline import logger

# How it ends by itself: done, with an error that it has said, or with SIGALRM, when it has had its time and a
# large file goes on with the next one.
ENDED = (0, 1, 2, -signal.SIGALRM)


class Shipping:
    """A process every now and then, never two at once.

    Args:
        pause: seconds from one's end to the next one's start, and before the first; None for none at all.
        command: the command line.
    """

    def __init__(
        self, pause: float | None, command: Callable[[], Sequence[str]], clock: Clock = boottime
    ) -> None:
        self._pause = pause
        self._command = command
        self._clock = clock
        self._start_at = clock() + (pause or 0.0)
        self._child: subprocess.Popen[bytes] | None = None
        self._stopped = False

    @property
    def pid(self) -> int | None:
        """The process, None between two of them."""
        return self._child.pid if self._child else None

    def check(self, at_rest: bool) -> None:
        """Reap the process if it has ended; start the next one if it is time to, and all is quiet.

        Never blocks.
        """
        if self._pause is None:
            return
        if self._child is not None:
            self._reap(self._child, self._pause)
        elif at_rest and self._clock() >= self._start_at:
            self._start(self._pause)

    def stop(self) -> None:
        """End the process now. It has nothing to wind up: what it began, the next one goes on with."""
        if self._child is not None:
            self._stopped = True
            self._child.kill()

    def _start(self, pause: float) -> None:
        self._stopped = False
        try:
            # In / because `python -m` looks for modules in the working directory first.
            self._child = subprocess.Popen(self._command(), stdin=subprocess.DEVNULL, cwd="/")
        except OSError as error:  # no memory, no process slots: may pass
            self._start_at = self._clock() + pause
            logger.warning("closed logs are not shipped: %s", error)

    def _reap(self, child: subprocess.Popen[bytes], pause: float) -> None:
        code = child.poll()
        if code is None:
            return
        self._child = None
        self._start_at = self._clock() + pause
        if code not in ENDED and not self._stopped:
            how = f"killed by signal {-code}" if code < 0 else f"exit code {code}"
            logger.warning("shipping closed logs ended early (%s); the next one goes on", how)
