"""CRC32 as S3 writes it, and of a whole from those of its parts."""

from __future__ import annotations

import base64
from collections.abc import Iterable

# The polynomial of zlib, gzip and S3's CRC32, its highest power in the lowest bit.
_POLYNOMIAL = 0xEDB88320
_ONE = 1 << 31  # x^0
_BYTE = 1 << 23  # x^8


def in_base64(crc: int) -> str:
    """As in the header `x-amz-checksum-crc32`: its four bytes, the highest first, in base64."""
    return base64.b64encode(crc.to_bytes(4, "big")).decode()


def combined(parts: Iterable[tuple[int, int]]) -> int:
    """CRC32 of parts one after the other.

    To put n bytes behind something multiplies its CRC, as a polynomial over GF(2), by x^8n.

    Args:
        parts: CRC32 and bytes of each.
    """
    whole = 0
    for crc, size in parts:
        whole = _multiply(_power(size), whole) ^ crc
    return whole


def _power(size: int) -> int:
    """x^(8 * size), modulo the polynomial."""
    product, square = _ONE, _BYTE
    while size:
        if size & 1:
            product = _multiply(product, square)
        square = _multiply(square, square)
        size >>= 1
    return product


def _multiply(left: int, right: int) -> int:
    product = 0
    for power in range(31, -1, -1):
        if left >> power & 1:
            product ^= right
        right = right >> 1 ^ (_POLYNOMIAL if right & 1 else 0)
    return product
