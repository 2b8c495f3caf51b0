"""One source to one object: read, hash, compress, and send while the next part is being made."""

from __future__ import annotations

import hashlib
from concurrent.futures import Future, wait
from dataclasses import replace
from functools import partial

from lifecycle_agent.clients.crc32 import combined, in_base64
from lifecycle_agent.clients.s3_errors import OutOfTime, S3Error, denied
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
# Somebody else ended it, or what is there is not what we remember.
NOT_ANY_MORE = ("NoSuchUpload", "InvalidPart", "InvalidPartOrder", "EntityTooSmall")
TICK = 0.2  # how late a deadline that was brought forward may be noticed
LARGE = 64 * 1024 * 1024  # of log text make about a part


class Anew(Exception):
    """What was sent of it is gone, or is not any more what it was: all of it can be sent anew."""


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
            Anew: open it again and run another transfer.
        """
        try:
            return self._run()
        except S3Error as error:
            self._give_up()
            if error.code in NOT_ANY_MORE:
                self._means.record.end(self._item.key)
                raise Anew(f"its multipart upload cannot be gone on with ({error.code})") from error
            raise

    def _run(self) -> Entry:
        problem: S3Error | None = None
        try:
            with self._means.buffers.turn(self._source.size, self._means.until):
                self._take_up()
                whole = self._send_all()
            if whole is not None:
                return whole
        except (OutOfTime, TimeoutError):
            if self._begun is None:
                raise
            self._source.why = "time ran out"
        except S3Error as error:
            if self._begun is None:
                raise
            problem = error
        return self._complete(self._begun, problem)

    def _send_all(self) -> Entry | None:
        """Returns the entry of an object that went as a whole, None for one in parts."""
        while True:
            if self._passes_over():
                continue
            if self._number == MOST_PARTS:
                self._source.why = f"is larger than the {MOST_PARTS} parts that S3 takes"
                return None
            self._source.fill()  # a disk that hangs must not hold a buffer
            start, buffer = self._original.size, self._means.buffers.take(self._means.until)
            try:
                ended, hard = self._pack(buffer)
            except BaseException:
                buffer.free()
                raise
            end, sha256 = self._original.size, self._original.sha256.hexdigest()
            buffer = buffer.settled()
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
        effort = self._means.effort.packing(min(left, LARGE), self._means.until, known)
        with effort as hard, codec.begin(hard) as compressor:
            return pack(self._source, compressor, self._original, buffer), hard

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
        return self._entry([part], part.crc)

    def _send(self, buffer: Buffer, part: SentPart, hard: bool) -> None:
        """Hand a part to whoever is free to send it."""
        means, item = self._means, self._item
        try:
            for sending in self._sending:
                if sending.done():
                    sending.result()  # raises what went wrong
            self._sending = [sending for sending in self._sending if not sending.done()]
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

    def _complete(self, begun: Begun | None, problem: S3Error | None) -> Entry:
        """Make an object of the parts that are there, up to the first that is not.

        Args:
            problem: what ended it early.
        """
        if begun is None:
            raise AssertionError("nothing was begun")
        self._wait()
        problem = problem or self._failure()
        if problem is not None and problem.code in NOT_ANY_MORE:
            raise problem
        sent = _unbroken(begun)[: self._number]
        if not sent:
            raise problem or OutOfTime(self._means.store.bucket, begun.key)
        crc = combined((part.crc, part.stored_bytes) for part in sent)
        entry = self._entry(sent, crc)
        parts = [(part.etag, part.crc) for part in sent]
        finish = self._means.finish
        self._means.store.complete(begun.key, begun.upload_id, parts, entry.stored_bytes, crc, finish)
        if len(sent) == self._number and entry.complete:
            return entry
        why = self._source.why or (problem.message if problem else "time ran out")
        return replace(entry, complete=False, why=f"{why} after {entry.bytes} bytes")

    def _wait(self) -> None:
        """Until what is being sent has arrived or is lost. One answer that does not come must leave time to
        make an object of the parts before it.
        """
        until, finish = self._means.until, self._means.finish
        while not until.passed and wait(self._sending, timeout=until.timeout(TICK)).not_done:
            pass
        wait(self._sending, timeout=finish.remaining() / 2)

    def _failure(self) -> S3Error | None:
        """What went wrong with a part, if it was not the time."""
        for sending in self._sending:
            error = sending.exception() if sending.done() else None
            if isinstance(error, S3Error) and not isinstance(error, OutOfTime):
                return error
        return None

    def _entry(self, sent: list[SentPart], crc: int) -> Entry:
        return replace(
            self._left,
            key=self._item.key,
            bytes=sent[-1].end,
            sha256=sent[-1].sha256,
            stored_bytes=sum(part.stored_bytes for part in sent),
            checksum=in_base64(crc),
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
            if not denied(error):
                raise
            there = {part.number: part.etag for part in begun.parts.values()}  # as well as we remember
        if there is not None:
            begun.parts = {n: part for n, part in begun.parts.items() if there.get(n) == part.etag}
        if there is None and not self._is_whole(begun):
            means.record.end(begun.key)
        elif not begun.parts:
            means.abort(begun)
            means.record.end(begun.key)
        else:
            self._begun = begun

    def _is_whole(self, begun: Begun) -> bool:
        """Whether an upload that is gone was completed by a process that died before it could say so."""
        sent = _unbroken(begun)
        try:
            stored = self._means.store.head(begun.key, self._means.until) if sent else None
        except S3Error as error:
            if not denied(error):
                raise
            return False
        return stored is not None and stored.size == sum(part.stored_bytes for part in sent)

    def _passes_over(self) -> bool:
        """Read what the next part was made of, if it is in the bucket already.

        Raises:
            Anew: it does not read the same any more.
        """
        part = self._begun.parts.get(self._number + 1) if self._begun is not None else None
        if self._begun is None or part is None:
            return False
        grown = self._source.size is None or self._source.size > part.end
        # Cut differently this time, or the last part when there was less.
        if part.start != self._original.size or (grown and part.stored_bytes < self._means.least_part):
            del self._begun.parts[part.number]
            return False
        while chunk := self._source.read(min(CHUNK, part.end - self._original.size)):
            self._original.add(chunk)
        if self._original.sha256.hexdigest() != part.sha256:
            wait(self._sending, timeout=self._means.finish.remaining())
            self._means.abort(self._begun)
            self._means.record.end(self._item.key)  # also where S3 did not take the abort
            raise Anew("it reads differently each time")
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
        self.size = source.size
        self.why = ""
        self._ahead = b""

    def read(self, size: int) -> bytes:
        if self._until.passed:
            raise TimeoutError("no time left to send what is read")
        if self._ahead:
            ahead, self._ahead = self._ahead, b""
            return ahead
        try:
            return self._source.read(size)
        except (Unreadable, LifecycleAgentError) as error:
            self.why = str(error)
            return b""

    def fill(self) -> None:
        """Read the next chunk now, for whoever asks for one next."""
        self._ahead = self.read(CHUNK)
