"""A place in bytes that came from a peer.

Owns the position and the only error of this package. What always holds: nothing is read beyond the end, and what is malformed
raises `Malformed`, never anything else.
"""

from __future__ import annotations


class Malformed(Exception):
    """The bytes are not what the page allows; the text says which rule they break."""


class Cursor:
    """Reads `data` from its start."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.position = 0

    def left(self) -> int:
        """Bytes not read yet."""
        return len(self.data) - self.position

    def take(self, count: int) -> bytes:
        """The next `count` bytes."""
        if count > self.left():
            raise Malformed(f"{count} bytes wanted, {self.left()} left")
        self.position += count
        return self.data[self.position - count : self.position]

    def byte(self) -> int:
        """The next byte."""
        return self.take(1)[0]

    def rest(self) -> bytes:
        """All that is left."""
        return self.take(self.left())
