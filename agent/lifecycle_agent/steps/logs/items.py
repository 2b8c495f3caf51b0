"""What is to be sent: everything that was found, with its key and how to open it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from lifecycle_agent.clients.journald import JournalExport
from lifecycle_agent.deadline import Deadline
from lifecycle_agent.steps.logs import keys
from lifecycle_agent.steps.logs.pack import CODECS, COMPRESSED, Codec
from lifecycle_agent.steps.logs.select import Found
from lifecycle_agent.steps.logs.source import FileSource, Source, open_extra


@dataclass(frozen=True)
class Extra:
    """Something of the agent's own: `content` is bytes, what makes them when asked, or a file."""

    name: str
    content: bytes | Path | Callable[[], bytes]


@dataclass(frozen=True)
class Item:
    """Something to save.

    Args:
        source: path or name, for the manifest.
        size: bytes, as far as they are known.
        open: makes the source to read from.
        same_as: the source of the item, further up, that is the same file; `key` is that one's, and nothing
            more has to be sent.
    """

    source: str
    key: str
    size: int
    codec: Codec
    open: Callable[[], Source]
    same_as: str = ""


class Items:
    """A list of items whose keys are all different.

    Args:
        until: when a source that has to be waited for is given up.
        journal_since: how far back the journals go, in seconds; None is the boot.
        journal_format: as `journalctl --output` has it.
    """

    def __init__(
        self,
        prefix: str,
        codec: Codec,
        until: Deadline,
        journal_since: float | None = None,
        journal_format: str = "export",
    ) -> None:
        self._prefix = prefix
        self._codec = codec
        self._until = until
        self._since = journal_since
        self._format = journal_format
        self._taken: set[str] = set()
        self.all: list[Item] = []

    def extras(self, extras: Sequence[Extra]) -> None:
        """The agent's own: small, and as they are, so that people can look at them in the bucket."""
        for extra in extras:
            opened = partial(open_extra, extra.content)
            self._add("agent", extra.name, extra.name, 0, CODECS["none"], opened)

    def journal(self, units: Sequence[str]) -> None:
        """The journal of each unit."""
        for unit in units:
            opened = partial(JournalExport, unit, self._until, self._since, self._format)
            self._add("journal", f"{unit}.{self._format}", f"journal of {unit}", 0, self._codec, opened)

    def files(self, files: Sequence[Found]) -> None:
        """Each file; those already compressed as they are, and one that has several names once."""
        sent: dict[tuple[int, ...], Item] = {}
        for found in files:
            # Size and time, too: a file system that makes up inode numbers must not make one file of two.
            same = (found.dev, found.inode, found.size, found.mtime_ns)
            if found.inode and same in sent:
                first = sent[same]
                self.all.append(replace(first, source=found.path, size=0, same_as=first.source))
                continue
            codec = CODECS["none"] if found.path.lower().endswith(COMPRESSED) else self._codec
            sent[same] = self._add(
                "files", found.path, found.path, found.size, codec, partial(FileSource, found)
            )

    def _add(
        self, kind: str, name: str, source: str, size: int, codec: Codec, opened: Callable[[], Source]
    ) -> Item:
        key = keys.key(self._prefix, kind, name, codec.suffix)
        if key in self._taken:  # `a.log` compressed, and beside it somebody's own `a.log.zst`
            key = keys.mark(key, name, codec.suffix)
        self._taken.add(key)
        self.all.append(Item(source, key, size, codec, opened))
        return self.all[-1]
