"""One transition at a time on a machine."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path


class TransitionLock:
    """`transition.lock`: held, by flock(2), for as long as a transition's process lives.

    The kernel lets go of it when the process dies, however it dies: it is never stale.
    """

    def __init__(self, directory: Path) -> None:
        self.path = directory / "transition.lock"
        self._descriptor: int | None = None

    def acquire(self) -> bool:
        """Take the lock if it is free; never waits.

        Raises:
            OSError: the runtime directory cannot be written.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        self._descriptor = descriptor
        with contextlib.suppress(OSError):  # a full disk: the lock holds without a name in it
            os.ftruncate(descriptor, 0)
            os.write(descriptor, f"{os.getpid()}\n".encode())
        return True

    def holder(self) -> int | None:
        """The process that wrote itself into the lock last, for messages."""
        try:
            return int(self.path.read_text().strip())
        except (OSError, ValueError):
            return None

    def release(self) -> None:
        """Let go of the lock."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
