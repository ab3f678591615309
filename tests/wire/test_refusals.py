"""Goal: what the page forbids is refused, and its nearest permitted neighbour is not.

Each row names a section of the page and quotes the sentence that forbids; the test looks the sentence up.
"""

from __future__ import annotations

import unittest
from dataclasses import dataclass
from typing import Callable

import page
from cubed_wire import frames, header, identity, messages, postcard, ranges, records, varints
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

def greeting(name: str = "n" * 64, role: str = "r" * 64, mode: int = 1, shards: int = 1) -> bytes:
    """A greeting's body."""
    return records.Greeting(bytes(16), name, role, mode, 255, shards, bytes(32), 1).body()


GREETING_BODY = greeting()


def record(kind: int, body: bytes) -> bytes:
    """A record's type, length and body."""
    return varints.write(kind) + varints.write(len(body)) + body


def counted(text: bytes) -> bytes:
    """A string of a record."""
    return postcard.write_number(len(text)) + text


def bind(name: bytes) -> bytes:
    """The row of a BIND."""
    return b"\x06" + record(3, b"\0" + counted(name) + b"\5")


def named(name: bytes) -> bytes:
    """The row of a block with an empty message to a flow."""
    return h("0800 0400") + varints.write(len(name)) + name + b"\0"


FORMS = "form 2, later   flags (= 02) | origin v | offset v | length of the whole message v | body, to its end or the end of the block"
PADS = "form 3, padding flags (= 03) | zeros to the end of the block"
FLAGS = "flags (1)       bits 0-1 form, bit 2 NAMED, bit 3 REQUEST, bit 4 REPLY, bit 5 SEQUENCE, bit 6 LATEST, bit 7 zero"
SHORTEST = (
    "Numbers are variable-length integers of RFC 9000 section 16 (below: *v*), and only the shortest form of each is accepted."
)
POSTCARD = "accepted only if encoding them again gives the same bytes, and at most 1,024 bytes long."
LAST_BYTE = "(bit *i* of byte *j* is place 8*j*+*i*; the last byte is not zero, and there are 1 to 8,192 of them, but for reason 8)."

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
        (h("00" + "00" * 6 + "01" + "00" * 1193), h("05" + "00" * 6 + "01" + "00" * 8), h("02" + "00" * 6 + "01" + "00" * 7)),
        (h("01" + "00" * 6 + "01" + "00" * 1192), h("04" + "ff" * 6 + "01" + "ff" * 8)),
    ),
    Rule(
        "Datagrams",
        "HELLO, always 1200 bytes",
        header.HandshakeHeader.decode,
        (h("01" + "00" * 6 + "01" + "00" * 1191), h("01" + "00" * 6 + "01" + "00" * 1193)),
        (h("01" + "00" * 6 + "01" + "00" * 1192),),
    ),
    Rule(
        "Datagrams",
        "No datagram is longer than 1200 bytes, so no answer is longer than its question.",
        header.HandshakeHeader.decode,
        (h("02" + "00" * 6 + "01" + "00" * 1193), h("03" + "00" * 6 + "01" + "00" * 1193)),
        (h("02" + "00" * 6 + "01" + "00" * 1192), h("03" + "00" * 6 + "01" + "00" * 1192)),
    ),
    Rule(
        "RESTARTED",
        "A node answers so a lane datagram of at least 32 bytes",
        header.Restarted.answer,
        (lane("40", tail=15), lane("05"), lane("3f")),
        (lane("40", tail=16), lane("41")),
    ),
    Rule(
        "Datagrams",
        "*version*: of this layout.",
        header.HandshakeHeader.decode,
        (h("02" + "00" * 6 + "02" + "00" * 8), h("02" + "00" * 6 + "00" + "00" * 8)),
        (h("02" + "00" * 6 + "01" + "00" * 8),),
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
        "Lane datagram",
        "at most 2^62 - 1: an ACK can name no more, so a header with a\n  larger one is not valid.",
        header.LaneHeader.decode,
        tuple(h("40 05 04030201 03 00") + number.to_bytes(8, "little") + bytes(16) for number in (1 << 62, 1 << 63, (1 << 64) - 1)),
        (h("40 05 04030201 03 00 ffffffffffffff3f") + bytes(16),),
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
        (h("0403000000"), h("05030a"), h("06020101"), h("0800"), h("0700010000")),
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
        "node name (string, at most 64 bytes), role (string, at most 64 bytes)",
        RECORD,
        (record(1, greeting(name="n" * 65)), record(1, greeting(role="r" * 65)), record(1, greeting(name="\u00e9" * 33))),
        (record(1, GREETING_BODY), record(1, greeting(name="", role="")), record(1, greeting(name="\u00e9" * 32))),
    ),
    Rule(
        "Frames",
        "*mode* a byte of flags (bit 0 MAIN: a meeting point of its channel; the others are zero)",
        RECORD,
        tuple(record(1, greeting(mode=1 << bit)) for bit in range(1, 8)),
        (record(1, greeting(mode=0)), record(1, greeting(mode=1))),
    ),
    Rule("Frames", "shards (u8, not 0)", RECORD, (record(1, greeting(shards=0)),), (record(1, greeting(shards=255)),)),
    Rule(
        "Frames",
        "2 the receiver broke the protocol, 3 its key waits for an operator, 4 it is rejected",
        RECORD,
        (record(2, b"\5"), record(2, b"\xff")),
        tuple(record(2, bytes([reason])) for reason in range(5)),
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
        "*alias*: the sender's number for a flow, below 4,096 wherever it stands",
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
        (h("010003 616161"), h("010003 61616161"), h("0100 00"), h("0100 05 0000000000")),
        (h("010003 6161"), h("01000361")),
    ),
    Rule("Messages", FORMS, BLOCK, (h("06 01 02 09 61"), h("12 01 02 09 61"), h("82 01 02 09 61")), (h("02 01 02 09 61"),)),
    Rule(
        "Messages",
        "A *later fragment* stands first in its block.",
        BLOCK,
        (h("0000 01 61") + h("02 01 08 09 61"), h("02 01 08 09 61") * 2),
        (h("02 01 08 09 61") + h("0000 01 61"),),
    ),
    Rule("Messages", PADS, BLOCK, (h("0300 01"), h("0700"), h("8300"), h("03") + h("0000 01 61")), (h("03"), h("030000"))),
    Rule(
        "Messages",
        LAST_BYTE,
        SETTLED,
        (h("0a01 06 01 01 00"), h("0a01 06 01 02 0100"), h("0a01 06 01 6001") + bytes(8192) + b"\1"),
        (h("0a01 06 01 01 01"), h("0a01 06 01 6000") + bytes(8191) + b"\1"),
    ),
    Rule(
        "Messages",
        "No message stands in two entries, and a block with reason 8 in no other.",
        SETTLED,
        (h("0a02 03 01 01 03 03 02 01 02"), h("0a03 03 01 01 01 03 02 01 02 03 03 01 05"), h("0a02 03 01 01 02 03 08 00")),
        (h("0a02 03 01 01 05 03 02 01 02"), h("0a02 04 01 01 01 03 02 01 01")),
    ),
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
        (h("0a02 04 01 01 01 03 01 01 01"), h("0a02 03 01 01 01 03 02 01 02")),
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
        "alias v, limit v, longest message v, refusal (1, zero for none, else a reason of SETTLED from 1 to 7)",
        ROW,
        (h("0403050508"), h("04030505ff"), h("04030505")),
        (h("0403050500"), h("0403050507")),
    ),
    Rule(
        "Messages",
        "Without blocks (the first three fields zero), SKIP only tells of sequences that were never sent, of one run at least.",
        ROW,
        (h("07010000 00"), h("07010000 01 030501"), h("07000001 01 030501"), h("07000000 00")),
        (h("07000000 01 030501"), h("07010100 00")),
    ),
    Rule(
        "Messages",
        "No run is empty or goes beyond 2^62 - 1.",
        ROW,
        (h("07010100 01 030500"), h("07010100 01 03 ffffffffffffffff 01"), h("07010100 01 03 fffffffffffffffe 02")),
        (h("07010100 01 030501"), h("07010100 01 03 fffffffffffffffe 01")),
    ),
    Rule(
        "Frames",
        "distance back from the first to the block where their message began v",
        ROW,
        (h("0701010200"),),
        (h("0702010200"), h("0702010000")),
    ),
    Rule(
        "Messages",
        "*alias*: the sender's number for a flow, below 4,096 wherever it stands",
        ROW,
        (h("04 5000 05 05 00"), h("05 5000 05"), h("07010100 01 5000 05 01"), h("06 03 05 8020 01 61 05"), h("09 00 5000 00")),
        (h("04 4fff 05 05 00"), h("05 4fff 05"), h("07010100 01 4fff 05 01"), h("06 03 05 ff1f 01 61 05"), h("09 00 4fff 00")),
    ),
    Rule(
        "Messages",
        "NAMED gives the flow's name, 1 to 255 bytes of UTF-8 as in BIND",
        ROW,
        tuple(row(name) for name in (b"", b"n" * 256, b"\xff", b"\xc3") for row in (bind, named)),
        tuple(row(name) for name in (b"n", b"n" * 255, b"\xc3\xa9") for row in (bind, named)),
    ),
    Rule(
        "Messages",
        "*origin* says how many blocks ago the message began, from 1 to the block's number.",
        ROW,
        (h("0800 02 01 02 09 61"), h("0803 02 04 02 09 61"), h("0800 02 00 02 09 61"), h("0803 02 00 02 09 61")),
        (h("0801 02 01 02 09 61"), h("0803 02 03 02 09 61"), h("09 02 00 02 09 61")),
    ),
    Rule(
        "Messages",
        "Beginnings and later fragments hold a byte of the body at least, in BEST_EFFORT too.",
        ROW,
        (h("0800 01 00 02"), h("0801 02 01 02 09"), h("09 01 00 02 0d"), h("09 01 00 00 0d"), h("09 02 0d 08 09")),
        (h("0800 01 00 02 61"), h("0801 02 01 02 09 61"), h("09 01 00 02 0d 61"), h("09 02 0d 08 09 61"), h("0800 00 00 00")),
    ),
    Rule(
        "Messages",
        "*offset* is above 0 and below *length*.",
        ROW,
        (h("0801 02 01 00 09 61"), h("0801 02 01 09 09 61"), h("0801 02 01 0a 09 61"), h("09 02 01 00 09 61")),
        (h("0801 02 01 01 09 61"), h("0801 02 01 08 09 61"), h("09 02 01 01 09 61")),
    ),
    Rule(
        "Messages",
        "Both run to the end of the datagram, so they stand last in it, and not beyond the end of the message, which a beginning may reach.",
        ROW,
        (h("09 01 00 01 0d 6161"), h("09 02 0d 08 09 6161"), h("09 02 0d 08 09 61 00 00 00")),
        (h("09 01 00 01 0d 61"), h("09 02 0d 08 09 61"), h("09 00 00 00 02 0d 08 09 61")),
    ),
    Rule(
        "Messages",
        "An answer goes there whole only.",
        ROW,
        (h("09 11 07 02 0d 61"),),
        (h("09 10 07 01 61"), h("0800 11 07 02 61"), h("09 01 07 02 0d 61")),
    ),
    Rule(
        "Messages",
        "Content of more than 8,968 bytes, in parts or not, ends the session: no datagram holds it.",
        ROW,
        (h("0800 03") + bytes(8968), h("0a00 01") + varints.write(8969) + b"x", h("0a0001") + varints.write(varints.LARGEST) + b"x"),
        (h("0800 03") + bytes(8967), h("0a00 01") + varints.write(8968) + b"x"),
    ),
    Rule("Messages", "Form 3 is refused.", ROW, (h("09 03"), h("09 00 00 00 03 00")), (h("0800 03"), h("09"))),
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
