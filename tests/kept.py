"""What takes minutes to make is made once, and kept outside the repository."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable
from pathlib import Path


def cache() -> Path:
    """Where it is kept."""
    given, xdg = os.environ.get("LIFECYCLE_AGENT_CACHE"), os.environ.get("XDG_CACHE_HOME")
    directory = Path(given) if given else Path(xdg or Path.home() / ".cache") / "lifecycle-agent"
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def made_once(name: str, make: Callable[[Path], object]) -> Path:
    """A directory in the cache, made by `make` if it is not there.

    It gets its name once it is whole; somebody else who wants it meanwhile waits.
    """
    directory = cache() / name
    with directory.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not directory.exists():
            unfinished = directory.with_suffix(".unfinished")
            shutil.rmtree(unfinished, ignore_errors=True)
            make(unfinished)
            unfinished.rename(directory)
    return directory
