"""One transition at a time on a machine."""

from __future__ import annotations

import contextlib
import fcntl
import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Holder:
    """Who holds the lock: a process, and the kind of its transition."""

    pid: int
    kind: str

    def __str__(self) -> str:
        return f"process {self.pid}, {self.kind}"


class TransitionLock:
    """`transition.lock`: held, by flock(2), for as long as a transition's process lives.

    The kernel lets go of it when the process dies, however it dies: it is never stale.
    """

    def __init__(self, directory: Path) -> None:
        self.path = directory / "transition.lock"

    def acquire(self, kind: str) -> bool:
        """Take the lock for a transition of this kind if it is free; never waits.

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
        # Never closed: the end of the process lets go of it.
        with contextlib.suppress(OSError):  # a full disk: the lock holds without a name in it
            os.ftruncate(descriptor, 0)
            os.write(descriptor, f"{os.getpid()} {kind}\n".encode())
        return True

    def holder(self) -> Holder | None:
        """Who wrote itself into the lock last; None where nobody can be told."""
        try:
            pid, kind = self.path.read_text()[:100].split()
            return Holder(int(pid), kind)
        except (OSError, ValueError):
            return None
