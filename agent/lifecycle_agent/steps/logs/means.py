"""What all transfers of an upload share: the bucket, the time, the memory, what was sent before."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence, Set
from contextlib import suppress
from os.path import commonprefix
from typing import Protocol

from lifecycle_agent.clients.s3_errors import DENIED, S3Error
from lifecycle_agent.deadline import Deadline
from lifecycle_agent.steps.logs.buffers import Buffers
from lifecycle_agent.steps.logs.effort import Effort
from lifecycle_agent.steps.logs.manifest import Entry
from lifecycle_agent.steps.logs.record import Begun, Record
from lifecycle_agent.steps.logs.threads import Pool

# S3 takes parts from here on, 10,000 of them.
LEAST_PART = 5 * 1024 * 1024
# At this size 51 GiB as they are stored.
PART = 21 * 256 * 1024
# Parts in memory, and on their way, at once: four kept a link of 1 Gbit/s busy in a trial.
BUFFERS = 4
# Keys that are denied while none is allowed, until it is clear that all are: a policy may be about some.
MOST_DENIED = 8


class Stored(Protocol):
    """An object that is there."""

    @property
    def size(self) -> int:
        """In bytes."""


class Store(Protocol):
    """A bucket; clients/s3.py is one, and says what each method does."""

    bucket: str

    def put(
        self,
        key: str,
        data: bytes | memoryview,
        crc: int,
        deadline: Deadline,
        content_type: str,
        metadata: Mapping[str, str],
    ) -> None:
        """The whole object at once."""

    def head(self, key: str, deadline: Deadline) -> Stored | None:
        """What is there."""

    def begin(self, key: str, deadline: Deadline, content_type: str) -> str:
        """The object in parts; the upload's id."""
        ...

    def send_part(
        self, key: str, upload_id: str, number: int, data: memoryview, crc: int, deadline: Deadline
    ) -> str:
        """One part; its ETag."""
        ...

    def parts(self, key: str, upload_id: str, deadline: Deadline) -> dict[int, str] | None:
        """ETags of the parts that are there by their number."""

    def complete(
        self,
        key: str,
        upload_id: str,
        parts: Sequence[tuple[str, int]],
        size: int,
        crc: int,
        deadline: Deadline,
    ) -> None:
        """The parts are the object."""

    def abort(self, key: str, upload_id: str, deadline: Deadline) -> None:
        """The parts are gone."""

    def unfinished(self, prefix: str, deadline: Deadline) -> list[tuple[str, str]]:
        """Key and id of each multipart upload below a prefix that was neither completed nor aborted."""
        ...


class Means:
    """What a transfer needs.

    `hopeless` is the error that makes it useless to send anything else, `done` the bytes of originals saved,
    `connected` whether there is a bucket by now, `least_part` the bytes that a part has if it is not the
    last one.

    Args:
        connect: waits for the bucket; meanwhile the first parts are made.
        until: when sending stops.
        finish: when what was sent in time has to be wrapped up.
        part: bytes of a part as it is stored.
        buffers: parts in memory, and on their way, at once.
        shipped: what went before the end, by the identity of its source.
    """

    def __init__(
        self,
        connect: Callable[[], Store],
        record: Record,
        until: Deadline,
        finish: Deadline,
        part: int = PART,
        buffers: int = BUFFERS,
        shipped: Mapping[str, Entry] | None = None,
    ) -> None:
        self._connect = connect
        self.connected = False
        self.record = record
        self.until = until
        self.finish = finish
        self.shipped = shipped or {}
        self.least_part = min(LEAST_PART, part)
        self.buffers = Buffers(buffers, part)
        self.senders = Pool(buffers)
        self.effort = Effort()
        self.hopeless: S3Error | None = None
        self._first: S3Error | None = None
        self._denied = 0
        self.done = 0
        self._lock = threading.Lock()

    @property
    def store(self) -> Store:
        """The bucket.

        Raises:
            S3Error: it cannot be had.
        """
        try:
            store = self._connect()
        except S3Error as error:
            error.hopeless = True
            raise
        self.connected = True
        return store

    def count(self, sent: int) -> None:
        """So many more bytes of the originals are in the bucket."""
        with self._lock:
            self.done += sent

    def failed(self, error: S3Error) -> None:
        """One object was not taken. Send nothing else if no other would fare better."""
        with self._lock:
            self._first = self._first or error
            self._denied += error.code in DENIED
            some = error.code in DENIED and (self.done > 0 or self._denied < MOST_DENIED)
        if error.hopeless and not some:
            self.hopeless = self.hopeless or error
            self.until.tighten(self.until.now())

    def abort(self, begun: Begun) -> None:
        """Abort a multipart upload; one for which that fails is left to the bucket's lifecycle rule."""
        with suppress(S3Error):
            self.store.abort(begun.key, begun.upload_id, self.finish)
            self.record.end(begun.key)

    def wrap_up(self) -> None:
        """Abort the multipart uploads that nobody goes on with."""
        self.senders.close()
        reachable = self.hopeless is None
        if not self.done:  # whatever went wrong first went wrong with all
            self.hopeless = self.hopeless or self._first
        for begun in list(self.record.begun.values()):
            self.abort(begun)
        if reachable:
            with suppress(S3Error):  # a role that may not ask leaves them to the bucket's lifecycle rule
                self._sweep(self.record.in_parts)

    def _sweep(self, keys: Set[str]) -> None:
        """Abort those that nobody knows: the process died, or the answer was lost, as they were begun."""
        if not keys:
            return
        for key, upload_id in self.store.unfinished(commonprefix(sorted(keys)), self.finish):  # noqa: RUF071
            if key in keys:
                self.store.abort(key, upload_id, self.finish)
