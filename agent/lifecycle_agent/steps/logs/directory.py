"""A directory that saved files come back to. No name in a manifest leads out of it, no link in it is
followed, and nothing that is there is written over.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from lifecycle_agent.errors import LifecycleAgentError, LockedError
from lifecycle_agent.steps.logs.manifest import Entry
from lifecycle_agent.steps.logs.saved import BLOCK, MANIFEST, Unproven, file_of, printable

_BELOW = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# A file system without hard links says one of these.
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
# Files on their way begin with this; no file of a manifest may.
_UNPROVEN = b".unproven-"
_FULL = (errno.ENOSPC, errno.EDQUOT)


class Directory:
    """`files/` and then each file's own path, `agent/`, `journal/`, and the manifest.

    One process at a time writes to it. To be closed: it takes away what is not finished.

    Raises:
        LockedError: another one writes there.
        LifecycleAgentError: it cannot be made, or is full.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.under_way: set[_File] = set()
        self._begun: set[tuple[bytes, ...]] = set()
        try:
            path.mkdir(parents=True, exist_ok=True)
            self._fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise LifecycleAgentError(
                f"{path}: {error.strerror}", "name a directory that can be made or written to"
            ) from error
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(self._fd)
            raise LockedError(
                f"another `logs fetch` is writing to {path}", "wait for its end, or name another directory"
            ) from error
        except OSError:
            return  # NFS locks no directory: then nobody holds a second one off

    def __enter__(self) -> Directory:
        return self

    def __exit__(self, *_: object) -> None:
        for file in list(self.under_way):
            file.take_away()
        os.close(self._fd)

    def manifest(self, content: bytes) -> None:
        """Keep the manifest: whose files these are.

        Raises:
            LifecycleAgentError: there is another one.
        """
        entry = Entry(MANIFEST, bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
        try:
            file = self._begin((MANIFEST.encode(),), entry)
            if file is None:
                return
            try:
                file.write(content)
                file.done()
            finally:
                file.drop()
        except Unproven as error:
            raise LifecycleAgentError(
                f"{self.path / MANIFEST}: {error}", "name another directory: one for each upload"
            ) from error

    def begin(self, entry: Entry) -> _File | None:
        """Make room for a file; None where it is there, and the same.

        Raises:
            Unproven: it cannot be there.
        """
        return self._begin(file_of(entry), entry)

    def link(self, entry: Entry, other: Entry) -> None:
        """`other` gets a second name; where the file system has none, it is copied.

        Raises:
            Unproven: that cannot be.
        """
        file = self.begin(entry)
        if file is None:
            return
        *above, name = file_of(other)
        try:
            with _problems(self.path):
                at = self._open_below(above)
                try:
                    file.become(at, name)
                finally:
                    os.close(at)
        finally:
            file.drop()

    def _begin(self, names: tuple[bytes, ...], entry: Entry) -> _File | None:
        if names in self._begun or names[-1].startswith(_UNPROVEN):
            raise Unproven("the manifest has two files of that name")
        self._begun.add(names)
        with _problems(self.path), ExitStack() as stack:
            at = self._open_below(names[:-1])
            stack.callback(os.close, at)
            if _is_there(at, names[-1], entry):
                return None
            file = _File(self, at, names[-1])
            stack.pop_all()  # the directory stays open for the file
            return file

    def _open_below(self, names: tuple[bytes, ...] | list[bytes]) -> int:
        """Each directory opened from the one above it, and made where it is missing."""
        at = os.dup(self._fd)
        try:
            for name in names:
                with suppress(FileExistsError):
                    os.mkdir(name, dir_fd=at)
                below = os.open(name, _BELOW, dir_fd=at)
                os.close(at)
                at = below
        except OSError as error:
            os.close(at)
            if error.errno in (errno.ENOTDIR, errno.ELOOP):
                raise Unproven(
                    f"'{printable(os.fsdecode(name))}' is no directory there, or a link"
                ) from error
            raise
        return at


class _File:
    """A file on its way, under a name of its own until it is proven.

    Args:
        at: descriptor of the directory it goes to; the file's own from now on.
        name: what it will be called.
    """

    def __init__(self, directory: Directory, at: int, name: bytes) -> None:
        self._directory = directory
        self._at = at
        self._name = name
        # Short where the name is long, and the same when this is run again: it takes away what was cut off.
        self._temporary = _UNPROVEN + hashlib.sha256(name).hexdigest()[:40].encode()
        with suppress(FileNotFoundError):
            os.unlink(self._temporary, dir_fd=at)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        self._file = open(os.open(self._temporary, flags, 0o666, dir_fd=at), "wb", buffering=0)  # noqa: SIM115
        directory.under_way.add(self)

    def write(self, block: bytes) -> None:
        """So much more of it."""
        with _problems(self._directory.path):
            rest = memoryview(block)
            while rest:
                rest = rest[self._file.write(rest) :]

    def done(self) -> None:
        """It is proven: it gets its name, which must still be free."""
        with _problems(self._directory.path):
            self._file.close()
            try:
                self._link(self._at, self._temporary)
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
                os.rename(self._temporary, self._name, src_dir_fd=self._at, dst_dir_fd=self._at)

    def become(self, at: int, name: bytes) -> None:
        """It is the file `name` in the directory `at`, by another name."""
        with _problems(self._directory.path):
            try:
                self._link(at, name)
            except OSError as error:
                if error.errno not in (*_NO_LINKS, errno.EXDEV):
                    raise
                for block in _blocks(at, name):
                    self.write(block)
                self.done()

    def drop(self) -> None:
        """Take away what was not given its name."""
        self._directory.under_way.discard(self)
        self._file.close()
        self.take_away()
        os.close(self._at)

    def take_away(self) -> None:
        """The same, without the descriptors: somebody may still write to it."""
        with suppress(OSError):
            os.unlink(self._temporary, dir_fd=self._at)

    def _link(self, at: int, name: bytes) -> None:
        os.link(name, self._name, src_dir_fd=at, dst_dir_fd=self._at, follow_symlinks=False)


def _is_there(at: int, name: bytes, entry: Entry) -> bool:
    """Whether this very file is.

    Raises:
        Unproven: another one is.
    """
    sha256 = hashlib.sha256()
    try:
        for block in _blocks(at, name, entry.bytes):
            sha256.update(block)
    except FileNotFoundError:
        return False
    except OSError:
        sha256.update(b"none")
    if sha256.hexdigest() != entry.sha256:
        raise Unproven("there is something else of that name, which was left as it is")
    return True


def _blocks(at: int, name: bytes, size: int | None = None) -> Iterator[bytes]:
    """A regular file, of `size` bytes where that is given.

    Raises:
        OSError: it is none, is of another size, or cannot be read.
    """
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    with open(os.open(name, flags, dir_fd=at), "rb", buffering=0) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode) or (size is not None and status.st_size != size):
            raise OSError(errno.EEXIST, "is another file")
        while block := file.read(BLOCK):
            yield block


@contextmanager
def _problems(root: Path) -> Iterator[None]:
    """What the system refuses is this file's problem; a full disk is everybody's."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise LifecycleAgentError(
                f"{root}: {error.strerror}", "make room and run it again: what is there is kept"
            ) from error
        raise Unproven(f"cannot be written: {error.strerror}") from error
