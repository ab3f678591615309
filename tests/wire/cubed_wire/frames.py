"""Frames: the row of them that a sealed datagram carries.

Owns their types, what they hold, which ask for an acknowledgement and which may come before the peer's greeting. What always
holds: a row is read to its last byte or refused as a whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Iterable

from . import messages, records, varints
from .cursor import Cursor, Malformed
from .ranges import Ack
from .records import ALIASES_MAX, Close
from .settled import REASONS, SKIPPED, Settled

PADDING, PING, ACK, SETTLED, CREDIT, BLOCKED, RECORD, SKIP, BLOCK, BEST_EFFORT, PART, CHALLENGE, RESPONSE = range(13)
CHALLENGE_BYTES = 8
BLOCK_CONTENT_BYTES_MAX = 8968


@dataclass(frozen=True)
class Padding:
    """One zero byte."""


@dataclass(frozen=True)
class Ping:
    """Asks for an acknowledgement and says nothing else."""


@dataclass(frozen=True)
class Credit:
    """A grant; `refusal` is zero for none."""

    alias: int
    limit: int
    message_bytes_max: int
    refusal: int = 0


@dataclass(frozen=True)
class Blocked:
    """More credit is wanted."""

    alias: int
    limit: int


@dataclass(frozen=True)
class Told:
    """RECORD."""

    record: records.Record


@dataclass(frozen=True)
class Skip:
    """Blocks given up, of a message that began `distance` blocks before the first, and `runs` of (alias, first sequence, sequences)."""

    first: int
    blocks: int
    distance: int
    runs: tuple[tuple[int, int, int], ...] = ()


@dataclass(frozen=True)
class Block:
    """A numbered stretch of messages."""

    number: int
    pieces: tuple[messages.Piece, ...]


@dataclass(frozen=True)
class BestEffort:
    """Messages that are not repeated."""

    pieces: tuple[messages.Piece, ...]


@dataclass(frozen=True)
class BlockPart:
    """PART: some of a block's content, which is `total` bytes long, from `offset` on."""

    block: int
    offset: int
    total: int
    piece: bytes


@dataclass(frozen=True)
class Challenge:
    """PATH_CHALLENGE."""

    data: bytes


@dataclass(frozen=True)
class Response:
    """PATH_RESPONSE."""

    data: bytes


Frame = Padding | Ping | Ack | Settled | Credit | Blocked | Told | Skip | Block | BestEffort | BlockPart | Challenge | Response


def encode(frame: Frame) -> bytes:
    """Its type and fields."""
    match frame:
        case Padding():
            return bytes([PADDING])
        case Ping():
            return bytes([PING])
        case Ack():
            return bytes([ACK]) + frame.encode()
        case Settled():
            return bytes([SETTLED]) + frame.encode()
        case Credit(alias, limit, longest, refusal):
            return bytes([CREDIT]) + b"".join(map(varints.write, (alias, limit, longest))) + bytes([refusal])
        case Blocked(alias, limit):
            return bytes([BLOCKED]) + varints.write(alias) + varints.write(limit)
        case Told(record):
            return bytes([RECORD]) + records.encode(record)
        case Skip(first, blocks, distance, runs):
            fields = [first, blocks, distance, len(runs), *(field for run in runs for field in run)]
            return bytes([SKIP]) + b"".join(map(varints.write, fields))
        case Block(number, pieces):
            return bytes([BLOCK]) + varints.write(number) + messages.encode(pieces)
        case BestEffort(pieces):
            return bytes([BEST_EFFORT]) + messages.encode(pieces)
        case BlockPart(block, offset, total, piece):
            return bytes([PART]) + b"".join(map(varints.write, (block, offset, total))) + piece
        case Challenge(data):
            return bytes([CHALLENGE]) + data
        case Response(data):
            return bytes([RESPONSE]) + data
    raise TypeError(frame)


def encode_row(row: Iterable[Frame]) -> bytes:
    """What is sealed behind a lane's header."""
    return b"".join(map(encode, row))


