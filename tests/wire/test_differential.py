"""Goal: both implementations say the same to the same bytes.

Inputs are random valid fields and frames, most of them damaged. `CUBED_INPUTS` sets how many (20,000), `CUBED_SEED` where to begin.
"""

from __future__ import annotations

import os
import random
import unittest
from collections import Counter
from typing import Callable

import other
import samples
from cubed_wire import frames, header, identity, messages, ranges, records, varints
from cubed_wire.cursor import Cursor, Malformed
from cubed_wire.settled import Settled

INPUTS = int(os.environ.get("CUBED_INPUTS", "20000"))
SEED = int(os.environ.get("CUBED_SEED", "1"))


def _head(cursor: Cursor) -> None:
    flags = cursor.byte()
    if flags & messages.FORM not in (messages.FORM_WHOLE, messages.FORM_FIRST):
        raise Malformed("not a head")
    head, _ = messages.Head.decode(flags, cursor)
    if head.alias is not None and head.alias >> 32:
        raise Malformed("an alias beyond 32 bits")


def _narrow(decode: Callable[[Cursor], frames.Credit | frames.Blocked]) -> Callable[[Cursor], None]:
    """The other's decoder keeps an alias in 32 bits; that it is below 4,096 is looked at later."""

    def read(cursor: Cursor) -> None:
        if decode(cursor).alias >> 32:
            raise Malformed("an alias beyond 32 bits")

    return read


def _header(decode: Callable[[bytes], object]) -> Callable[[Cursor], None]:
    def read(cursor: Cursor) -> None:
        decode(cursor.rest())
        cursor.position = header.HEADER_BYTES

    return read


def _text(cursor: Cursor) -> None:
    try:
        identity.parse(cursor.rest().decode())
    except UnicodeDecodeError:
        raise Malformed("not text") from None


# By the names that the other implementation gives them.
DECODERS: dict[str, Callable[[Cursor], object]] = {
    "lane header": _header(header.LaneHeader.decode),
    "handshake header": _header(header.HandshakeHeader.decode),
    "varint": varints.read,
    "ACK": ranges.Ack.decode,
    "CREDIT": _narrow(frames.decode_credit),
    "BLOCKED": _narrow(frames.decode_blocked),
    "RECORD": records.decode,
    "SETTLED": Settled.decode,
    "head": _head,
    "later fragment": messages.decode_fragment_head,
    "public key text": _text,
}
# The other reads the flags of these before it counts.
# "Limits of a receiver" and "Credit".
BLOCK_WINDOW, UNBOUND_CREDIT_BYTES = 16_384, 65_536
FLAGS_APART = {"head", "later fragment"}


def accepted(data: bytes) -> dict[str, int]:
    """Which decoders here take a beginning of `data`, and how many bytes of it."""
    taken = {}
    for name, decoder in DECODERS.items():
        cursor = Cursor(data)
        try:
            decoder(cursor)
        except Malformed:
            continue
        taken[name] = cursor.position - (name in FLAGS_APART)
    return taken


def question(chance: random.Random) -> bytes:
    """Some field or frame's fields, or a header, or a key's text."""
    match chance.randrange(6):
        case 0:
            data = _some_header(chance)
        case 1:
            data = identity.text(chance.randbytes(32)).encode()
        case 2:
            data = messages.encode(samples.pieces(chance, False))
        case 3:
            data = chance.randbytes(chance.randint(0, 40))
        case _:
            data = frames.encode(samples.frame(chance))[1:]
    return samples.mutated(chance, data) if chance.random() < 0.8 else data


def _some_header(chance: random.Random) -> bytes:
    bytes_ = [chance.randrange(256) for _ in range(3)]
    if chance.random() < 0.5:
        kind = chance.randint(1, 4)
        made = header.HandshakeHeader(kind, bytes_[0], chance.getrandbits(32), bytes_[1], chance.randbytes(8))
        return made.encode() + bytes(header.HELLO_BYTES - header.HEADER_BYTES if kind == header.HELLO else 16)
    lane = header.LaneHeader(bytes_[0], chance.getrandbits(32), bytes_[1], chance.getrandbits(64), bytes_[2] > 99, bytes_[2] > 199)
    return lane.encode() + bytes(16)


def fate_of(data: bytes) -> str | None:
    """What becomes of a session that hears `data` first; none if that takes more knowledge than this package has."""
    cursor, row = Cursor(data), []
    try:
        while cursor.left():
            start = cursor.position
            row.append(frames.decode(cursor))
    except Malformed:
        return None if _is_not_read(data[start:], row) else "closed"
    return "open" if all(map(_presumes_nothing, row)) and _names_agree(row) else None


