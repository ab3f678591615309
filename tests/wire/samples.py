"""Random frames, and damage to their bytes.

Owns no state: the generator is given. What always holds: a row that `row` makes is one that the page allows.
"""

from __future__ import annotations

import random

from cubed_wire import frames, messages, records
from cubed_wire.frames import BestEffort, Block, Blocked, BlockPart, Challenge, Credit, Frame, Padding, Ping, Response, Skip, Told
from cubed_wire.messages import First, Head, Later, Piece, Whole
from cubed_wire.ranges import Ack
from cubed_wire.settled import SKIPPED, Entry, Settled

ALIAS_MAX = records.ALIASES_MAX - 1


def number(chance: random.Random, bits: int = 62) -> int:
    """Any length of number as often as any other, and often an edge."""
    size = min(bits, chance.choice((1, 3, 6, 7, 8, 14, 15, 30, 31, 40, 62, 64)))
    return chance.choice((chance.getrandbits(size), (1 << size) - 1, 1 << (size - 1)))


def text(chance: random.Random, least: int, most: int) -> str:
    """A name; some have characters of two bytes."""
    size = chance.randint(least, min(most, chance.choice((1, 5, 30, most))) if most > least else most)
    letters = [chance.choice("abcxyz.09") for _ in range(size)]
    if size > 2 and chance.random() < 0.2:
        letters[:2] = "\u00e9"
    return "".join(letters)


def ack(chance: random.Random) -> Ack:
    """One to nine ranges."""
    low, ranges = number(chance, 40) + 400, []
    for _ in range(chance.randint(1, 9)):
        high = low
        low = high - chance.choice((0, 1, 5, 15))
        ranges.append((low, high))
        low -= chance.choice((2, 3, 25))
    return Ack(tuple(ranges), number(chance))


def settled(chance: random.Random) -> Settled:
    """Up to six entries."""
    floor = number(chance, 40) + 21
    keys = {(floor - chance.randint(1, 20), chance.randrange(1, SKIPPED)) for _ in range(chance.choice((0, 1, 3, 6)))}
    if chance.random() < 0.5:
        keys.add((floor - 21 + chance.randrange(2) * 19, SKIPPED))
        keys = {key for key in keys if key[1] == SKIPPED or (key[0], SKIPPED) not in keys}
    entries = []
    for block, reason in sorted(keys):
        # A message has one reason.
        places = sorted({reason + 8 * chance.choice((0, 1, 5, 25)) for _ in range(3)})
        entries.append(Entry(block, reason, () if reason == SKIPPED else tuple(places)))
    return Settled(floor, tuple(entries))


def record(chance: random.Random) -> records.Record:
    """Of any type."""
    name, longest = text(chance, 0, 64), number(chance, 64)
    return chance.choice(
        (
            greeting(chance, name, longest),
            records.Close(chance.choice(sorted(records.CLOSE_REASONS))),
            records.Bind(chance.randint(0, ALIAS_MAX), text(chance, 1, 255), longest),
            records.Skipped(number(chance) | 0x20, chance.randbytes(chance.choice((0, 1, 100)))),
        )
    )


def greeting(chance: random.Random, name: str, longest: int) -> records.Greeting:
    """Any node's."""
    one, two, three = chance.randrange(2), chance.randrange(256), chance.randint(1, 255)
    return records.Greeting(chance.randbytes(16), name, text(chance, 0, 64), one, two, three, chance.randbytes(32), longest)


def head(chance: random.Random, best_effort: bool) -> Head:
    """Of a message or an answer."""
    if chance.random() < 0.2:
        return Head(reply_to=number(chance))
    name = text(chance, 1, 255) if chance.random() < 0.5 else None
    made = Head(chance.randint(0, ALIAS_MAX), name)
    kind = chance.randrange(3 if best_effort else 5)
    if kind == 1:
        return Head(made.alias, name, request=number(chance))
    if kind > 2:
        return Head(made.alias, name, sequence=number(chance), latest=kind == 4)
    return made


def pieces(chance: random.Random, best_effort: bool) -> tuple[Piece, ...]:
    """Of one block."""
    made: list[Piece] = []
    wholes = [Whole(head(chance, best_effort), chance.randbytes(chance.choice((0, 1, 9, 70)))) for _ in range(chance.randint(0, 4))]
    body = chance.randbytes(chance.choice((1, 20, 80)))
    if chance.random() < 0.3:
        offset = number(chance, 30) + 1
        complete = chance.random() < 0.5 or wholes
        length = offset + len(body) + (0 if complete else number(chance, 20) + 1)
        later = Later(number(chance, 12) + 1, offset, length, body)
        if best_effort:
            return (*wholes, later)
        made.append(later)
        if not complete:
            return tuple(made)
    made += wholes
    end = chance.random()
    if end < 0.3:
        beginning = head(chance, best_effort)
        while best_effort and beginning.reply_to is not None:
            beginning = head(chance, best_effort)
        made.append(First(beginning, len(body) + number(chance, 20) + 1, body, number(chance) if best_effort else None))
    elif end < 0.4 and not best_effort:
        made.append(messages.Padding(chance.choice((0, 1, 30))))
    return tuple(made)


