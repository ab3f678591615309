"""Messages in blocks and in best-effort datagrams.

Owns the four forms of a piece (whole, first, later, padding), how messages are cut into blocks, and how they are put together again.
What always holds: a fragment stands first in a block and last in a best-effort datagram, a beginning or padding stands last, and the
pieces of a message add up to its length.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Iterable

from . import varints
from .cursor import Cursor, Malformed
from .records import ALIASES_MAX, FLOW_NAME_BYTES_MAX

FORM_WHOLE, FORM_FIRST, FORM_PART, FORM_PADDING = range(4)
FORM, NAMED, REQUEST, REPLY, SEQUENCE, LATEST, UNUSED = 0x03, 0x04, 0x08, 0x10, 0x20, 0x40, 0x80


@dataclass(frozen=True)
class Head:
    """What stands before a body: a message to a flow, or an answer to a request of the receiver.

    A message with a `sequence` is ordered, or a value whose stamp that is when it is also the `latest`.
    """

    alias: int | None = None
    name: str | None = None
    request: int | None = None
    reply_to: int | None = None
    sequence: int | None = None
    latest: bool = False

    def encode(self, form: int, length: int) -> bytes:
        """Flags, fields and the length of the whole message."""
        out = bytes([form | self._flags()])
        out += varints.write(self.alias if self.reply_to is None else self.reply_to)
        if self.name is not None:
            out += varints.write(len(self.name.encode())) + self.name.encode()
        if self.request is not None:
            out += varints.write(self.request)
        if self.sequence is not None:
            out += varints.write(self.sequence)
        return out + varints.write(length)

    def _flags(self) -> int:
        if self.reply_to is not None:
            return REPLY
        flags = NAMED if self.name is not None else 0
        flags |= REQUEST if self.request is not None else 0
        flags |= SEQUENCE if self.sequence is not None else 0
        return flags | (LATEST if self.latest else 0)

    @classmethod
    def decode(cls, flags: int, cursor: Cursor) -> tuple[Head, int]:
        """The head behind `flags`, and the length of the whole message."""
        if flags & UNUSED:
            raise Malformed("a flag of no meaning")
        if flags & REPLY:
            if flags & ~(FORM | REPLY):
                raise Malformed("an answer that is named or asks")
            return cls(reply_to=varints.read(cursor)), varints.read(cursor)
        if flags & SEQUENCE and flags & REQUEST:
            raise Malformed("a numbered message that asks")
        if flags & LATEST and not flags & SEQUENCE:
            raise Malformed("a value without a stamp")
        alias = varints.read(cursor)
        name = _read_name(cursor) if flags & NAMED else None
        request = varints.read(cursor) if flags & REQUEST else None
        sequence = varints.read(cursor) if flags & SEQUENCE else None
        return cls(alias, name, request, None, sequence, bool(flags & LATEST)), varints.read(cursor)


def _read_name(cursor: Cursor) -> str:
    name = cursor.take(varints.read(cursor))
    if not 1 <= len(name) <= FLOW_NAME_BYTES_MAX:
        raise Malformed("a flow name that is not 1 to 255 bytes long")
    try:
        return name.decode()
    except UnicodeDecodeError as error:
        raise Malformed(f"not UTF-8: {error.reason}") from None


@dataclass(frozen=True)
class Whole:
    """A message in one piece."""

    head: Head
    body: bytes


@dataclass(frozen=True)
class First:
    """The beginning of a message of `length` bytes; `number` joins its pieces where no blocks do (best effort)."""

    head: Head
    length: int
    body: bytes
    number: int | None = None


@dataclass(frozen=True)
class Later:
    """A further piece, from `offset` on; it began `origin` blocks ago, or under the number `origin` in best effort."""

    origin: int
    offset: int
    length: int
    body: bytes


@dataclass(frozen=True)
class Padding:
    """Zeros to the end, behind the flags."""

    zeros: int


Piece = Whole | First | Later | Padding


def encode(pieces: Iterable[Piece]) -> bytes:
    """What stands behind a block number, or behind the type of BEST_EFFORT."""
    return b"".join(map(_encode_piece, pieces))


def _encode_piece(piece: Piece) -> bytes:
    match piece:
        case Whole(head, body):
            return head.encode(FORM_WHOLE, len(body)) + body
        case First(head, length, body, number):
            return head.encode(FORM_FIRST, length) + (b"" if number is None else varints.write(number)) + body
        case Later(origin, offset, length, body):
            return bytes([FORM_PART]) + b"".join(map(varints.write, (origin, offset, length))) + body
        case Padding(zeros):
            return bytes([FORM_PADDING]) + bytes(zeros)
    raise TypeError(piece)


def decode(content: bytes, best_effort: bool = False) -> tuple[Piece, ...]:
    """The reverse of `encode`."""
    cursor, pieces = Cursor(content), []
    while cursor.left():
        piece = _decode_piece(cursor, best_effort)
        if isinstance(piece, Later) and pieces and not best_effort:
            raise Malformed("a fragment that does not stand first in its block")
        pieces.append(piece)
    return tuple(pieces)


def _decode_piece(cursor: Cursor, best_effort: bool) -> Piece:
    form = cursor.data[cursor.position] & FORM
    if form == FORM_PART:
        return _decode_later(cursor, best_effort)
    flags = cursor.byte()
    if form == FORM_PADDING:
        if best_effort:
            raise Malformed("padding of form 3 in best effort")
        return _decode_padding(flags, cursor)
    head, length = Head.decode(flags, cursor)
    if head.alias is not None and head.alias >= ALIASES_MAX:
        raise Malformed("an alias of 4,096 or more")
    if best_effort and form == FORM_FIRST and head.reply_to is not None:
        raise Malformed("an answer in parts in best effort")
    if best_effort and head.sequence is not None:
        raise Malformed("a numbered message in best effort")
    if form == FORM_WHOLE:
        return Whole(head, cursor.take(length))
    number = varints.read(cursor) if best_effort else None
    body = cursor.rest()
    if not body:
        raise Malformed("a beginning without a byte of its message")
    if len(body) + (not best_effort) > length:
        raise Malformed("a beginning that is not shorter than its message")
    return First(head, length, body, number)


def _decode_padding(flags: int, cursor: Cursor) -> Padding:
    zeros = cursor.rest()
    if flags != FORM_PADDING or any(zeros):
        raise Malformed("padding that is not zero")
    return Padding(len(zeros))


def _decode_later(cursor: Cursor, best_effort: bool) -> Later:
    origin, offset, length = decode_fragment_head(cursor)
    if not cursor.left():
        raise Malformed("a fragment without a byte of its message")
    if not best_effort and not origin:
        raise Malformed("a fragment of a message that begins in its own block")
    if best_effort and cursor.left() > length - offset:
        raise Malformed("a fragment that goes beyond its message")
    return Later(origin, offset, length, cursor.take(min(length - offset, cursor.left())))


def decode_fragment_head(cursor: Cursor) -> tuple[int, int, int]:
    """Flags, origin, offset and length of a fragment; its body follows."""
    flags = cursor.byte()
    if flags != FORM_PART:
        raise Malformed("a fragment with flags")
    origin, offset, length = (varints.read(cursor) for _ in range(3))
    if not 0 < offset < length:
        raise Malformed("a fragment outside its message")
    return origin, offset, length


class Cutter:
    """Cuts messages into the contents of blocks of at most `content_bytes`."""

    def __init__(self, content_bytes: int) -> None:
        self.content_bytes = content_bytes
        self.blocks: list[bytes] = []
        self._named: set[int] = set()
        self._open = b""

    def add(self, body: bytes, alias: int, flow: str, request: int | None = None) -> None:
        """A message to a flow whose name was not acknowledged yet: the first in each block names it."""
        head = Head(alias, None if alias in self._named else flow, request)
        whole = encode([Whole(head, body)])
        if len(self._open) + len(whole) <= self.content_bytes:
            self._open += whole
            self._named.add(alias)
            return
        taken = self.content_bytes - len(self._open) - len(encode([First(head, len(body), b"")]))
        if taken <= 0:
            self.close()
            self.add(body, alias, flow, request)
            return
        self._open += encode([First(head, len(body), body[:taken])])
        origin = len(self.blocks)
        while taken < len(body):
            self.close()
            fragment = Later(len(self.blocks) - origin, taken, len(body), b"")
            piece = body[taken : taken + self.content_bytes - len(encode([fragment]))]
            self._open = encode([Later(fragment.origin, taken, len(body), piece)])
            taken += len(piece)

    def close(self) -> None:
        """Ends the open block."""
        if self._open:
            self.blocks.append(self._open)
        self._open = b""
        self._named.clear()


class Assembly:
    """Puts messages of a lane together again, in whatever order its blocks come, each once."""

    def __init__(self) -> None:
        self._pieces: dict[int, list[First | Later]] = {}

    def take(self, number: int, content: bytes) -> list[tuple[Head, bytes]]:
        """The messages that became whole by block `number`."""
        done: list[tuple[Head, bytes]] = []
        for piece in decode(content):
            if isinstance(piece, Whole):
                done.append((piece.head, piece.body))
            elif isinstance(piece, First):
                done += self._join(number, piece)
            elif isinstance(piece, Later):
                if piece.origin > number:
                    raise Malformed("a fragment of a message before block 0")
                done += self._join(number - piece.origin, piece)
        return done

    def _join(self, origin: int, piece: First | Later) -> list[tuple[Head, bytes]]:
        pieces = self._pieces.setdefault(origin, [])
        pieces.append(piece)
        if any(other.length != piece.length for other in pieces):
            raise Malformed("pieces of one message that differ in its length")
        if sum(len(other.body) for other in pieces) < piece.length:
            return []
        del self._pieces[origin]
        body = bytearray(piece.length)
        for other in pieces:
            offset = other.offset if isinstance(other, Later) else 0
            body[offset : offset + len(other.body)] = other.body
        heads = [other.head for other in pieces if isinstance(other, First)]
        if len(heads) != 1:
            raise Malformed("a message without one beginning")
        return [(heads[0], bytes(body))]
