"""Where the bytes come from: a file as it is at this moment, bytes at hand, or journalctl's output."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from lifecycle_agent.steps.logs.select import Found, kind

# A file that grows is cut at the size it had when it was opened, plus the rest of the line that was being
# written; journald's own limit for a line is 48 KiB (LineMax=), and a longer rest is no line of text.
LINE_LIMIT = 64 * 1024


class Unreadable(Exception):
    """The source cannot be read, or not to its end; the text says why."""


class Source(Protocol):
    """Something open to be read once, to its end.

    `identity` is the same for the same content and empty where that cannot be known.
    """

    identity: str

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
    """A regular file, as long as it is when it is opened.

    Raises:
        Unreadable: it cannot be opened, is not a regular file, or shrinks while it is read.
    """

    def __init__(self, found: Found) -> None:
        self._fd = _open(found)
        status = os.fstat(self._fd)
        if not stat.S_ISREG(status.st_mode):
            os.close(self._fd)
            raise Unreadable(f"is {kind(status.st_mode)}")
        self._size = status.st_size
        self._read = 0
        self._ends_line = True
        self.identity = f"{status.st_dev}:{status.st_ino}:{status.st_size}:{status.st_mtime_ns}"

    def read(self, size: int) -> bytes:
        """The next bytes."""
        left = self._size - self._read
        try:
            data = os.read(self._fd, min(size, left) if left > 0 else LINE_LIMIT)
        except OSError as error:
            raise Unreadable(f"cannot be read: {error.strerror}") from error
        if left <= 0:
            return self._rest_of_line(data)
        if not data:
            raise Unreadable(f"shrank from {self._size} to {self._read} bytes while it was read")
        self._read += len(data)
        self._ends_line = data.endswith(b"\n")
        return data

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)

    def _rest_of_line(self, beyond: bytes) -> bytes:
        if self._ends_line or not beyond:
            return b""
        self._ends_line = True
        return beyond[: beyond.find(b"\n") + 1]


class BytesSource:
    """Bytes at hand."""

    identity = ""

    def __init__(self, data: bytes) -> None:
        self._stream = io.BytesIO(data)

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


def _open(found: Found) -> int:
    """Open each part below the root by itself, so that no link put there meanwhile leads elsewhere.

    O_NONBLOCK: opening a pipe, or a device, must not wait for anybody.
    """
    at = None
    try:
        at = os.open(found.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        for name in found.parts[:-1]:
            below = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=at)
            os.close(at)
            at = below
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        return os.open(found.parts[-1], flags, dir_fd=at)
    except OSError as error:
        raise Unreadable(f"cannot be opened: {error.strerror}") from error
    finally:
        if at is not None:
            os.close(at)