def frame(chance: random.Random) -> Frame:
    """Any frame that may stand anywhere in a row."""
    alias = chance.randint(0, ALIAS_MAX)
    match chance.randrange(9):
        case 8:
            return chance.choice((Challenge, Response))(chance.randbytes(8))
        case 0:
            return Padding()
        case 1:
            return Ping()
        case 2:
            return ack(chance)
        case 3:
            return settled(chance)
        case 4:
            return Credit(alias, number(chance), number(chance), chance.randrange(SKIPPED))
        case 5:
            return Blocked(alias, number(chance))
        case 6:
            return Told(record(chance))
    return skip(chance)


def skip(chance: random.Random) -> Skip:
    """With blocks and without."""
    runs = tuple((chance.randint(0, ALIAS_MAX), number(chance, 40), number(chance, 20) + 1) for _ in range(chance.randint(1, 3)))
    if chance.random() < 0.3:
        return Skip(0, 0, 0, runs)
    first = number(chance, 40)
    return Skip(first, number(chance, 10) + 1, chance.randint(0, min(first, 9)), runs)


def harmless_row(chance: random.Random) -> tuple[Frame, ...]:
    """What a session survives that hears it first: nothing in it presumes that anything was said before."""
    made: list[Frame] = []
    for _ in range(chance.choice((0, 1, 1, 2))):
        kinds = (Padding(), Ping(), Told(records.Skipped(0x20, chance.randbytes(3))), Skip(chance.randint(0, 99), 1, 0), _bind(chance))
        made.append(chance.choice(kinds))
    best_effort = chance.random() < 0.4
    named = tuple(_named(piece) for piece in pieces(chance, best_effort))
    return (*made, BestEffort(named) if best_effort else Block(chance.randint(4096, 9999), named))


def _bind(chance: random.Random) -> Told:
    return Told(records.Bind(chance.randint(0, ALIAS_MAX), "".join(chance.choices("abc.", k=9)), number(chance, 16)))


def _named(piece: Piece) -> Piece:
    match piece:
        case Whole(made, body) if made.alias is not None:
            return Whole(_with_name(made), body)
        case First(made, length, body, joined) if made.alias is not None:
            return First(_with_name(made), min(length, len(body) + 999), body, joined)
        case First(made, length, body, joined):
            return First(made, min(length, len(body) + 999), body, joined)
        case Later(origin, offset, length, body):
            offset = min(offset, 999)
            return Later(origin, offset, offset + len(body) + min(999, max(0, length - len(body) - offset)), body)
    return piece


def _with_name(made: Head) -> Head:
    sequence = None if made.sequence is None else made.sequence % 1000
    return Head(made.alias, f"flow.{made.alias}", made.request, None, sequence, made.latest)


def last(chance: random.Random) -> Frame:
    """Any frame that runs to the end of the row."""
    if chance.random() < 0.5:
        return Block(number(chance) | 1 << 13, pieces(chance, False))
    if chance.random() < 0.2:
        offset = number(chance, 10)
        return BlockPart(number(chance), offset, offset + 10 + number(chance, 10), chance.randbytes(chance.randint(1, 9)))
    return BestEffort(pieces(chance, True))


def row(chance: random.Random) -> tuple[Frame, ...]:
    """What one datagram may hold."""
    made = [frame(chance) for _ in range(chance.choice((0, 1, 1, 2, 4)))]
    if chance.random() < 0.5:
        made.append(last(chance))
    return tuple(made)


def mutated(chance: random.Random, data: bytes) -> bytes:
    """`data` with one or two things changed, now and then nothing."""
    out = bytearray(data)
    for _ in range(chance.randint(0, 2)):
        at = chance.randrange(len(out) + 1)
        match chance.randrange(5):
            case 0 if out:
                out[at % len(out)] ^= 1 << chance.randrange(8)
            case 1 if out:
                out[at % len(out)] = chance.choice((0, 1, 3, 8, 0x3F, 0x40, 0x7F, 0x80, 0xC0, 0xFF))
            case 2:
                del out[at:]
            case 3:
                out[at:at] = chance.randbytes(chance.choice((1, 1, 2, 8)))
            case 4:
                del out[at : at + 1]
    return bytes(out)
