"""Which files go, and in which order: globs, walked without following a link below their fixed root."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from lifecycle_agent.deadline import Deadline
from lifecycle_agent.steps.logs.globs import Glob, State
from lifecycle_agent.steps.logs.tree import descend, kind

# Files, directories waiting to be listed, and what is ignored: more of one is a tree that has run wild, and
# must not take the memory of a small instance. A file found takes some 500 bytes.
MOST = 100_000

# Added to age and size: below these, differences say nothing, and a product with zero would say too much.
MORE_AGE_NS, MORE_SIZE = 60 * 10**9, 64 * 1024


@dataclass(frozen=True, slots=True)
class Found:
    """A regular file that matched.

    Args:
        root: the pattern's directory without wildcards; links in it are the operator's own and are followed.
        parts: from there to the file; none of them may be a link, neither now nor when it is opened.
        size: bytes when it was seen; it may have grown since.
        mtime_ns: when it was last written to, in nanoseconds since the epoch.
        dev, inode: which file it is, whatever its name; zero where nobody looked.
    """

    root: str
    parts: tuple[str, ...]
    size: int
    mtime_ns: int = 0
    dev: int = 0
    inode: int = 0

    @property
    def path(self) -> str:
        """The whole path, bytes that are not UTF-8 as os.fsdecode has them."""
        return os.path.join(self.root, *self.parts)


@dataclass
class Selection:
    """What the patterns gave.

    Args:
        files: in the order in which they go.
        ignored: path and what it is instead of a regular file.
        unreadable: directories and patterns that could not be looked through, and why.
        unmatched: patterns that gave nothing.
    """

    files: list[Found] = field(default_factory=list)
    ignored: dict[str, str] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)
    unmatched: list[str] = field(default_factory=list)


def select(
    patterns: Iterable[str],
    exclude: Iterable[str] = (),
    first: Iterable[str] = (),
    last: Iterable[str] = (),
    until: Deadline | None = None,
    now_ns: int | None = None,
) -> Selection:
    """Everything that `patterns` match, each path once, what matters least at the end.

    Wildcards in `patterns` leave hidden names alone, as in a shell; in the others they mean them, too.

    Args:
        exclude: files, and directories with everything in them, that do not go.
        first: these go before all others, in the order of the list.
        last: these go after all others, what matches the end of the list last of all.
        until: when looking stops, with what was found by then.
        now_ns: what the age of a file is measured from, in nanoseconds since the epoch.
    """
    now_ns = time.time_ns() if now_ns is None else now_ns
    out = [Glob(pattern, hidden=True) for pattern in exclude]
    walk = _Walk(_Order(first, last, now_ns), until)
    for pattern in patterns:
        walk.look(_Wanted(pattern, out))
    return walk.selection()


class _Order:
    """What goes first: by the operator's patterns, else the young and small before the old and large.

    Age times size measures both at once: what is lost when time runs out is what says least of the last
    minutes, and what would have kept the most other files waiting.
    """

    def __init__(self, first: Iterable[str], last: Iterable[str], now_ns: int) -> None:
        self._first = [Glob(pattern, hidden=True) for pattern in first]
        self._last = [Glob(pattern, hidden=True) for pattern in last]
        self._now_ns = now_ns

    def __call__(self, found: Found) -> tuple[int, int, bytes]:
        age = max(0, self._now_ns - found.mtime_ns) + MORE_AGE_NS
        path = found.path
        return self._rank(path), age * (found.size + MORE_SIZE), os.fsencode(path)

    def _rank(self, path: str) -> int:
        for before, glob in enumerate(self._first):
            if glob.matches(path):
                return before - len(self._first)
        for after in range(len(self._last), 0, -1):
            if self._last[after - 1].matches(path):
                return after
        return 0


class _Wanted:
    """A pattern, less what is excluded. Its states are those of all the globs, the pattern's own first."""

    def __init__(self, pattern: str, exclude: Sequence[Glob]) -> None:
        self.pattern = pattern
        self._glob = Glob(pattern)
        self._exclude = exclude
        self.fixed = self._glob.fixed

    def start(self) -> tuple[State, ...]:
        return (self._glob.start(), *(glob.start() for glob in self._exclude))

    def after(self, states: Sequence[State], name: str) -> tuple[State, ...] | None:
        """None where nothing matches, now or further down."""
        own = self._glob.after(states[0], name)
        if not own:
            return None
        out = [glob.after(state, name) for glob, state in zip(self._exclude, states[1:], strict=True)]
        if any(glob.whole(state) for glob, state in zip(self._exclude, out, strict=True)):
            return None
        return (own, *out)

    def is_file(self, states: Sequence[State]) -> bool:
        return self._glob.whole(states[0])

    def is_directory(self, states: Sequence[State]) -> bool:
        return self._glob.goes_on(states[0])


