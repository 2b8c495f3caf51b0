"""Compression in parts, each of them complete in itself: one after the other they are one valid file.

That is in the formats: RFC 8878 3 (frames may be concatenated), RFC 1952 2.2 (so may gzip members). So an
upload that ends early still leaves a valid file, and one that was cut off goes on without any compressor's
state.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from lifecycle_agent.steps.logs.buffers import SLACK, Buffer
from lifecycle_agent.steps.logs.source import Source

# What is read at a time. What a compressor makes of it, and what it held back, fits in a buffer's slack.
CHUNK = SLACK // 3

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
        begin: makes a compressor, one that compresses hard or one that is quick.
    """

    name: str
    suffix: str
    content_type: str
    begin: Callable[[bool], Compressor]


@dataclass
class Original:
    """What was read of a source so far: how many bytes, and their hash."""

    sha256: hashlib._Hash
    size: int = 0

    def add(self, chunk: bytes) -> None:
        """So much more."""
        self.sha256.update(chunk)
        self.size += len(chunk)


def pack(source: Source, compressor: Compressor, original: Original, into: Buffer) -> bool:
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


def _zstd(hard: bool) -> Compressor:
    import zstandard  # here: who ships with gzip does not load it

    # Level 1 beat gzip and no compression on all links tried. Level 7 makes log text a quarter smaller still
    # at a quarter of the speed; its window is kept at 1 MiB for the memory's sake. The checksum is for
    # `zstd -t`.
    values: dict[str, int] = {"window_log": 20} if hard else {}
    parameters = zstandard.ZstdCompressionParameters.from_level(7 if hard else 1, write_checksum=1, **values)
    return zstandard.ZstdCompressor(compression_params=parameters).compressobj()


def _gzip(hard: bool) -> Compressor:
    # 16: gzip's header and trailer
    return zlib.compressobj(6 if hard else 1, zlib.DEFLATED, 16 + zlib.MAX_WBITS)


def _none(hard: bool) -> Compressor:
    return _AsItIs()


CODECS = {
    "zstd": Codec("zstd", ".zst", "application/zstd", _zstd),
    "gzip": Codec("gzip", ".gz", "application/gzip", _gzip),
    "none": Codec("none", "", "application/octet-stream", _none),
}
