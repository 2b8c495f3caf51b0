"""What all transfers of an upload share: the bucket, the time, the memory, what was sent before."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Protocol

from lifecycle_agent.clients.s3_errors import S3Error
from lifecycle_agent.deadline import Deadline
from lifecycle_agent.steps.logs.buffers import Buffers
from lifecycle_agent.steps.logs.effort import Effort
from lifecycle_agent.steps.logs.record import Begun, Record
from lifecycle_agent.steps.logs.threads import Pool

# S3 takes parts from 5 MiB on, 10,000 of them: at this size 51 GiB as they are stored.
PART = 21 * 256 * 1024
# Parts in memory, and on their way, at once: four kept a link of 1 Gbit/s busy in a trial.
BUFFERS = 4
# A source up to this size does not wait for one of them.
SMALL = 256 * 1024


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


class Means:
    """What a transfer needs.

    `hopeless` is the error that makes it useless to send anything else, `done` the bytes of originals saved,
    `connected` whether there is a bucket by now.

    Args:
        connect: waits for the bucket; meanwhile the first parts are made.
        until: when sending stops.
        finish: when what was sent in time has to be wrapped up.
        part: bytes of a part as it is stored.
    """

    def __init__(
        self,
        connect: Callable[[], Store],
        record: Record,
        until: Deadline,
        finish: Deadline,
        part: int = PART,
    ) -> None:
        self._connect = connect
        self.connected = False
        self.record = record
        self.until = until
        self.finish = finish
        self.buffers = Buffers(BUFFERS, part, SMALL)
        self.senders = Pool(BUFFERS)
        self.effort = Effort()
        self.hopeless: S3Error | None = None
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

    def give_up(self, error: S3Error) -> None:
        """Send nothing else: no other object would fare better."""
        self.hopeless = self.hopeless or error
        self.until.tighten(self.until.now())

    def abort(self, begun: Begun) -> None:
        """Abort a multipart upload; one for which that fails is left to the bucket's lifecycle rule."""
        with suppress(S3Error):
            self.store.abort(begun.key, begun.upload_id, self.finish)
            self.record.end(begun)

    def wrap_up(self) -> None:
        """Abort the multipart uploads that nobody goes on with."""
        self.senders.close()
        for begun in list(self.record.begun.values()):
            self.abort(begun)