class _Walk:
    """Looks through the tree of each pattern, depth first, so that few directories wait for it."""

    def __init__(self, order: _Order, until: Deadline | None) -> None:
        self._order = order
        self._until = until
        self._files: dict[str, Found] = {}
        self._left = 0
        self._selection = Selection()

    def look(self, wanted: _Wanted) -> None:
        """Add what matches."""
        matched = self._walk(wanted)
        if self.over:
            self._selection.unreadable[wanted.pattern] = "time ran out while it was looked through"
        elif not matched:
            self._selection.unmatched.append(wanted.pattern)

    def _walk(self, wanted: _Wanted) -> bool:
        states: tuple[State, ...] | None = wanted.start()
        for name in wanted.fixed:
            states = wanted.after(states, name) if states else None
        root, matched = "/" + "/".join(wanted.fixed), False
        waiting: list[tuple[tuple[str, ...], tuple[State, ...]]] = [((), states)] if states else []
        while waiting:
            directory, states = waiting.pop()
            for entry in self._list(root, directory):
                below = wanted.after(states, entry.name)
                status = self._status(entry, root, directory) if below else None
                if below is None or status is None:
                    continue
                parts = (*directory, entry.name)
                if not stat.S_ISDIR(status.st_mode):
                    if wanted.is_file(below):
                        matched = True
                        self._take(root, parts, status)
                elif wanted.is_directory(below):
                    if len(waiting) < MOST:
                        waiting.append((parts, below))
                    else:
                        self._cannot(root, parts, f"more than {MOST} directories wait to be listed")
        return matched

    @property
    def over(self) -> bool:
        """Whether time is up."""
        return self._until is not None and self._until.passed

    def selection(self) -> Selection:
        """What was found so far, put in order."""
        self._trim()
        self._selection.files = list(self._files.values())
        if self._left:
            why = f"{self._left} files are more than the {MOST} that go at once; they would have gone last"
            self._selection.unreadable["[logs] paths"] = why
        return self._selection

    def _list(self, root: str, directory: tuple[str, ...]) -> Iterator[os.DirEntry[str]]:
        """What is in a directory; nothing where it is gone, or was swapped for a link."""
        try:
            at = descend(root, directory)
            try:
                with os.scandir(at) as entries:
                    for entry in entries:
                        if self.over:
                            return
                        yield entry
            finally:
                os.close(at)
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            self._cannot(root, directory, error.strerror or str(error))

    def _status(
        self, entry: os.DirEntry[str], root: str, directory: tuple[str, ...]
    ) -> os.stat_result | None:
        try:
            return entry.stat(follow_symlinks=False)
        except FileNotFoundError:
            return None  # gone again: rotated away between listing and looking
        except OSError as error:
            self._cannot(root, (*directory, entry.name), error.strerror or str(error))
            return None

    def _take(self, root: str, parts: tuple[str, ...], status: os.stat_result) -> None:
        found = Found(root, parts, status.st_size, status.st_mtime_ns, status.st_dev, status.st_ino)
        if stat.S_ISREG(status.st_mode):
            self._files[found.path] = found
            if len(self._files) >= 2 * MOST:
                self._trim()
        elif len(self._selection.ignored) < MOST:
            self._selection.ignored[found.path] = kind(status.st_mode)

    def _trim(self) -> None:
        """Put the files in order, and leave out those at its end that are too many."""
        ordered = sorted(self._files.values(), key=self._order)
        self._files = {found.path: found for found in ordered[:MOST]}
        self._left += len(ordered[MOST:])

    def _cannot(self, root: str, parts: tuple[str, ...], why: str) -> None:
        if len(self._selection.unreadable) < MOST:
            self._selection.unreadable[os.path.join(root, *parts)] = why
