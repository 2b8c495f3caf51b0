"""Where the agent's files are, and how one is replaced whole."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import stat
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

RUNTIME_DIR = Path("/run/lifecycle-agent")
STATE_DIR = Path("/var/lib/lifecycle-agent")

# In the runtime directory: what the units of `[launch] then_start` are held back without.
LAUNCHED = "launched"

MOST_STATUS_BYTES = 1024 * 1024  # ours is a few KiB; a larger file is not ours

# A writer has the lock for well under a millisecond; on a machine that is busy it may be off the
# processor meanwhile. Together 0.1 s: what a stopped one may cost the other at each change.
LOCK_TRIES, LOCK_PAUSE = 50, 0.002


def runtime_dir(environ: Mapping[str, str] = os.environ) -> Path:
    """Status and lock: RUNTIME_DIRECTORY as systemd sets it (its first entry), else /run/lifecycle-agent."""
    return Path(environ.get("RUNTIME_DIRECTORY", "").split(":")[0] or RUNTIME_DIR)


def state_dir(configured: Path | None, environ: Mapping[str, str] = os.environ) -> Path:
    """Journal and report: as configured, else STATE_DIRECTORY (first entry), else /var/lib/lifecycle-agent.

    The configuration wins because `lifecycle-agent drain` by hand, which systemd gives no
    STATE_DIRECTORY, must find the service's journal.
    """
    return configured or Path(environ.get("STATE_DIRECTORY", "").split(":")[0] or STATE_DIR)


def regular_only(name: str, flags: int) -> int:
    """An opener for `open`: a regular file and nothing else, for a FIFO or a device would keep us waiting.

    Raises:
        OSError: it cannot be opened, or is something else.
    """
    descriptor = os.open(name, flags | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        directory = stat.S_ISDIR(mode)
        raise OSError(
            *(errno.EISDIR, "Is a directory") if directory else (errno.EINVAL, "Not a regular file")
        )
    return descriptor


def read_regular(file: Path, most: int) -> bytes:
    """The content of a regular file of `most` bytes or less.

    Raises:
        OSError: it cannot be read, is larger, or is something else.
    """
    with open(file, "rb", opener=regular_only) as stream:
        content = stream.read(most + 1)
    if len(content) > most:
        raise OSError(errno.EFBIG, f"Larger than {most} bytes")
    return content


def replace(path: Path, content: bytes, durable: bool = False, mode: int = 0o644) -> None:
    """Write `content` to `path` so that a reader sees the old file or the new one, never a part.

    With `durable` the new one is on the disk when this returns, for what must outlive a crash.

    Raises:
        OSError: it could not be written; the old file is still there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(temporary, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(content)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


class StatusFile:
    """`status.json`: what `lifecycle-agent status` shows.

    Two processes have something to say there, the watcher and a transition; each replaces the section
    of its own name and keeps the other's.
    """

    def __init__(self, directory: Path) -> None:
        self.path = directory / "status.json"

    def read(self) -> dict[str, dict[str, Any]]:
        """The sections by name; empty where there is no status, or one that cannot be read."""
        try:
            content = json.loads(read_regular(self.path, MOST_STATUS_BYTES))
        except (OSError, ValueError, RecursionError):
            return {}
        if not isinstance(content, dict):
            return {}
        return {name: section for name, section in content.items() if isinstance(section, dict)}

    def update(self, section: str, content: Mapping[str, Any]) -> None:
        """Replace one section. Showing is never worth a failure: what cannot be written is not written."""
        with contextlib.suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self._alone():
                replace(self.path, json.dumps({**self.read(), "version": 1, section: content}).encode())

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold the other writer off; if it hangs with the lock in hand, go on without it."""
        with open(self.path.with_name(".status.lock"), "wb", opener=regular_only) as lock:
            for _ in range(LOCK_TRIES):
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    time.sleep(LOCK_PAUSE)
            yield
