"""A file tree in which no link leads elsewhere: each name below a root is opened by itself (openat(2))."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence


def descend(root: str, names: Sequence[str]) -> int:
    """A descriptor of the directory `names` below `root`; the caller closes it.

    Links in `root` are followed, they are the operator's own. Names are opened one by one, so that a path
    may be longer than PATH_MAX, and two descriptors are enough for any depth.

    Raises:
        OSError: it cannot be opened, or one of the names is a link (ENOTDIR).
    """
    at = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    for name in names:
        try:
            below = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=at)
        finally:
            os.close(at)
        at = below
    return at


def kind(mode: int) -> str:
    """What a file that is not a regular one is, in words."""
    kinds = {
        stat.S_IFLNK: "a symbolic link, not followed",
        stat.S_IFIFO: "a pipe",
        stat.S_IFSOCK: "a socket",
        stat.S_IFDIR: "a directory",
    }
    return kinds.get(stat.S_IFMT(mode), "a device")


def identity(dev: int, inode: int, size: int, mtime_ns: int) -> str:
    """Which file it is and what is in it: another one, or one that was written to, has another."""
    return f"{dev}:{inode}:{size}:{mtime_ns}"
