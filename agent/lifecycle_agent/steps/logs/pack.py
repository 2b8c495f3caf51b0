"""Compression in parts, each of them complete in itself: one after the other they are one valid file.

That is in the formats: RFC 8878 3 (frames may be concatenated), RFC 1952 2.2 (so may gzip members). So an
upload that ends early still leaves a valid file, and one that was cut off goes on without any compressor's
state.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Protocol

from lifecycle_agent.steps.logs.buffers import SLACK, Buffer

if TYPE_CHECKING:
    import zstandard

# What is read at a time. What a compressor makes of it, and what it held back, fits in a buffer's slack.
CHUNK = SLACK // 3

# Left as they are: to compress them again costs time and saves nothing.
COMPRESSED = (".gz", ".zst", ".xz", ".bz2", ".lz4", ".br", ".zip", ".tgz")


class Readable(Protocol):
    """What `source.Source` and what wraps one have in common."""

    def read(self, size: int) -> bytes:
        """Up to `size` bytes, empty at the end."""
        ...


class Compressor(Protocol):
    """One frame or member being made."""

    def compress(self, data: bytes, /) -> bytes:
        """What is ready so far."""
        ...

    def flush(self) -> bytes:
        """The rest; the frame is complete."""
        ...


@dataclass(frozen=True)
class Codec:
    """How objects are stored.

    Args:
        begin: lends a compressor, one that compresses hard or one that is quick.
    """

    name: str
    suffix: str
    content_type: str
    begin: Callable[[bool], AbstractContextManager[Compressor]]


@dataclass
class Original:
    """What was read of a source so far: how many bytes, and their hash."""

    sha256: hashlib._Hash
    size: int = 0

    def add(self, chunk: bytes) -> None:
        """So much more."""
        self.sha256.update(chunk)
        self.size += len(chunk)


def pack(source: Readable, compressor: Compressor, original: Original, into: Buffer) -> bool:
    """One part, made of what comes next in the source.

    Args:
        original: what of the source was read before; goes on with it.

    Returns:
        Whether the source came to its end.
    """
    while not into.full:
        chunk = source.read(CHUNK)
        if not chunk:
            into.write(compressor.flush())
            return True
        original.add(chunk)
        into.write(compressor.compress(chunk))
    into.write(compressor.flush())
    return False


class _AsItIs:
    def compress(self, data: bytes, /) -> bytes:
        return data

    def flush(self) -> bytes:
        return b""


_spare: SimpleQueue[zstandard.ZstdCompressor] = SimpleQueue()


@contextmanager
def _zstd(hard: bool) -> Iterator[Compressor]:
    import zstandard  # here: who ships with gzip does not load it

    if hard:
        # A third smaller than level 1 at a fifth of its speed. Its tables are 6 MiB: it is not kept.
        parameters = zstandard.ZstdCompressionParameters.from_level(8, window_log=21, write_checksum=1)
        yield zstandard.ZstdCompressor(compression_params=parameters).compressobj()
        return
    try:
        compressor = _spare.get_nowait()  # to make one costs more than to compress a small file
    except Empty:
        # Level 1 beat gzip and no compression on all links tried. The checksum is for `zstd -t`.
        compressor = zstandard.ZstdCompressor(level=1, write_checksum=True)
    try:
        yield compressor.compressobj()
    finally:
        _spare.put(compressor)


@contextmanager
def _gzip(hard: bool) -> Iterator[Compressor]:
    # 16: gzip's header and trailer
    yield zlib.compressobj(6 if hard else 1, zlib.DEFLATED, 16 + zlib.MAX_WBITS)


@contextmanager
def _none(hard: bool) -> Iterator[Compressor]:
    yield _AsItIs()


CODECS = {
    "zstd": Codec("zstd", ".zst", "application/zstd", _zstd),
    "gzip": Codec("gzip", ".gz", "application/gzip", _gzip),
    "none": Codec("none", "", "application/octet-stream", _none),
}
