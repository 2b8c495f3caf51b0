"""Which files go: globs with `**`, walked without following a link below the pattern's fixed root."""

from __future__ import annotations

import fnmatch
import os
import re
import stat
from collections.abc import Iterable
from dataclasses import dataclass, field

_MAGIC = re.compile(r"[*?[]")


@dataclass(frozen=True)
class Found:
    """A regular file that matched.

    Args:
        root: the pattern's directory without wildcards; links in it are the operator's own and are followed.
        parts: from there to the file; none of them may be a link, neither now nor when it is opened.
        size: bytes when it was seen; it may have grown since.
    """

    root: str
    parts: tuple[str, ...]
    size: int

    @property
    def path(self) -> str:
        """The whole path, bytes that are not UTF-8 as os.fsdecode has them."""
        return os.path.join(self.root, *self.parts)


@dataclass
class Selection:
    """What the patterns gave.

    Args:
        files: by path, in the order of their bytes.
        ignored: path and what it is instead of a regular file.
        unreadable: directories that could not be listed, and why.
        unmatched: patterns that nothing matched.
    """

    files: list[Found] = field(default_factory=list)
    ignored: dict[str, str] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)
    unmatched: list[str] = field(default_factory=list)


def select(patterns: Iterable[str]) -> Selection:
    """Everything that `patterns` match, each path once.

    As in a shell, `*`, `?` and `[...]` stay within one name and leave hidden names alone unless the pattern
    names the dot; `**` stands for any number of directories, none included.
    """
    selection = Selection()
    files: dict[str, Found] = {}
    for pattern in patterns:
        matched = _walk(os.path.abspath(pattern), files, selection)
        if not matched:
            selection.unmatched.append(pattern)
    selection.files = sorted(files.values(), key=lambda found: os.fsencode(found.path))
    return selection


def _walk(pattern: str, files: dict[str, Found], selection: Selection) -> bool:
    names = pattern.strip("/").split("/")
    fixed = next((at for at, name in enumerate(names) if _MAGIC.search(name)), len(names) - 1)
    root, wanted = "/" + "/".join(names[:fixed]), names[fixed:]
    matched = False
    waiting: list[tuple[tuple[str, ...], int]] = [((), 0)]
    seen = set(waiting)

    def visit(directory: tuple[str, ...], at: int) -> None:
        if (directory, at) not in seen:
            seen.add((directory, at))
            waiting.append((directory, at))

    while waiting:
        directory, at = waiting.pop()
        deep, last = wanted[at] == "**", at == len(wanted) - 1
        if deep and not last:
            visit(directory, at + 1)
        for entry in _list(os.path.join(root, *directory), selection):
            name = (*directory, entry.name)
            if not _matches(entry.name, "*" if deep else wanted[at]):
                continue
            if entry.is_dir(follow_symlinks=False):
                if deep or not last:
                    visit(name, at if deep else at + 1)
            elif last:
                matched = True
                _take(Found(root, name, 0), files, selection)
    return matched


def _take(found: Found, files: dict[str, Found], selection: Selection) -> None:
    try:
        status = os.lstat(found.path)
    except OSError:
        return  # gone again: rotated away between listing and looking
    if stat.S_ISREG(status.st_mode):
        files[found.path] = Found(found.root, found.parts, status.st_size)
    else:
        selection.ignored[found.path] = kind(status.st_mode)


def kind(mode: int) -> str:
    """What a file that is not a regular one is, in words."""
    kinds = {
        stat.S_IFLNK: "a symbolic link, not followed",
        stat.S_IFIFO: "a pipe",
        stat.S_IFSOCK: "a socket",
        stat.S_IFDIR: "a directory",
    }
    return kinds.get(stat.S_IFMT(mode), "a device")


def _list(directory: str, selection: Selection) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(directory) as entries:
            return list(entries)
    except (FileNotFoundError, NotADirectoryError):
        return []  # nothing is there, which `unmatched` says
    except OSError as error:
        selection.unreadable[directory] = error.strerror or str(error)
        return []


def _matches(name: str, pattern: str) -> bool:
    if name.startswith(".") and not pattern.startswith("."):
        return False
    return fnmatch.fnmatchcase(name, pattern)