def _is_not_read(frame: bytes, before: list[frames.Frame]) -> bool:
    """A receiver drops a block beyond its window, or that a SKIP counted as arrived, without reading on."""
    cursor = Cursor(frame)
    try:
        if cursor.byte() != frames.BLOCK:
            return False
        block = varints.read(cursor)
    except Malformed:
        return False
    skips = (skip for skip in before if isinstance(skip, frames.Skip))
    return block >= BLOCK_WINDOW or any(skip.first <= block < skip.first + skip.blocks for skip in skips)


def _presumes_nothing(frame: frames.Frame) -> bool:
    match frame:
        case frames.Padding() | frames.Ping() | frames.Told(records.Skipped()):
            return True
        case frames.Told(records.Bind()):
            return True
        case frames.Skip(first, blocks, _, runs):
            return first + blocks <= BLOCK_WINDOW and not runs
        case frames.Block(block, pieces):
            return block < BLOCK_WINDOW and sum(map(_charge, pieces)) < UNBOUND_CREDIT_BYTES and all(map(_is_short, pieces))
        case frames.BestEffort(pieces):
            return all(map(_is_short, pieces))
    return False


def _charge(piece: messages.Piece) -> int:
    match piece:
        case messages.Whole(_, body):
            return len(body) + 64
        case messages.First(_, length, _) | messages.Later(_, _, length, _):
            return length + 64
    return 0


def _is_short(piece: messages.Piece) -> bool:
    return _charge(piece) < UNBOUND_CREDIT_BYTES


def _names_agree(row: list[frames.Frame]) -> bool:
    """Whether each alias is named at its first use, and has one name."""
    names: dict[int, str] = {}
    for frame in row:
        if isinstance(frame, frames.Told) and isinstance(frame.record, records.Bind):
            heads = [messages.Head(frame.record.alias, frame.record.flow)]
        elif isinstance(frame, frames.Block | frames.BestEffort):
            heads = [piece.head for piece in frame.pieces if isinstance(piece, messages.Whole | messages.First)]
        else:
            continue
        for head in (head for head in heads if head.alias is not None):
            if names.setdefault(head.alias, head.name) is None or head.name not in (None, names[head.alias]):
                return False
    return True


@unittest.skipUnless(other.PATH, "CUBED_WIRE names no program; tests/wire/run builds it where there is a cargo")
class Differential(unittest.TestCase):
    """The other implementation is asked."""

    def test_decoders_accept_and_refuse_alike(self) -> None:
        chance = random.Random(SEED)
        questions = [question(chance) for _ in range(INPUTS)]
        counts: Counter[tuple[str, bool]] = Counter()
        wrong = []
        for data, theirs in zip(questions, other.accepted(questions), strict=True):
            ours = accepted(data)
            counts.update((name, name in ours) for name in DECODERS)
            if ours != theirs:
                wrong.append(f"{data.hex()}: here {ours}, there {theirs}")
        self.assertEqual(wrong[:20], [], f"{len(wrong)} of {len(questions)} differ; CUBED_SEED={SEED}")
        for name in DECODERS:
            self.assertGreater(counts[name, True], INPUTS // 200, f"{name} was hardly ever right")
            self.assertGreater(counts[name, False], INPUTS // 200, f"{name} was hardly ever wrong")

    def test_sessions_end_alike(self) -> None:
        """What is refused here ends a session there; what is allowed here and presumes nothing leaves it as it is."""
        chance, questions, expected = random.Random(SEED), [], []
        while len(questions) < INPUTS // 10:
            data = frames.encode_row(samples.harmless_row(chance))
            data = samples.mutated(chance, data) if chance.random() < 0.7 else data
            if (fate := fate_of(data)) is not None:
                questions.append(data)
                expected.append(fate)
        answers = other.ask("row", questions)
        wrong = [
            f"{data.hex()}: here {ours}, there {theirs}"
            for data, ours, theirs in zip(questions, expected, answers, strict=True)
            if ours != theirs
        ]
        self.assertEqual(wrong[:20], [], f"{len(wrong)} of {len(questions)} differ; CUBED_SEED={SEED}")
        for fate in ("open", "closed"):
            self.assertGreater(expected.count(fate), len(expected) // 5, fate)


if __name__ == "__main__":
    unittest.main()
