"""One transition at a time on a machine."""

from __future__ import annotations

import contextlib
import fcntl
import os
from dataclasses import dataclass
from pathlib import Path

LOCKS = Path("/proc/locks")


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
        """Who holds the lock; None where nobody does, or it cannot be told who.

        That a process holds it is what the kernel says (proc_locks(5)): one that has written itself into the
        file may be gone, and its number another's. What it does is its own word.
        """
        try:
            inode = str(os.stat(self.path).st_ino)
            pid, kind = self.path.read_text()[:100].split()
            locks = [line.split() for line in LOCKS.read_text().splitlines()]
            # Not the device: on an overlay the kernel and stat(2) call it by different numbers.
            flocks = [(lock[4], lock[5].rpartition(":")[2]) for lock in locks if lock[1] == "FLOCK"]
            held = (pid, inode) in flocks
            return Holder(int(pid), kind) if held else None
        except (OSError, ValueError, IndexError):
            return None
