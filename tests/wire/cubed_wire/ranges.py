"""ACK: which packet numbers came.

Owns the fields of RFC 9000 section 19.3.1 without the type and with the delay in microseconds. What always holds: ranges descend, do
not touch, and never go below zero.
"""

from __future__ import annotations

from dataclasses import dataclass

from . import varints
from .cursor import Cursor, Malformed


@dataclass(frozen=True)
class Ack:
    """`ranges` are (lowest, highest), both included, the highest range first."""

    ranges: tuple[tuple[int, int], ...]
    delay_us: int

    @classmethod
    def of(cls, numbers: set[int], delay_us: int) -> Ack:
        """An ACK of single numbers."""
        found: list[tuple[int, int]] = []
        for number in sorted(numbers, reverse=True):
            if found and found[-1][0] == number + 1:
                found[-1] = (number, found[-1][1])
            else:
                found.append((number, number))
        return cls(tuple(found), delay_us)

    def encode(self) -> bytes:
        """The fields behind the type."""
        (low, high), *others = self.ranges
        fields = [high, self.delay_us, len(others), high - low]
        for next_low, next_high in others:
            fields += [low - next_high - 2, next_high - next_low]
            low = next_low
        return b"".join(map(varints.write, fields))

    @classmethod
    def decode(cls, cursor: Cursor) -> Ack:
        """The reverse of `encode`."""
        high, delay_us, count = (varints.read(cursor) for _ in range(3))
        found = [(high - varints.read(cursor), high)]
        for _ in range(count):
            # Each range takes two bytes at least, so the datagram's length bounds this loop.
            high = found[-1][0] - varints.read(cursor) - 2
            found.append((high - varints.read(cursor), high))
            if found[-1][0] < 0:
                break
        if any(low < 0 for low, _ in found):
            raise Malformed("a packet number below zero")
        return cls(tuple(found), delay_us)