def decode_row(payload: bytes) -> tuple[Frame, ...]:
    """The reverse of `encode_row`."""
    cursor, row = Cursor(payload), []
    while cursor.left():
        row.append(decode(cursor))
    return tuple(row)


def decode(cursor: Cursor) -> Frame:
    """The next frame."""
    kind = cursor.byte()
    if kind not in _DECODERS:
        raise Malformed(f"no frame type {kind:#04x}")
    frame = _DECODERS[kind](cursor)
    if any(alias >= ALIASES_MAX for alias in _aliases(frame)):
        raise Malformed("an alias of 4,096 or more")
    return frame


def _aliases(frame: Frame) -> list[int]:
    match frame:
        case Credit(alias) | Blocked(alias) | Told(records.Bind(alias)):
            return [alias]
        case Skip(runs=runs):
            return [alias for alias, _, _ in runs]
    return []


def decode_credit(cursor: Cursor) -> Credit:
    """CREDIT's fields."""
    credit = Credit(varints.read(cursor), varints.read(cursor), varints.read(cursor), cursor.byte())
    if credit.refusal and (credit.refusal not in REASONS or credit.refusal == SKIPPED):
        raise Malformed(f"no refusal {credit.refusal}")
    return credit


def decode_blocked(cursor: Cursor) -> Blocked:
    """BLOCKED's fields."""
    return Blocked(varints.read(cursor), varints.read(cursor))


def _decode_skip(cursor: Cursor) -> Skip:
    first, blocks, distance, count = (varints.read(cursor) for _ in range(4))
    if distance > first:
        raise Malformed("a message that began before block 0")
    if blocks == 0 and (first or distance or not count):
        raise Malformed("no blocks, but a place, or nothing at all")
    # Each run takes three bytes at least, so the datagram's length bounds this loop.
    runs = tuple((varints.read(cursor), varints.read(cursor), varints.read(cursor)) for _ in range(count))
    if any(sequences == 0 or sequence + sequences > varints.LARGEST for _, sequence, sequences in runs):
        raise Malformed("an empty run of sequences, or one beyond 2^62 - 1")
    return Skip(first, blocks, distance, runs)


def _decode_block(cursor: Cursor) -> Block:
    number, content = varints.read(cursor), cursor.rest()
    if len(content) > BLOCK_CONTENT_BYTES_MAX:
        raise Malformed("a block that no datagram holds")
    block = Block(number, messages.decode(content))
    if any(isinstance(piece, messages.Later) and piece.origin > block.number for piece in block.pieces):
        raise Malformed("a fragment of a message before block 0")
    return block


def _decode_part(cursor: Cursor) -> BlockPart:
    block, offset, total = (varints.read(cursor) for _ in range(3))
    piece = cursor.rest()
    if total > BLOCK_CONTENT_BYTES_MAX:
        raise Malformed("a part of a block that no datagram holds")
    if not piece or len(piece) == total or offset + len(piece) > total:
        raise Malformed("a part that is nothing, everything or beyond the end")
    return BlockPart(block, offset, total, piece)


_DECODERS = {
    PADDING: lambda _: Padding(),
    PING: lambda _: Ping(),
    ACK: Ack.decode,
    SETTLED: Settled.decode,
    CREDIT: decode_credit,
    BLOCKED: decode_blocked,
    RECORD: lambda cursor: Told(records.decode(cursor)),
    SKIP: _decode_skip,
    BLOCK: _decode_block,
    BEST_EFFORT: lambda cursor: BestEffort(messages.decode(cursor.rest(), best_effort=True)),
    PART: _decode_part,
    CHALLENGE: lambda cursor: Challenge(cursor.take(CHALLENGE_BYTES)),
    RESPONSE: lambda cursor: Response(cursor.take(CHALLENGE_BYTES)),
}


def asks(frame: Frame) -> bool:
    """Whether a datagram with it is to be acknowledged."""
    match frame:
        case Ack() | Padding() | Told(Close()):
            return False
        case Settled(_, entries):
            return bool(entries)
    return True


def may_precede_greeting(frame: Frame) -> bool:
    """Whether a side that has not the peer's greeting accepts it."""
    return isinstance(frame, Ack | Ping | Padding | Told)
