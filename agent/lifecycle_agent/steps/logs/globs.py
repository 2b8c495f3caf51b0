"""Globs with `**`, matched a name at a time, so that a walk goes only where something can still match."""

from __future__ import annotations

import fnmatch
import os
import re

_MAGIC = re.compile(r"[*?[]")

# The ways in which the names so far match: for each, how many of the pattern's names they have used up.
State = frozenset[int]


class Glob:
    """An absolute pattern.

    `*`, `?` and `[...]` stay within one name; `**` stands for any number of directories, none included,
    and as the last name for every file below.

    Args:
        hidden: whether wildcards stand for hidden names, too. In a shell they don't: a dot has to be named.
    """

    def __init__(self, pattern: str, hidden: bool = False) -> None:
        self._names = os.path.abspath(pattern).strip("/").split("/")
        self._hidden = hidden

    @property
    def fixed(self) -> tuple[str, ...]:
        """The names before the first with a wildcard, and never the last one."""
        names = self._names[:-1]
        magic = next((at for at, name in enumerate(names) if _MAGIC.search(name)), len(names))
        return tuple(names[:magic])

    def start(self) -> State:
        """Before any name."""
        return self._from(0)

    def after(self, state: State, name: str) -> State:
        """Where `name` leads to; empty where nothing can match any more, whatever follows."""
        found: set[int] = set()
        for at in state:
            if at == len(self._names):
                continue
            wanted = self._names[at]
            if wanted != "**":
                if self._means(wanted, name):
                    found |= self._from(at + 1)
            elif self._means("*", name):
                found |= self._from(at)
                if at == len(self._names) - 1:
                    found.add(at + 1)
        return frozenset(found)

    def whole(self, state: State) -> bool:
        """Whether the names so far match."""
        return len(self._names) in state

    def goes_on(self, state: State) -> bool:
        """Whether more names may match."""
        return any(at < len(self._names) for at in state)

    def matches(self, path: str) -> bool:
        """Whether all of an absolute path matches."""
        state = self.start()
        for name in path.strip("/").split("/"):
            state = self.after(state, name)
        return self.whole(state)

    def _from(self, at: int) -> State:
        """What needs no further name: a `**` may stand for no directory, unless it is the last."""
        reached = {at}
        while at < len(self._names) - 1 and self._names[at] == "**":
            at += 1
            reached.add(at)
        return frozenset(reached)

    def _means(self, wanted: str, name: str) -> bool:
        if name.startswith(".") and not (self._hidden or wanted.startswith(".")):
            return False
        return fnmatch.fnmatchcase(name, wanted)
