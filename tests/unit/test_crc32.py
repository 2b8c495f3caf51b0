"""The checksum of a whole from those of its parts."""

from __future__ import annotations

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifecycle_agent.clients.crc32 import combined, in_base64


@given(st.lists(st.binary(max_size=300)))
def test_the_whole_has_the_checksum_that_its_parts_say(parts: list[bytes]) -> None:
    assert combined((zlib.crc32(part), len(part)) for part in parts) == zlib.crc32(b"".join(parts))


@pytest.mark.parametrize("size", [1, 255, (5 << 20) + 1, 6_000_000_007 % (1 << 24)])
def test_parts_as_large_as_they_are(size: int) -> None:
    first, second = b"\xff" * size, b"the rest"
    assert combined([(zlib.crc32(first), size), (zlib.crc32(second), 8)]) == zlib.crc32(first + second)


def test_ten_thousand_parts_take_no_time_to_speak_of() -> None:
    """As many as S3 takes; the sum of so many equal parts is that of one, so often as they are."""
    part = b"x" * 100
    assert combined([(zlib.crc32(part), 100)] * 10_000) == zlib.crc32(part * 10_000)


def test_it_is_written_as_s3_writes_it() -> None:
    """CRC32's own check value, from its catalogue."""
    assert zlib.crc32(b"123456789") == 0xCBF43926
    assert in_base64(0xCBF43926) == "y/Q5Jg=="
    assert in_base64(0) == "AAAAAA=="
