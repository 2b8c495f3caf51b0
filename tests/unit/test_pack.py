"""Compression in parts: whatever comes in whatever pieces, all of it is there, and each part is whole."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Callable

import pytest
import zstandard
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lifecycle_agent.steps.logs.buffers import SLACK, Buffer
from lifecycle_agent.steps.logs.pack import CHUNK, CODECS, Original, pack

UNPACK: dict[str, Callable[[bytes], bytes]] = {
    # refuses what is not exactly one frame with its checksum
    "zstd": lambda data: zstandard.ZstdDecompressor().decompress(data, 4 << 20, allow_extra_data=False),
    "gzip": gzip.decompress,
    "none": bytes,
}


class InPieces:
    """Gives no more at a time than the next of `pieces`, and never more than is asked for."""

    def __init__(self, data: bytes, pieces: list[int]) -> None:
        self._data = data
        self._pieces = pieces
        self._at = self._asked = 0

    def read(self, size: int) -> bytes:
        piece = self._pieces[self._asked % len(self._pieces)] if self._pieces else size
        self._asked += 1
        chunk = self._data[self._at : self._at + min(size, piece)]
        self._at += len(chunk)
        return chunk


def content(runs: list[tuple[bool, int]]) -> bytes:
    """Runs of noise, which gets no smaller, and of text, which nearly vanishes."""
    return b"".join(
        hashlib.shake_128(b"%d" % number).digest(size) if noise else b"a line of a log\n" * (size // 16)
        for number, (noise, size) in enumerate(runs)
    )


MIXED = [(True, 3 * CHUNK), (False, 5 * CHUNK), (True, CHUNK + 1)]


@example("zstd", MIXED, [CHUNK - 1, 10_000], CHUNK, [True, False])
@example("gzip", MIXED, [], 2 * CHUNK, [False, True])
@example("none", MIXED, [2 * CHUNK], CHUNK, [False])
@settings(deadline=None, max_examples=60)
@given(
    codec=st.sampled_from(sorted(CODECS)),
    runs=st.lists(st.tuples(st.booleans(), st.integers(0, 3 * CHUNK)), max_size=8),
    pieces=st.lists(st.integers(1, 2 * CHUNK), max_size=5),
    size=st.integers(1, 4 * CHUNK),
    hard=st.lists(st.booleans(), min_size=1, max_size=4),
)
def test_all_of_it_is_there_and_each_part_is_whole(
    codec: str, runs: list[tuple[bool, int]], pieces: list[int], size: int, hard: list[bool]
) -> None:
    data = content(runs)[: 500 * min(pieces, default=CHUNK)]  # in so many pieces at most
    source, original = InPieces(data, pieces), Original(hashlib.sha256())
    stored: list[bytes] = []
    ended = False
    while not ended:
        start, buffer = original.size, Buffer(size, size + SLACK)
        with CODECS[codec].begin(hard[len(stored) % len(hard)]) as compressor:
            ended = pack(source, compressor, original, buffer)
        assert ended or buffer.full
        stored.append(bytes(buffer.data))
        assert UNPACK[codec](stored[-1]) == data[start : original.size]
    assert original.size == len(data)
    assert original.sha256.digest() == hashlib.sha256(data).digest()
    whole = b"".join(stored)
    if codec == "zstd":
        assert zstandard.ZstdDecompressor().stream_reader(whole, read_across_frames=True).read() == data
    else:
        assert UNPACK[codec](whole) == data


@pytest.mark.parametrize("codec", ["zstd", "gzip"])
@pytest.mark.parametrize("hard", [False, True])
def test_damage_is_noticed_by_whoever_unpacks_it(codec: str, hard: bool) -> None:
    buffer = Buffer(1 << 20, (1 << 20) + SLACK)
    with CODECS[codec].begin(hard) as compressor:
        pack(InPieces(content([(True, 1000)]), []), compressor, Original(hashlib.sha256()), buffer)
    damaged = bytearray(buffer.data)
    damaged[500] ^= 1
    with pytest.raises((zstandard.ZstdError, OSError)):
        UNPACK[codec](bytes(damaged))
