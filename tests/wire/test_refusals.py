"""Goal: what the page forbids is refused, and its nearest permitted neighbour is not.

Each row names a section of the page and quotes the sentence that forbids; the test looks the sentence up.
"""

from __future__ import annotations

import unittest
from dataclasses import dataclass
from typing import Callable

import page
from cubed_wire import frames, header, identity, messages, ranges, records, varints
from cubed_wire.cursor import Cursor, Malformed
from cubed_wire.settled import Settled

Reader = Callable[[bytes], object]


@dataclass(frozen=True)
class Rule:
    """A sentence of the page, and what it refuses; `accepted` is as near to it as what is allowed gets."""

    section: str
    sentence: str
    reader: Reader
    refused: tuple[bytes, ...]
    accepted: tuple[bytes, ...]


def field(reader: Callable[[Cursor], object]) -> Reader:
    """A reader of something within a datagram, here alone in it."""

    def read(data: bytes) -> object:
        cursor = Cursor(data)
        value = reader(cursor)
        if cursor.left():
            raise AssertionError("the row has bytes left over")
        return value

    return read


def h(text: str) -> bytes:
    """Bytes from hex."""
    return bytes.fromhex(text.replace(" ", ""))


def lane(first: str, flags: str = "00", tail: int = 16) -> bytes:
    """A lane datagram with nothing but a tag."""
    return h(first + "05" + "04030201" + "03" + flags + "0201000000000000") + bytes(tail)


def whole(flags: int, fields: str, body: str = "0161") -> bytes:
    """A message of one byte."""
    return bytes([flags]) + h(fields + body)


ROW: Reader = frames.decode_row
BLOCK: Reader = messages.decode
VARINT = field(varints.read)
RECORD = field(records.decode)
SETTLED = field(Settled.decode)
ACK = field(ranges.Ack.decode)

GREETING_BODY = records.Greeting(bytes(16), "n" * 64, 1, bytes(32), 1).body()
LONG_NAME = records.Greeting(bytes(16), "n" * 65, 1, bytes(32), 1).body()


def record(kind: int, body: bytes) -> bytes:
    """A record's type, length and body."""
    return varints.write(kind) + varints.write(len(body)) + body


FORMS = "form 2, part    flags (= 02) | origin v | offset v | length of the whole message v | body, to its end or the end of the block"
PADS = "form 3, padding flags (= 03) | zeros to the end of the block"
FLAGS = "flags (1)       bits 0-1 form, bit 2 NAMED, bit 3 REQUEST, bit 4 REPLY, bit 5 SEQUENCE, bit 6 LATEST, bit 7 zero"
SHORTEST = (
    "Numbers are variable-length integers of RFC 9000 section 16 (below: *v*), and only the shortest form of each is accepted."
)
POSTCARD = "accepted only if encoding them again gives the same bytes, and at most 1,024 bytes long."
LAST_BYTE = "(bit *i* of byte *j* is place 8*j*+*i*; the last byte is not zero)"

