"""Where the bytes come from: a file as it is at this moment, bytes at hand, or journalctl's output."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from lifecycle_agent.steps.logs.select import Found
from lifecycle_agent.steps.logs.tree import descend, identity, kind

# A file that grows is cut at the size it had when it was opened, plus the rest of the line that was being
# written; journald's own limit for a line is 48 KiB (LineMax=), and a longer rest is no line of text.
LINE_LIMIT = 64 * 1024


class Unreadable(Exception):
    """The source cannot be read, or not to its end; the text says why."""


class Source(Protocol):
    """Something open to be read once, to its end.

    `identity` is the same for the same content and empty where that cannot be known; `inode` tells which
    file it is, whatever is in it; `size` is how many bytes come, but for the rest of a line, None where
    nobody knows; `note` is what the manifest should say of it though it is complete.
    """

    identity: str
    inode: str
    note: str
    size: int | None

    def read(self, size: int) -> bytes:
        """Up to `size` bytes, empty at the end.

        Raises:
            Unreadable: what is missing is not going to come.
        """
        ...

    def close(self) -> None:
        """Give back what was opened."""
        ...


class FileSource:
    """A regular file, as long as it is when it is opened; the one that was found, if it is still near.

    Raises:
        Unreadable: it cannot be opened, is not a regular file, or shrinks while it is read.
    """

    def __init__(self, found: Found) -> None:
        self._fd, self.note = _open(found)
        status = os.fstat(self._fd)
        self.size: int | None = status.st_size
        self._end = status.st_size
        self._read = 0
        self._ends_line = True
        self._at_end = False
        self.inode = f"{status.st_dev}:{status.st_ino}"
        self.identity = identity(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)

    def read(self, size: int) -> bytes:
        """The next bytes."""
        try:
            if self._read == self._end and not self._at_end:
                self._finish()
            size = min(size, self._end - self._read)
            data = os.read(self._fd, size) if size else b""
        except OSError as error:
            raise Unreadable(f"cannot be read: {error.strerror}") from error
        if size and not data:
            raise self._shrank(os.fstat(self._fd).st_size)
        self._read += len(data)
        self._ends_line = data.endswith(b"\n") if data else self._ends_line
        return data

    def close(self) -> None:
        """Close the file; once more does nothing."""
        descriptor, self._fd = self._fd, -1
        if descriptor >= 0:
            os.close(descriptor)

    def _finish(self) -> None:
        """All that was there at first is read: is it still there, and is a line to be completed?"""
        self._at_end = True
        size = os.fstat(self._fd).st_size
        if size < self._end:  # copytruncate: emptied, and perhaps written to again
            raise self._shrank(size)
        if not self._ends_line:
            self._end += os.pread(self._fd, LINE_LIMIT, self._end).find(b"\n") + 1

    def _shrank(self, size: int) -> Unreadable:
        return Unreadable(f"shrank from {self._end} to {size} bytes while it was read")


class BytesSource:
    """Bytes at hand."""

    identity = inode = note = ""

    def __init__(self, data: bytes) -> None:
        self._stream = io.BytesIO(data)
        self.size: int | None = len(data)

    def read(self, size: int) -> bytes:
        """The next bytes."""
        return self._stream.read(size)

    def close(self) -> None:
        """Nothing to do."""


def open_extra(content: bytes | Path | Callable[[], bytes]) -> Source:
    """The agent's own journal, report or log: bytes, what makes them when asked, or a file."""
    if isinstance(content, Path):
        return FileSource(Found(str(content.parent), (content.name,), 0))
    try:
        return BytesSource(content if isinstance(content, bytes) else content())
    except Exception as error:  # a report that can't be made must not keep the logs from being saved
        raise Unreadable(f"could not be made: {error}") from error


def _open(found: Found) -> tuple[int, str]:
    """The file that was found, and a note where it is not simply the one of that name.

    Logs are rotated at any time. What was `a.log` when it was listed may be `a.log.1` now: it is looked for
    in its directory, so that all that was listed is saved under the name that it had.
    """
    try:
        at = descend(found.root, found.parts[:-1])
    except OSError as error:
        raise Unreadable(f"cannot be opened: {error.strerror}") from error
    try:
        return _open_in(at, found)
    except OSError as error:
        raise Unreadable(f"cannot be opened: {error.strerror}") from error
    finally:
        os.close(at)


def _open_in(at: int, found: Found) -> tuple[int, str]:
    try:
        opened = _regular(found.parts[-1], at)
    except (OSError, Unreadable):
        renamed = _renamed(at, found)
        if renamed is None:
            raise
        return renamed
    if not found.inode or _is(found, os.fstat(opened)):
        return opened, ""
    renamed = _renamed(at, found)
    if renamed is None:
        return opened, "another file took its name after it was listed, and is what was saved"
    os.close(opened)
    return renamed


def _renamed(at: int, found: Found) -> tuple[int, str] | None:
    with suppress(OSError):
        with os.scandir(at) as entries:
            names = [entry.name for entry in entries if found.inode and entry.inode() == found.inode]
        for name in names:
            with suppress(OSError, Unreadable):
                opened = _regular(name, at)
                status = os.fstat(opened)
                # Not just its number: that of a file that was deleted is soon another's.
                newer = status.st_size >= found.size and status.st_mtime_ns >= found.mtime_ns
                if newer and _is(found, status):
                    return opened, f"was renamed to {name!r} after it was listed"
                os.close(opened)
    return None


def _is(found: Found, status: os.stat_result) -> bool:
    return (status.st_dev, status.st_ino) == (found.dev, found.inode)


def _regular(name: str, at: int) -> int:
    """Open a regular file in the directory `at`, and nothing else: opening a device can have effects.

    One that is put there between the look and the opening is opened, for a moment and without waiting for
    anybody (O_NONBLOCK). Only root can make devices.
    """
    _check(os.stat(name, dir_fd=at, follow_symlinks=False))
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    opened = os.open(name, flags, dir_fd=at)
    try:
        _check(os.fstat(opened))
    except BaseException:
        os.close(opened)
        raise
    return opened


def _check(status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise Unreadable(f"is {kind(status.st_mode)}")
