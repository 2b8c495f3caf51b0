"""One object against what the manifest says of it, in a stream: nothing is ever held whole."""

from __future__ import annotations

import gzip
import hashlib
import io
import zlib
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from lifecycle_agent.clients.crc32 import in_base64
from lifecycle_agent.deadline import Deadline
from lifecycle_agent.errors import LifecycleAgentError
from lifecycle_agent.steps.logs.manifest import Entry
from lifecycle_agent.steps.logs.saved import BLOCK, Bucket, Opened, Unproven

# What a decoder of zstd should be able to keep of a stream (RFC 8878 3.1.1.1.2); ours need far less. A frame
# that asks for more could ask for 2 GiB.
MOST_WINDOW = 8 * 1024 * 1024


class Readable(Protocol):
    """What decoders read from, and are."""

    def read(self, size: int, /) -> bytes:
        """Up to `size` bytes, empty at the end."""
        ...


def prove(
    entry: Entry,
    bucket: Bucket,
    deadline: Deadline,
    count: Callable[[int], None],
    write: Callable[[bytes], object],
) -> None:
    """Read the object of `entry` from end to end.

    Args:
        count: told of the bytes as they come in, as they are stored.
        write: given the original, block by block, before it is proven.

    Raises:
        Unproven: it is not what the manifest says.
        S3Error: it cannot be read.
    """
    stream = bucket.open(entry.key, deadline)
    try:
        if stream.size != entry.stored_bytes:
            raise Unproven(
                f"the object has {stream.size} bytes, according to the manifest {entry.stored_bytes}"
            )
        stored = _Stored(stream, count)
        sha256, size = hashlib.sha256(), 0
        for block in _original(stored, entry.compression):
            size += len(block)
            if size > entry.bytes:  # at once: it may be a bomb
                raise Unproven(f"there is more in it than the {entry.bytes} bytes of the manifest")
            sha256.update(block)
            write(block)
    finally:
        stream.close()
    if entry.checksum and stored.crc32 != entry.checksum:
        raise Unproven(f"the object's CRC32 is {stored.crc32}, according to the manifest {entry.checksum}")
    if size != entry.bytes:
        raise Unproven(f"there are {size} bytes in it, according to the manifest {entry.bytes}")
    if sha256.hexdigest() != entry.sha256:
        raise Unproven(f"its sha256 is {sha256.hexdigest()}, according to the manifest {entry.sha256}")


class _Stored(io.RawIOBase):
    """The object as it comes in, counted and summed."""

    def __init__(self, stream: Opened, count: Callable[[int], None]) -> None:
        self._stream = stream
        self._count = count
        self._crc = 0

    @property
    def crc32(self) -> str:
        """Of what was read so far, as S3 writes it."""
        return in_base64(self._crc)

    def readinto(self, buffer: Any) -> int:
        block = self._stream.read(len(buffer))
        self._crc = zlib.crc32(block, self._crc)
        self._count(len(block))
        buffer[: len(block)] = block
        return len(block)

    def readable(self) -> bool:
        return True


def _original(stored: _Stored, compression: str) -> Iterator[bytes]:
    """What was compressed, one frame or member after the other, to the end of what is stored."""
    reader = _DECODERS[compression](io.BufferedReader(stored, BLOCK))
    while True:
        try:
            block = reader.read(BLOCK)
        except LifecycleAgentError:
            raise
        except Exception as error:  # each decoder has errors of its own; they come from nothing else
            raise Unproven(f"the object is no valid {compression}: {error}") from error
        if not block:
            return
        yield block


def _zstd(stored: Readable) -> Readable:
    import zstandard

    maker = zstandard.ZstdDecompressor(max_window_size=MOST_WINDOW)
    return maker.stream_reader(stored, read_size=BLOCK, read_across_frames=True)  # type: ignore[arg-type]


def _gzip(stored: Readable) -> Readable:
    return gzip.GzipFile(fileobj=stored)  # type: ignore[call-overload,no-any-return] # it needs no more


_DECODERS: dict[str, Callable[[Readable], Readable]] = {
    "zstd": _zstd,
    "gzip": _gzip,
    "none": lambda stored: stored,
}
