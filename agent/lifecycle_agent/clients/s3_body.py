"""The body of a request to S3, and how it goes: block by block, in time, and no faster than it may."""

from __future__ import annotations

import io
from typing import Any

from lifecycle_agent.clients.pace import Pace
from lifecycle_agent.deadline import Deadline

# Up to here a body is sent without asking first.
SMALL = 256 * 1024
# Sent at a time. The deadline is looked at in between, and the time limit of a read holds for each.
BLOCK = 64 * 1024


class _Body(io.RawIOBase):
    """What is sent, block by block, until the deadline. Shares the bytes, does not copy them."""

    def __init__(self, data: bytes | memoryview, deadline: Deadline) -> None:
        self._data = memoryview(data)
        self.size = len(self._data)
        self._at = 0
        self._deadline = deadline
        self.pace: Pace | None = None

    def read(self, size: int | None = -1, /) -> bytes:
        if self._deadline.passed:
            raise TimeoutError("the deadline passed while sending")
        # urllib3 asks for 16 KiB at a time and sends whatever it gets.
        end = len(self._data) if size is None or size < 0 else self._at + max(size, BLOCK)
        block = bytes(self._data[self._at : end])
        if self.pace is not None:
            self.pace.wait(len(block), self._deadline)
        self._at += len(block)
        return block

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: len(self._data)}[whence]
        self._at = max(0, start + offset)
        return self._at

    def tell(self) -> int:
        return self._at

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True


def body(data: bytes | memoryview, deadline: Deadline) -> Any:
    """What to hand to botocore, which reads and rewinds it; its own type for it is wider than its need."""
    return _Body(data, deadline)


def do_not_ask(params: dict[str, Any], **_: Any) -> None:
    """Send what is small without "Expect: 100-continue", which costs a round trip: botocore asks before each
    body, and only with a large one is there something to be saved if S3 refuses.
    """
    sent = params.get("body")
    if isinstance(sent, _Body) and sent.size <= SMALL:
        params["headers"].pop("Expect", None)


def slow_down(pace: Pace, request: Any, **_: Any) -> None:
    """Not before a request is sent: botocore reads its body to sign it, which takes nothing of the link."""
    if isinstance(request.body, _Body):
        request.body.pace = pace
