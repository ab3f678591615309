"""SETTLED: how the messages below a block number ended.

Owns the floor and the entries that refuse messages. What always holds: entries ascend by block, then reason, each block is below
the floor, no bitmap ends with a zero byte, and none is empty but a skipped block's.
"""

from __future__ import annotations

from dataclasses import dataclass

from . import varints
from .cursor import Cursor, Malformed

REASONS = {
    1: "no such flow",
    2: "denied",
    3: "too large",
    4: "queue full",
    5: "takes no requests",
    6: "closing",
    7: "superseded",
    8: "skipped",
}


SKIPPED = 8
BITMAP_BYTES_MAX = 8192


@dataclass(frozen=True)
class Entry:
    """For one `reason`, the places of refused messages among those that end in `block`; none for a block that was skipped."""

    block: int
    reason: int
    places: tuple[int, ...]

    def bitmap(self) -> bytes:
        """Bit *i* of byte *j* is place 8*j*+*i*."""
        bits = sum(1 << place for place in self.places)
        return bits.to_bytes((bits.bit_length() + 7) // 8, "little")


@dataclass(frozen=True)
class Settled:
    """All messages that end in blocks below `floor` were accepted, except those in `entries`."""

    floor: int
    entries: tuple[Entry, ...] = ()

    def encode(self) -> bytes:
        """The fields behind the type."""
        out = varints.write(self.floor) + varints.write(len(self.entries))
        for entry in self.entries:
            bitmap = entry.bitmap()
            out += varints.write(self.floor - entry.block) + bytes([entry.reason])
            out += varints.write(len(bitmap)) + bitmap
        return out

    @classmethod
    def decode(cls, cursor: Cursor) -> Settled:
        """The reverse of `encode`."""
        floor, count = varints.read(cursor), varints.read(cursor)
        entries: list[Entry] = []
        for _ in range(count):
            # Each entry takes three bytes at least, so the datagram's length bounds this loop.
            entry = _read_entry(cursor, floor)
            for other in (other for other in entries[-len(REASONS) :] if other.block == entry.block):
                if set(entry.places) & set(other.places):
                    raise Malformed("a message in two entries")
                if SKIPPED in (entry.reason, other.reason):
                    raise Malformed("a skipped block in another entry")
            if entries and (entries[-1].block, entries[-1].reason) >= (entry.block, entry.reason):
                raise Malformed("entries do not ascend by block, then reason")
            entries.append(entry)
        return cls(floor, tuple(entries))


def _read_entry(cursor: Cursor, floor: int) -> Entry:
    distance, reason = varints.read(cursor), cursor.byte()
    bitmap = cursor.take(varints.read(cursor))
    if not 1 <= distance <= floor:
        raise Malformed("an entry that is not for a block below the floor")
    if reason not in REASONS:
        raise Malformed(f"no reason {reason}")
    if (reason == SKIPPED) != (not bitmap):
        raise Malformed("an entry that names no message, or names those of a skipped block")
    if len(bitmap) > BITMAP_BYTES_MAX:
        raise Malformed("a place of 65,536 or more")
    if bitmap and bitmap[-1] == 0:
        raise Malformed("the last byte of a bitmap is zero")
    places = (place for place in range(8 * len(bitmap)) if bitmap[place // 8] >> place % 8 & 1)
    return Entry(floor - distance, reason, tuple(places))
