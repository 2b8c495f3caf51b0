"""Compression in parts, each of them complete in itself: one after the other they are one valid file.

That is in the formats: RFC 8878 3 (frames may be concatenated), RFC 1952 2.2 (so may gzip members). So an
upload that ends early still leaves a valid file, and a part can be made again without those before it.
"""

from __future__ import annotations

import hashlib
import io
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from lifecycle_agent.steps.logs.source import Source

# What is read at a time.
CHUNK = 1024 * 1024

# Left as they are: to compress them again costs time and saves nothing.
COMPRESSED = (".gz", ".zst", ".xz", ".bz2", ".lz4", ".br", ".zip", ".tgz")


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
        begin: makes a maker of compressors; one maker serves one thread.
    """

    name: str
    suffix: str
    content_type: str
    begin: Callable[[], Callable[[], Compressor]]


@dataclass(frozen=True)
class Part:
    """A piece of an object: `data` as it is stored, made of `bytes` bytes of the original."""

    data: bytes
    bytes: int


def parts(source: Source, codec: Codec, size: int, hasher: hashlib._Hash) -> Iterator[Part]:
    """The source in parts of about `size` stored bytes (never less but for the last one), and at least one.

    `hasher` has seen exactly the original bytes of the parts handed out so far.
    """
    begin = codec.begin()
    first, ended = True, False
    while not ended:
        compressor, out, read = begin(), io.BytesIO(), 0
        while out.tell() < size:
            chunk = source.read(CHUNK)
            if not chunk:
                ended = True
                break
            hasher.update(chunk)
            out.write(compressor.compress(chunk))
            read += len(chunk)
        if read or first:
            out.write(compressor.flush())
            yield Part(out.getvalue(), read)
        first = False


class _AsItIs:
    def compress(self, data: bytes, /) -> bytes:
        return data

    def flush(self) -> bytes:
        return b""


def _zstd() -> Callable[[], Compressor]:
    import zstandard  # here: who ships with gzip does not load it

    # Level 1 beat gzip and no compression on all links tried. The checksum in each frame is for `zstd -t`.
    return zstandard.ZstdCompressor(level=1, write_checksum=True).compressobj


def _gzip() -> Callable[[], Compressor]:
    return lambda: zlib.compressobj(1, zlib.DEFLATED, 16 + zlib.MAX_WBITS)  # 16: gzip's header and trailer


def _none() -> Callable[[], Compressor]:
    return _AsItIs


CODECS = {
    "zstd": Codec("zstd", ".zst", "application/zstd", _zstd),
    "gzip": Codec("gzip", ".gz", "application/gzip", _gzip),
    "none": Codec("none", "", "application/octet-stream", _none),
}
