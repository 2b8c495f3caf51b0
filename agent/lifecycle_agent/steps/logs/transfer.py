"""One source to one object: read, hash, compress, and send while the next part is being made."""

from __future__ import annotations

import hashlib
from concurrent.futures import Future, wait
from dataclasses import replace
from functools import partial

from lifecycle_agent.clients.crc32 import combined, in_base64
from lifecycle_agent.clients.s3_errors import OutOfTime, S3Error
from lifecycle_agent.deadline import Deadline
from lifecycle_agent.errors import LifecycleAgentError
from lifecycle_agent.steps.logs.buffers import Buffer
from lifecycle_agent.steps.logs.items import Item
from lifecycle_agent.steps.logs.manifest import Entry
from lifecycle_agent.steps.logs.means import Means
from lifecycle_agent.steps.logs.pack import CHUNK, Original, pack
from lifecycle_agent.steps.logs.record import Begun, SentPart
from lifecycle_agent.steps.logs.source import Source, Unreadable

MOST_PARTS = 10_000  # of an upload: S3's limit
LARGE = 64 * 1024 * 1024  # of log text make about a part


class SourceChanged(Exception):
    """It is not any more what was sent of it; that was thrown away, and it can be sent anew."""


class Transfer:
    """One item on its way.

    Args:
        source: what `item.open` gave.
        left: the entry if nothing of it gets there.
    """

    def __init__(self, means: Means, item: Item, source: Source, left: Entry) -> None:
        self._means = means
        self._item = item
        self._source = _UntilItEnds(source, means.until)
        self._original = Original(hashlib.sha256())
        self._left = left
        self._begun: Begun | None = None
        self._number = 0  # of the part before
        self._sending: list[Future[None]] = []

    def run(self) -> Entry:
        """Send it, or as much of it as there is time for: what was sent by then is a valid file.

        Raises:
            S3Error, TimeoutError: nothing of it is in the bucket.
            SourceChanged: open it again and run another transfer.
        """
        try:
            self._take_up()
            whole = self._send_all()
        except (OutOfTime, TimeoutError):
            if self._begun is None:
                raise
            self._source.why = "time ran out"
            whole = None
        except S3Error:
            self._give_up()
            raise
        return whole or self._complete()

    def _send_all(self) -> Entry | None:
        """Returns the entry of an object that went as a whole, None for one in parts."""
        while True:
            if self._passes_over():
                continue
            if self._number == MOST_PARTS:
                self._source.why = f"is larger than the {MOST_PARTS} parts that S3 takes"
                return None
            start, buffer = self._original.size, self._room()
            try:
                ended, hard = self._pack(buffer)
            except BaseException:
                buffer.free()
                raise
            end, sha256 = self._original.size, self._original.sha256.hexdigest()
            part = SentPart(self._number + 1, start, end, sha256, len(buffer.data), buffer.crc)
            if ended and self._begun is None:
                return self._put(buffer, part)
            if start == end:
                buffer.free()
            else:
                self._send(buffer, part, hard)
            if ended:
                return None

    def _pack(self, buffer: Buffer) -> tuple[bool, bool]:
        """Whether the source came to its end, and whether it was compressed hard."""
        codec, number = self._item.codec, self._number + 1
        known = self._begun.hard.get(number) if self._begun is not None else None
        left = LARGE if self._source.size is None else self._source.size - self._original.size
        with self._means.effort.packing(min(left, LARGE), known) as hard:
            return pack(self._source, codec.begin(hard), self._original, buffer), hard

    def _room(self) -> Buffer:
        return self._means.buffers.take(self._source.size, self._means.until)

    def _put(self, buffer: Buffer, part: SentPart) -> Entry:
        means, item = self._means, self._item
        metadata = {"sha256": part.sha256, "bytes": str(part.end)}
        try:
            with means.effort.sending(part.stored_bytes):
                means.store.put(
                    item.key, buffer.data, part.crc, means.until, item.codec.content_type, metadata
                )
        finally:
            buffer.free()
        means.count(part.end)
        return self._entry([part])

    def _send(self, buffer: Buffer, part: SentPart, hard: bool) -> None:
        """Hand a part to whoever is free to send it."""
        means, item = self._means, self._item
        try:
            for sending in self._sending:
                if sending.done():
                    sending.result()  # raises what went wrong
            if self._begun is None:
                upload_id = means.store.begin(item.key, means.until, item.codec.content_type)
                self._begun = Begun(upload_id, item.key)
                means.record.begin(self._begun)
            means.record.made(self._begun, part.number, hard)
        except BaseException:
            buffer.free()
            raise
        self._number = part.number
        self._sending.append(means.senders.submit(partial(self._send_part, self._begun, buffer, part)))

    def _send_part(self, begun: Begun, buffer: Buffer, part: SentPart) -> None:
        means = self._means
        try:
            with means.effort.sending(part.stored_bytes):
                etag = means.store.send_part(
                    begun.key, begun.upload_id, part.number, buffer.data, part.crc, means.until
                )
        finally:
            buffer.free()
        means.record.part(begun, replace(part, etag=etag))
        means.count(part.end - part.start)

    def _complete(self) -> Entry:
        """Make an object of the parts that are there, up to the first that is not."""
        means, begun = self._means, self._begun
        if begun is None:
            raise AssertionError("nothing was begun")
        wait(self._sending, timeout=means.finish.remaining())
        try:
            for sending in self._sending:
                error = sending.exception() if sending.done() else None
                if error is not None and not means.until.passed:
                    raise error
            sent = _unbroken(begun)
            if not sent:
                raise OutOfTime(means.store.bucket, begun.key)
            means.store.complete(
                begun.key,
                begun.upload_id,
                [(part.etag, part.crc) for part in sent],
                sum(part.stored_bytes for part in sent),
                combined((part.crc, part.stored_bytes) for part in sent),
                means.finish,
            )
        except S3Error:
            self._give_up()
            raise
        means.record.end(begun)
        if len(sent) < self._number or self._source.why == "time ran out":
            self._source.why = f"time ran out after {sent[-1].end} bytes"
        return self._entry(sent)

    def _entry(self, sent: list[SentPart]) -> Entry:
        return replace(
            self._left,
            key=self._item.key,
            bytes=sent[-1].end,
            sha256=sent[-1].sha256,
            stored_bytes=sum(part.stored_bytes for part in sent),
            checksum=in_base64(combined((part.crc, part.stored_bytes) for part in sent)),
            complete=not self._source.why,
            why=self._source.why,
        )

    def _give_up(self) -> None:
        """Leave nothing behind. What is still being sent ends first, or its part would stay."""
        if self._begun is not None and self._means.hopeless is None:
            wait(self._sending, timeout=self._means.finish.remaining())
            self._means.abort(self._begun)

    def _take_up(self) -> None:
        """Go on with a multipart upload that was cut off, if there is one."""
        means, begun = self._means, self._means.record.begun.get(self._item.key)
        if begun is None:
            return
        try:
            there = means.store.parts(begun.key, begun.upload_id, means.until)
        except S3Error as error:
            if error.code not in ("403", "AccessDenied"):
                raise
            there = {part.number: part.etag for part in begun.parts.values()}  # as well as we remember
        if there is None:
            means.record.end(begun)
            return
        begun.parts = {number: part for number, part in begun.parts.items() if there.get(number) == part.etag}
        self._begun = begun

    def _passes_over(self) -> bool:
        """Read what the next part was made of, if it is in the bucket already.

        Raises:
            SourceChanged: it does not read the same any more.
        """
        part = self._begun.parts.get(self._number + 1) if self._begun is not None else None
        if self._begun is None or part is None:
            return False
        if part.start != self._original.size:  # cut differently this time
            del self._begun.parts[part.number]
            return False
        while chunk := self._source.read(min(CHUNK, part.end - self._original.size)):
            self._original.add(chunk)
        if self._original.sha256.hexdigest() != part.sha256:
            wait(self._sending, timeout=self._means.finish.remaining())
            self._means.abort(self._begun)
            self._means.record.begun.pop(self._item.key, None)  # also where S3 did not take the abort
            raise SourceChanged
        self._number = part.number
        self._means.count(part.end - part.start)
        return True


def _unbroken(begun: Begun) -> list[SentPart]:
    """The parts from the first to the last before one that is missing."""
    sent: list[SentPart] = []
    while (part := begun.parts.get(len(sent) + 1)) is not None:
        sent.append(part)
    return sent


class _UntilItEnds:
    """A source that ends where it can't be read any further, and says why: what was read is worth keeping.

    Raises:
        TimeoutError: from `read`, when there is no time left to send it.
    """

    def __init__(self, source: Source, until: Deadline) -> None:
        self._source = source
        self._until = until
        self.identity, self.inode = source.identity, source.inode
        self.note = source.note
        self.size = source.size
        self.why = ""

    def read(self, size: int) -> bytes:
        if self._until.passed:
            raise TimeoutError("no time left to send what is read")
        try:
            return self._source.read(size)
        except (Unreadable, LifecycleAgentError) as error:
            self.why = str(error)
            return b""

    def close(self) -> None:
        """Whoever opened it closes it."""
