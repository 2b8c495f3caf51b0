"""Before the end: what was rotated away goes while the instance lives, so that the end has less to do.

Nothing depends on it. The end goes by what each file is (device, inode, size, time of the last write): one
that was written to again is sent again, and what was not shipped is sent then.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from lifecycle_agent.config import LogsSection
from lifecycle_agent.deadline import Deadline
from lifecycle_agent.errors import LifecycleAgentError
from lifecycle_agent.steps.logs import keys, shipped
from lifecycle_agent.steps.logs.items import Item, Items
from lifecycle_agent.steps.logs.manifest import Entry
from lifecycle_agent.steps.logs.means import PART, Means, Store
from lifecycle_agent.steps.logs.pack import CODECS, COMPRESSED
from lifecycle_agent.steps.logs.record import Record
from lifecycle_agent.steps.logs.select import Found, select
from lifecycle_agent.steps.logs.threads import spare_memory
from lifecycle_agent.steps.logs.upload import upload

# Seconds without a write after which a file counts as finished: apps go on writing to a file that was renamed
# until they are told to open it anew, and some buffer for minutes.
QUIET = 300.0
# Bytes of the record, some eight thousand files: all of it is read at each look, and at the end. What is more
# waits for the end, or until others are gone.
MOST_RECORD = 4 * 1024 * 1024
# Parts in memory: while one is sent, the next is compressed.
BUFFERS = 2
# Seconds; longer than the process is let live. A file must not be closed early here for want of time, as it
# is at the end: what is cut off goes on with the next look.
FOREVER = 24 * 3600.0


class Shipping:
    """One look for files that are closed, and their upload, one after the other.

    Args:
        group: asks for the group's name; not before there is something to send.
        connect: gives the bucket; likewise.
        now_ns: the wall clock, in nanoseconds since the epoch.
        part: bytes of a part as it is stored.
    """

    def __init__(
        self,
        section: LogsSection,
        instance_id: str,
        state_dir: Path,
        group: Callable[[], str],
        connect: Callable[[], Store],
        now_ns: Callable[[], int] = time.time_ns,
        part: int = PART,
    ) -> None:
        self._section = section
        self._instance_id = instance_id
        self._group = group
        self._connect = connect
        self._now_ns = now_ns
        self._part = part
        self._record = Record(state_dir / shipped.RECORD, shipped.place(section, instance_id))

    def run(self) -> list[Entry]:
        """What came of each file that is new.

        Raises:
            LifecycleAgentError: nothing more can be sent, or what is sent cannot be remembered.
        """
        new = self._new()
        if not self._room() or not (new or self._record.begun):
            return []
        spare_memory()
        until = Deadline.after(FOREVER)
        means = Means(self._connect, self._record, until, until, self._part, buffers=BUFFERS)
        entries = []
        for item in self._items(new, until):
            if not self._room():
                break
            entries.append(upload(item, means))
            if means.hopeless:
                raise means.hopeless
        means.wrap_up()  # what was begun, and is gone from the disk by now
        return entries

    def _new(self) -> list[Found]:
        section, record = self._section, self._record
        selection = select(section.paths, section.exclude, section.first, section.last)
        if not selection.unreadable:
            record.keep({shipped.identity(found) for found in selection.files})
        known = {identity for _, identity in record.sent}
        files = closed(selection.files, self._now_ns())
        return [found for found in files if shipped.identity(found) not in known]

    def _room(self) -> bool:
        if self._record.lost:
            raise LifecycleAgentError(
                f"what is shipped cannot be remembered: {self._record.lost}",
                "make room in [agent] state_dir; until then logs wait for the end",
            )
        return self._record.size() <= MOST_RECORD

    def _items(self, files: Sequence[Found], until: Deadline) -> Iterator[Item]:
        values = {"group": self._group(), "instance_id": self._instance_id}
        items = Items(shipped.prefix(self._section.prefix, values), CODECS[self._section.compression], until)
        items.files(files)
        for found, item in zip(files, items.all, strict=True):
            if not item.same_as:
                # Marked with what it is: `app.log.1` is another file tomorrow.
                yield replace(item, key=keys.mark(item.key, shipped.identity(found), item.codec.suffix))


def closed(files: Iterable[Found], now_ns: int) -> list[Found]:
    """Those that were rotated away, as far as that can be told without knowing who writes them.

    Nobody has written to such a file for a while, and there is a newer one beside it of the same family. A
    quiet log without one may be written to at any time, and would be sent anew each time.
    """
    files = list(files)
    newest: dict[tuple[str, ...], int] = {}
    for found in files:
        family = _family(found)
        newest[family] = max(newest.get(family, 0), found.mtime_ns)
    before = now_ns - int(QUIET * 10**9)
    return [found for found in files if found.mtime_ns <= before and found.mtime_ns < newest[_family(found)]]


def _family(found: Found) -> tuple[str, ...]:
    """Directory and name, less what rotation adds: words that begin with a digit, and a compressor's ending.

    The same for `app.log`, `app.log.2.gz` and `app.log-20260101`; `worker1.log` and `worker2.log` are two.
    """
    directory, name = os.path.split(found.path)
    for suffix in COMPRESSED:
        name = name.removesuffix(suffix)
    return directory, *(word for word in re.split(r"[\W_]+", name) if word and not word[0].isdigit())