RULES = [
    Rule(
        "Names",
        "56 characters `a-z2-7`. No other spelling is read.",
        lambda text: identity.parse(text.decode()),
        tuple(
            wrong.encode()
            for text in [identity.text(bytes([7]) * 32)]
            for wrong in (text.upper(), text[:-1], text + "a", "b" + text[1:], text[:-1] + "1", text[:-1] + "=", " " + text[1:])
        ),
        (identity.text(bytes([7]) * 32).encode(),),
    ),
    Rule(
        "Datagrams",
        "*kind*: 01 HELLO, 02 REPLY, 03 FINISH, 04 COOKIE.",
        header.HandshakeHeader.decode,
        (h("00" + "00" * 6 + "01" + "00" * 8), h("05" + "00" * 6 + "01" + "00" * 8), h("01" + "00" * 6 + "01" + "00" * 7)),
        (h("01" + "00" * 6 + "01" + "00" * 8), h("04" + "ff" * 6 + "01" + "ff" * 8)),
    ),
    Rule(
        "Datagrams",
        "*version*: of this layout.",
        header.HandshakeHeader.decode,
        (h("01" + "00" * 6 + "02" + "00" * 8), h("01" + "00" * 6 + "00" + "00" * 8)),
        (h("01" + "00" * 6 + "01" + "00" * 8),),
    ),
    Rule(
        "Lane datagram",
        "*kind*: 40, or 41 when the key phase bit is set.",
        header.LaneHeader.decode,
        (lane("42"), lane("3f"), lane("05")),
        (lane("40"),),
    ),
    Rule(
        "Lane datagram",
        "*flags*: bit 0 asks for an acknowledgement at the end of the receiver's turn; the other bits are zero.",
        header.LaneHeader.decode,
        tuple(lane("40", f"{1 << bit:02x}") for bit in range(1, 8)),
        (lane("40", "00"), lane("40", "01")),
    ),
    Rule(
        "RESTARTED",
        "*tag* the first 8 bytes of its tag.",
        header.Restarted.decode,
        (h("05030403020105029aebc998cf7c0aa5"), h("05030403020105019aebc998cf7c0a"), h("05030403020105019aebc998cf7c0aa500")),
        (h("05030403020105019aebc998cf7c0aa5"),),
    ),
    Rule(
        "Frames",
        SHORTEST,
        VARINT,
        (h("4000"), h("403f"), h("80000040"), h("80003fff"), h("c000000000000000"), h("c00000003fffffff"), h("40"), h("c0"), b""),
        (h("3f"), h("4040"), h("7fff"), h("80004000"), h("bfffffff"), h("c000000040000000"), h("ff" * 8)),
    ),
    Rule(
        "Frames",
        "An unknown frame type ends the session.",
        ROW,
        tuple(bytes([kind]) + bytes(20) for kind in (*range(0x0D, 0x40), 0x40, 0x80, 0xFF)),
        (h("00"), h("01"), h("0001"), b""),
    ),
    Rule(
        "Frames",
        SHORTEST,
        ROW,
        (h("0440030000 00"), h("0540030a"), h("0640020101"), h("08400000"), h("0700000040 00")),
        (h("0403000000"), h("05030a"), h("06020101"), h("0800"), h("0700000000")),
    ),
    Rule(
        "Frames",
        "largest v, delay in us v, range count v, first range v, then (gap v, length v) each: RFC 9000 section 19.3.1",
        ACK,
        (h("0900000a"), h("0900010003 05"), h("0900010008 00"), h("0900010003"), h("0900")),
        (h("09000009"), h("090001000304"), h("0900010007 00")),
    ),
    Rule(
        "Frames",
        "A receiver skips unknown types from 20 up and ends the session on unknown types below.",
        RECORD,
        tuple(record(kind, b"\0") for kind in (0, *range(4, 0x20))),
        (record(0x20, b""), record(0x3F, b"abc"), record(0x40, b"abc"), record(1 << 40, b"abc")),
    ),
    Rule(
        "Frames",
        POSTCARD,
        RECORD,
        (
            record(3, h("8300 01 61 05")),
            record(3, h("03 8100 61 05")),
            record(3, h("03 01 61 8500")),
            record(3, h("03 01 61 05 00")),
            record(3, h("03 01 61")),
            record(3, h("03 01 ff 05")),
            record(3, h("03 01 61 ffffffffffffffffff02")),
            record(3, h("ffffffff10 01 61 05")),
            record(2, h("0100")),
            record(2, b""),
            record(1, GREETING_BODY + b"\0"),
            record(1, GREETING_BODY[:-1]),
        ),
        (record(3, h("03 01 61 05")), record(3, h("03 01 61 ffffffffffffffffff01")), record(2, h("01")), record(1, GREETING_BODY)),
    ),
    Rule("Frames", POSTCARD, RECORD, (record(0x20, bytes(1025)),), (record(0x20, bytes(1024)),)),
    Rule(
        "Frames",
        "node name (string, at most 64 bytes)",
        RECORD,
        (record(1, LONG_NAME),),
        (record(1, GREETING_BODY),),
    ),
    Rule(
        "Messages",
        FLAGS,
        BLOCK,
        (whole(0x80, "00"),),
        (whole(0x00, "00"), whole(0x04, "000161"), whole(0x08, "0007"), whole(0x10, "07"), whole(0x20, "0005"), whole(0x60, "0005")),
    ),
    Rule(
        "Messages",
        "*alias*: the sender's number for a flow, below 4,096",
        BLOCK,
        (whole(0x00, "5000"), whole(0x00, "80010000")),
        (whole(0x00, "4fff"), whole(0x10, "5000")),
    ),
    Rule(
        "Messages",
        "the number of the request stands in the alias's place, and all other bits but the form are clear.",
        BLOCK,
        (whole(0x14, "070161"), whole(0x18, "0707"), whole(0x30, "0705"), whole(0x50, "07")),
        (whole(0x10, "07"),),
    ),
    Rule(
        "Messages",
        "SEQUENCE: the message has a number in its flow; REQUEST is then clear",
        BLOCK,
        (whole(0x28, "000705"),),
        (whole(0x20, "0005"), whole(0x24, "00016105")),
    ),
    Rule("Messages", "LATEST alone is malformed.", BLOCK, (whole(0x40, "00"), whole(0x40, "0005")), (whole(0x60, "0005"),)),
    Rule(
        "Messages",
        "REQUEST is then clear, and it never stands in BEST_EFFORT.",
        ROW,
        (h("09") + whole(0x20, "0005"), h("09") + whole(0x60, "0005")),
        (h("0800") + whole(0x20, "0005"), h("09") + whole(0x00, "00")),
    ),
    Rule(
        "Messages",
        "[name length v | name]",
        BLOCK,
        (whole(0x04, "0002"), h("04 00 05 6161"), h("04 00 4001 61 01 61")),
        (whole(0x04, "000161"),),
    ),
    Rule(
        "Messages",
        "form 0, whole   flags | alias v or request v | [name length v | name] | [request v] | [sequence v] | length v | body",
        BLOCK,
        (h("000002 61"), h("0000"), h("00"), h("000040 01 61")),
        (h("0000 01 61"), h("0000 00"), h("0000 00 0000 00")),
    ),
    Rule(
        "Messages",
        "where length is that of the whole message; the body's beginning runs to the end of the block",
        BLOCK,
        (h("010003 616161"), h("010003 61616161"), h("0100 00")),
        (h("010003 6161"), h("010003")),
    ),
    Rule("Messages", FORMS, BLOCK, (h("06 01 02 09 61"), h("12 01 02 09 61"), h("82 01 02 09 61")), (h("02 01 02 09 61"),)),
    Rule("Messages", FORMS, BLOCK, (h("02 01 09 09"), h("02 01 0a 09"), h("02 00 02 09 61")), (h("02 01 08 09 61"),)),
    Rule(
        "Messages",
        "A *part* stands first in its block.",
        BLOCK,
        (h("0000 01 61") + h("02 01 08 09 61"), h("02 01 08 09 61") * 2),
        (h("02 01 08 09 61") + h("0000 01 61"),),
    ),
    Rule("Messages", PADS, BLOCK, (h("0300 01"), h("0700"), h("8300"), h("03") + h("0000 01 61")), (h("03"), h("030000"))),
    Rule("Messages", LAST_BYTE, SETTLED, (h("0a01 06 01 01 00"), h("0a01 06 01 02 0100")), (h("0a01 06 01 01 01"),)),
    Rule(
        "Messages",
        "a SETTLED entry with reason 8 and an empty bitmap",
        SETTLED,
        (h("0a01 06 01 00"), h("0a01 06 08 01 01")),
        (h("0a01 06 08 00"),),
    ),
    Rule(
        "Messages",
        "Entries ascend by block, then reason.",
        SETTLED,
        (h("0a02 03 01 01 01 04 01 01 01"), h("0a02 03 02 01 01 03 01 01 01"), h("0a02 03 01 01 01 03 01 01 01")),
        (h("0a02 04 01 01 01 03 01 01 01"), h("0a02 03 01 01 01 03 02 01 01")),
    ),
    Rule(
        "Messages",
        "all messages that end in blocks below *floor* were accepted, except those in the entries.",
        SETTLED,
        (h("0a01 00 01 01 01"), h("0a01 0b 01 01 01")),
        (h("0a01 01 01 01 01"), h("0a01 0a 01 01 01")),
    ),
    Rule(
        "Messages",
        "Reasons: 1 no such flow, 2 denied, 3 too large, 4 queue full, 5 takes no requests, 6 closing, 7 superseded, 8 skipped",
        SETTLED,
        (h("0a01 01 00 01 01"), h("0a01 01 09 01 01")),
        (h("0a01 01 01 01 01"), h("0a01 01 07 01 01")),
    ),
    Rule(
        "Frames",
        "alias v, limit v, longest message v, refusal (1, zero for none)",
        ROW,
        (h("0403050509"), h("04030505ff"), h("04030505"), h("045000050500")),
        (h("0403050500"), h("0403050508"), h("044fff050500")),
    ),
    Rule(
        "Messages",
        "Without blocks (the first three fields zero), SKIP only tells of sequences that were never sent.",
        ROW,
        (h("07010000 00"), h("07000001 00"), h("0701020200")),
        (h("07000000 01 030501"), h("0702010200")),
    ),
]


class Refusals(unittest.TestCase):
    """Rule by rule."""

    def test_every_sentence_stands_on_the_page(self) -> None:
        for rule in RULES:
            with self.subTest(rule.sentence):
                self.assertTrue(page.says(rule.section, rule.sentence))

    def test_what_the_page_forbids_is_refused(self) -> None:
        for rule in RULES:
            for data in rule.refused:
                with self.subTest(rule.sentence, data=data.hex()), self.assertRaises(Malformed):
                    rule.reader(data)

    def test_what_it_allows_beside_that_is_read(self) -> None:
        for rule in RULES:
            for data in rule.accepted:
                with self.subTest(rule.sentence, data=data.hex()):
                    rule.reader(data)


if __name__ == "__main__":
    unittest.main()
