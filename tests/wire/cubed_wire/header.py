"""The 16 bytes in clear that every datagram begins with.

Owns the headers of handshake datagrams and of lanes, which lie field under field, and RESTARTED, which is nothing but such a header.
What always holds: integers are little endian, and a header that is read is written as the same 16 bytes.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from .cursor import Malformed

HEADER_BYTES, TAG_BYTES = 16, 16
HELLO_BYTES = 1200
HELLO, REPLY, FINISH, COOKIE, RESTARTED = range(1, 6)
LANE, LANE_KEY_PHASE = 0x40, 0x41
VERSION = 1
FLAG_ACKNOWLEDGE = 1
PACKET_NUMBER_MAX = (1 << 62) - 1
_LAYOUT = struct.Struct("<BBIBB8s")


@dataclass(frozen=True)
class HandshakeHeader:
    """Of HELLO, REPLY, FINISH and COOKIE."""

    kind: int
    shard: int
    index: int
    sender_shard: int
    dial_id: bytes

    def encode(self) -> bytes:
        """Its 16 bytes."""
        return _LAYOUT.pack(self.kind, self.shard, self.index, self.sender_shard, VERSION, self.dial_id)

    @classmethod
    def decode(cls, datagram: bytes) -> HandshakeHeader:
        """The header of `datagram`."""
        kind, shard, index, sender_shard, version, dial_id = _unpack(datagram)
        if kind not in (HELLO, REPLY, FINISH, COOKIE):
            raise Malformed(f"no handshake datagram has the kind {kind:02x}")
        if len(datagram) != HELLO_BYTES if kind == HELLO else len(datagram) > HELLO_BYTES:
            raise Malformed("a HELLO that is not, or another that is more than 1200 bytes long")
        if version != VERSION:
            raise Malformed(f"version {version} of the layout")
        return cls(kind, shard, index, sender_shard, dial_id)


@dataclass(frozen=True)
class LaneHeader:
    """Of a lane datagram; `to` and `sender` are shards."""

    to: int
    index: int
    sender: int
    number: int
    acknowledge: bool = False
    key_phase: bool = False

    def encode(self) -> bytes:
        """Its 16 bytes, the associated data of what follows."""
        kind = LANE_KEY_PHASE if self.key_phase else LANE
        flags = FLAG_ACKNOWLEDGE if self.acknowledge else 0
        return _LAYOUT.pack(kind, self.to, self.index, self.sender, flags, self.number.to_bytes(8, "little"))

    @classmethod
    def decode(cls, datagram: bytes) -> LaneHeader:
        """The header of `datagram`."""
        kind, to, index, sender, flags, number = _unpack(datagram)
        if kind not in (LANE, LANE_KEY_PHASE):
            raise Malformed(f"no lane datagram has the kind {kind:02x}")
        if flags & ~FLAG_ACKNOWLEDGE:
            raise Malformed("a flag of no meaning")
        if int.from_bytes(number, "little") > PACKET_NUMBER_MAX:
            raise Malformed("a packet number that no acknowledgement can name")
        return cls(to, index, sender, int.from_bytes(number, "little"), bool(flags), kind == LANE_KEY_PHASE)


@dataclass(frozen=True)
class Restarted:
    """The answer to a lane datagram whose index nobody knows."""

    to: int
    index: int
    sender: int
    tag: bytes

    def encode(self) -> bytes:
        """All of it."""
        return _LAYOUT.pack(RESTARTED, self.to, self.index, self.sender, VERSION, self.tag)

    @classmethod
    def decode(cls, datagram: bytes) -> Restarted:
        """The reverse of `encode`."""
        kind, to, index, sender, version, tag = _unpack(datagram)
        if kind != RESTARTED or version != VERSION or len(datagram) != HEADER_BYTES:
            raise Malformed("not a RESTARTED")
        return cls(to, index, sender, tag)

    @classmethod
    def answer(cls, datagram: bytes) -> Restarted:
        """What a node says that does not know the index of this lane datagram."""
        header = LaneHeader.decode(datagram)
        if len(datagram) < HEADER_BYTES + TAG_BYTES:
            raise Malformed("shorter than 32 bytes, so nothing is answered")
        return cls(header.sender, header.index, header.to, datagram[-TAG_BYTES:][:8])


def _unpack(datagram: bytes) -> tuple[int, int, int, int, int, bytes]:
    if len(datagram) < HEADER_BYTES:
        raise Malformed("shorter than a header")
    return _LAYOUT.unpack_from(datagram)  # type: ignore[return-value]
