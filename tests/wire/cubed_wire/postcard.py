"""The part of postcard's wire format that records use.

Owns varint(N) (7 bits a byte, least significant first, the high bit says that more follow), strings, and plain bytes. What always
holds: a number is read in its shortest form and within its type, a string is UTF-8, so encoding again gives the same bytes.
"""

from __future__ import annotations

from .cursor import Cursor, Malformed


def write_number(value: int) -> bytes:
    """`value` as varint."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def read_number(cursor: Cursor, bits: int) -> int:
    """A varint of a type with `bits` bits."""
    value, shift = 0, 0
    while True:
        byte = cursor.byte()
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            break
        shift += 7
        if shift > bits:
            raise Malformed("a varint longer than its type")
    if value >> bits:
        raise Malformed(f"{value} does not fit {bits} bits")
    if shift and byte == 0:
        raise Malformed("a varint that is not its shortest form")
    return value


def write_text(text: str) -> bytes:
    """Its length in bytes, then UTF-8."""
    body = text.encode()
    return write_number(len(body)) + body


def read_text(cursor: Cursor) -> str:
    """A string of any length."""
    try:
        return cursor.take(read_number(cursor, 64)).decode()
    except UnicodeDecodeError as error:
        raise Malformed(f"not UTF-8: {error.reason}") from None
