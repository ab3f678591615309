"""Variable-length integers of RFC 9000 section 16, called *v* on the page.

Owns 0 to 2^62 - 1 as 1, 2, 4 or 8 bytes, big endian, the length in the two highest bits. What always holds: only the shortest form
of a number is written or read.
"""

from __future__ import annotations

from .cursor import Cursor, Malformed

LARGEST = (1 << 62) - 1


def write(value: int) -> bytes:
    """The shortest form of `value`."""
    for exponent in range(4):
        size = 1 << exponent
        if 0 <= value < 1 << (8 * size - 2):
            return (value | exponent << (8 * size - 2)).to_bytes(size, "big")
    raise ValueError(f"{value} is not from 0 to 2^62 - 1")


def read(cursor: Cursor) -> int:
    """The next number."""
    first = cursor.byte()
    size = 1 << (first >> 6)
    value = int.from_bytes(bytes([first & 0x3F]) + cursor.take(size - 1), "big")
    if len(write(value)) != size:
        raise Malformed(f"{value} in {size} bytes is not its shortest form")
    return value
