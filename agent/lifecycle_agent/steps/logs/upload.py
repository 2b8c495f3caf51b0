"""One source to one object: read, hash, compress and send, a part at a time."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Protocol

from lifecycle_agent.clients.s3_errors import S3Error
from lifecycle_agent.deadline import Deadline
from lifecycle_agent.errors import LifecycleAgentError
from lifecycle_agent.steps.logs.items import Item
from lifecycle_agent.steps.logs.manifest import Entry
from lifecycle_agent.steps.logs.pack import Part, parts
from lifecycle_agent.steps.logs.progress import Progress
from lifecycle_agent.steps.logs.source import Source, Unreadable

# S3 takes parts from 5 MiB on, 10,000 of them. One part for each thread is what is in memory.
PART = 8 * 1024 * 1024
MOST_PARTS = 9000  # with room for what does not compress and grows a little instead


class Multipart(Protocol):
    """A multipart upload under way."""

    upload_id: str

    def send(self, data: bytes, deadline: Deadline) -> None:
        """The next part."""

    def complete(self, deadline: Deadline) -> None:
        """What was sent is the object."""

    def abort(self, deadline: Deadline) -> None:
        """What was sent is gone."""


class Stored(Protocol):
    """An object that is there."""

    @property
    def size(self) -> int:
        """In bytes."""


class Store(Protocol):
    """A bucket; clients/s3.py is one."""

    def put(
        self, key: str, data: bytes, deadline: Deadline, content_type: str, metadata: Mapping[str, str]
    ) -> None:
        """The whole object at once."""

    def begin(
        self, key: str, deadline: Deadline, content_type: str, metadata: Mapping[str, str]
    ) -> Multipart:
        """The object in parts."""
        ...

    def head(self, key: str, deadline: Deadline) -> Stored | None:
        """What is there."""

    def abort(self, key: str, upload_id: str, deadline: Deadline) -> None:
        """Throw away the parts of an upload that nobody goes on with."""


class Uploader:
    """Sends items, one in each thread that calls.

    `hopeless` is the error that makes it useless to send anything else, `done` the bytes of originals saved.

    Args:
        until: when sending stops.
        finish: when what was sent in time has to be wrapped up.
        part: bytes of a part as it is stored.
    """

    def __init__(
        self, store: Store, progress: Progress, until: Deadline, finish: Deadline, part: int = PART
    ) -> None:
        self.store = store
        self.progress = progress
        self.until = until
        self.finish = finish
        self.part = part
        self.hopeless: S3Error | None = None
        self.done = 0
        self._lock = threading.Lock()

    def count(self, sent: int) -> None:
        """So many more bytes of the originals are in the bucket."""
        with self._lock:
            self.done += sent

    def send(self, item: Item) -> Entry:
        """Save one item; whatever goes wrong is in the entry, and stops no other."""
        left = Entry(item.source, compression=item.codec.name)
        if self.until.passed:
            return replace(left, why=self._over())
        try:
            source = item.open()
        except (Unreadable, LifecycleAgentError, OSError) as error:
            return replace(left, why=str(error))
        try:
            sent = self.progress.sent.get((item.key, source.identity))
            if sent is not None and self._is_there(sent):
                self.count(sent.bytes)
                return sent
            entry = _Transfer(self, item, source).run()
            if entry.complete:
                self.progress.done(source.identity, entry)
            return entry
        except S3Error as error:
            if error.hopeless:
                self.hopeless = self.hopeless or error
                self.until.tighten(self.until.now())
            return replace(left, why=self._over() if self.until.passed else error.message)
        except OSError as error:
            return replace(left, why=str(error))
        finally:
            source.close()

    def clean_up(self) -> None:
        """Abort the multipart uploads that a run that was cut off had begun."""
        for upload_id, key in list(self.progress.begun.items()):
            with suppress(S3Error):
                self.store.abort(key, upload_id, self.until)
                self.progress.end(upload_id)

    def _over(self) -> str:
        return self.hopeless.message if self.hopeless else "time ran out before it was sent"

    def _is_there(self, sent: Entry) -> bool:
        """Whether what we remember to have sent is still in the bucket.

        A role that may only write can't ask; then what we remember has to do.
        """
        try:
            stored = self.store.head(sent.key, self.until)
        except S3Error as error:
            return error.code in ("403", "AccessDenied")
        return stored is not None and stored.size == sent.stored_bytes


class _Transfer:
    """One item on its way."""

    def __init__(self, uploader: Uploader, item: Item, source: Source) -> None:
        self._up = uploader
        self._item = item
        self._source = _UntilItFails(source)
        self._multipart: Multipart | None = None
        self._entry = Entry(item.source, compression=item.codec.name)

    def run(self) -> Entry:
        try:
            why = self._send_parts() or self._source.why
            if self._multipart is not None:
                self._multipart.complete(self._up.finish)
                self._up.progress.end(self._multipart.upload_id)
            return replace(self._entry, complete=not why, why=why)
        except BaseException:
            self._abort()
            raise

    def _send_parts(self) -> str:
        """Send it part by part; returns what ended it early, if anything did.

        What was sent when time runs out is kept: it is a valid file, and better than none.
        """
        up, item, hasher = self._up, self._item, hashlib.sha256()
        size = max(up.part, -(-item.size // MOST_PARTS))
        for part in parts(self._source, item.codec, size, hasher):
            try:
                self._send(part, size, hasher.hexdigest())
            except S3Error:
                if self._multipart is None or not self._entry.bytes or up.hopeless or not up.until.passed:
                    raise
                return f"time ran out after {self._entry.bytes} bytes"
            up.count(part.bytes)
            self._entry = replace(
                self._entry,
                key=item.key,
                bytes=self._entry.bytes + part.bytes,
                sha256=hasher.hexdigest(),
                stored_bytes=self._entry.stored_bytes + len(part.data),
            )
            del part  # or it would stay in memory while the next one is made
        return ""

    def _send(self, part: Part, size: int, sha256: str) -> None:
        up, item = self._up, self._item
        if self._multipart is None and len(part.data) < size:  # all there is
            metadata = {"sha256": sha256, "bytes": str(part.bytes)}
            up.store.put(item.key, part.data, up.until, item.codec.content_type, metadata)
            return
        if self._multipart is None:
            self._multipart = up.store.begin(item.key, up.until, item.codec.content_type, {})
            up.progress.begin(item.key, self._multipart.upload_id)
        self._multipart.send(part.data, up.until)

    def _abort(self) -> None:
        if self._multipart is not None:
            with suppress(S3Error):  # the progress file still has it
                self._multipart.abort(self._up.finish)
                self._up.progress.end(self._multipart.upload_id)


class _UntilItFails:
    """A source that ends where it can't be read any further, and says why: what was read is worth keeping."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.identity = source.identity
        self.why = ""

    def read(self, size: int) -> bytes:
        try:
            return self._source.read(size)
        except (Unreadable, LifecycleAgentError) as error:
            self.why = str(error)
            return b""

    def close(self) -> None:
        self._source.close()
