"""Records: GREETING, CLOSE and BIND, and types to skip.

Owns the bodies behind a RECORD frame's type and length. What always holds: a body is all of its fields and nothing else, in the one
encoding of their values, at most 1,024 bytes.
"""

from __future__ import annotations

from dataclasses import dataclass

from . import postcard, varints
from .cursor import Cursor, Malformed

BODY_BYTES_MAX = 1024
NODE_NAME_BYTES_MAX = 64
FLOW_NAME_BYTES_MAX = 255
ALIASES_MAX = 4096
FIRST_OPTIONAL_TYPE = 0x20
MODE_MAIN = 1

CLOSE_REASONS = {
    0: "done",
    1: "not admitted",
    2: "the receiver broke the protocol",
    3: "its key waits for an operator",
    4: "it is rejected",
}


@dataclass(frozen=True)
class Greeting:
    """Who a side is and what it can do."""

    TYPE = 0x01
    incarnation: bytes
    name: str
    role: str
    mode: int
    kind: int
    shards: int
    placement_salt: bytes
    message_bytes_max: int

    def body(self) -> bytes:
        """Its fields in order."""
        out = self.incarnation + postcard.write_text(self.name) + postcard.write_text(self.role)
        return out + bytes([self.mode, self.kind, self.shards]) + self.placement_salt + postcard.write_number(self.message_bytes_max)

    @classmethod
    def read(cls, cursor: Cursor) -> Greeting:
        """The reverse of `body`."""
        incarnation, name, role = cursor.take(16), postcard.read_text(cursor), postcard.read_text(cursor)
        if max(len(name.encode()), len(role.encode())) > NODE_NAME_BYTES_MAX:
            raise Malformed("a node's name or role longer than 64 bytes")
        mode, kind, shards = cursor.take(3)
        if mode & ~MODE_MAIN or shards == 0:
            raise Malformed("a mode of no meaning, or a node without shards")
        return cls(incarnation, name, role, mode, kind, shards, cursor.take(32), postcard.read_number(cursor, 64))


@dataclass(frozen=True)
class Close:
    """The session ends."""

    TYPE = 0x02
    reason: int

    def body(self) -> bytes:
        """Its reason."""
        return bytes([self.reason])

    @classmethod
    def read(cls, cursor: Cursor) -> Close:
        """The reverse of `body`."""
        reason = cursor.byte()
        if reason not in CLOSE_REASONS:
            raise Malformed(f"no reason {reason}")
        return cls(reason)


@dataclass(frozen=True)
class Bind:
    """What an alias stands for, and how much credit is wanted for it."""

    TYPE = 0x03
    alias: int
    flow: str
    limit: int

    def body(self) -> bytes:
        """Its fields in order."""
        return postcard.write_number(self.alias) + postcard.write_text(self.flow) + postcard.write_number(self.limit)

    @classmethod
    def read(cls, cursor: Cursor) -> Bind:
        """The reverse of `body`."""
        bind = cls(postcard.read_number(cursor, 32), postcard.read_text(cursor), postcard.read_number(cursor, 64))
        if not 1 <= len(bind.flow.encode()) <= FLOW_NAME_BYTES_MAX:
            raise Malformed("a flow name that is not 1 to 255 bytes long")
        return bind


@dataclass(frozen=True)
class Skipped:
    """A record of an optional type that is not known here."""

    type: int
    bytes: bytes


Record = Greeting | Close | Bind | Skipped
_KNOWN: dict[int, type[Greeting] | type[Close] | type[Bind]] = {kind.TYPE: kind for kind in (Greeting, Close, Bind)}


def encode(record: Record) -> bytes:
    """Type, length and body: the fields of a RECORD frame."""
    if isinstance(record, Skipped):
        kind, body = record.type, record.bytes
    else:
        kind, body = record.TYPE, record.body()
    return varints.write(kind) + varints.write(len(body)) + body


def decode(cursor: Cursor) -> Record:
    """The reverse of `encode`."""
    kind, length = varints.read(cursor), varints.read(cursor)
    if length > BODY_BYTES_MAX:
        raise Malformed("a record longer than 1,024 bytes")
    body = Cursor(cursor.take(length))
    if kind not in _KNOWN:
        if kind < FIRST_OPTIONAL_TYPE:
            raise Malformed(f"an unknown record type {kind:#x} below 0x20")
        return Skipped(kind, body.rest())
    record = _KNOWN[kind].read(body)
    if body.left():
        raise Malformed("bytes behind the last field")
    return record
