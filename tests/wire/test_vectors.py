"""Goal: every vector of the page is built from the page's description of it, and read back to the same bytes."""

from __future__ import annotations

import unittest

import page
from cubed_wire import frames, identity, messages
from cubed_wire.cookie import CookieSecret
from cubed_wire.cursor import Malformed
from cubed_wire.frames import BestEffort, Block, Blocked, BlockPart, Challenge, Credit, Frame, Padding, Ping, Response, Skip, Told
from cubed_wire.header import LaneHeader, Restarted
from cubed_wire.keys import ChannelKeys, LaneKeys, Role, Suite, context
from cubed_wire.messages import Cutter, First, Head, Later, Whole
from cubed_wire.ranges import Ack
from cubed_wire.records import Bind, Close, Greeting
from cubed_wire.settled import Entry, Settled

MIB = 1 << 20
DIAL_ID = b"dial id."
SEVENS = bytes([7]) * 32
LANE_SECRET = bytes([0x42]) * 32
SUITES = {
    "AES-128-GCM": Suite.AES_128_GCM,
    "AES-256-GCM": Suite.AES_256_GCM,
    "ChaCha20-Poly1305": Suite.CHACHA20_POLY1305,
}

# The vector's label, what the page says of it, and that said in Python. The words are looked up on the page, so neither drifts alone.
FRAMES: list[tuple[str, str, Frame]] = [
    (
        "GREETING",
        "GREETING: incarnation 16 bytes 11, name `alice`, role `sensor`, mode 1, kind 7, 1 shard, salt 32 bytes 22, longest message "
        "64 MiB.",
        Told(Greeting(bytes([0x11]) * 16, "alice", "sensor", 1, 7, 1, bytes([0x22]) * 32, 64 * MIB)),
    ),
    ("CLOSE", "CLOSE: not admitted;", Told(Close(1))),
    ("PENDING", "CLOSE: not admitted; its key waits (PENDING);", Told(Close(3))),
    ("REJECTED", "its key waits (PENDING); rejected (REJECTED).", Told(Close(4))),
    ("BIND", "BIND: alias 3, `orders.new`, 5,000,000 wanted.", Told(Bind(3, "orders.new", 5_000_000))),
    ("ACK", "ACK: numbers 0 to 2, 5, 6 and 9, delay 100 us.", Ack.of({0, 1, 2, 5, 6, 9}, 100)),
    (
        "SETTLED",
        "SETTLED: floor 10; messages 0 and 9 of block 4 have no such flow, message 1 of block 7 is denied.",
        Settled(10, (Entry(4, 1, (0, 9)), Entry(7, 2, (1,)))),
    ),
    ("SKIPPED", "SKIPPED: SETTLED with floor 10, block 4 was skipped.", Settled(10, (Entry(4, 8, ()),))),
    (
        "SKIP",
        "SKIP: blocks 7 and 8 of a message that began in block 6, with sequences 5 and 6 of alias 3.",
        Skip(7, 2, 7 - 6, ((3, 5, 2),)),
    ),
    ("CREDIT", "CREDIT: alias 3, limit 4 MiB, longest message 64 MiB.", Credit(3, 4 * MIB, 64 * MIB)),
    ("BLOCKED", "BLOCKED: alias 3, 5,000,000 wanted.", Blocked(3, 5_000_000)),
    ("CHALLENGE", "CHALLENGE and RESPONSE: the bytes `who's it`.", Challenge(b"who's it")),
    ("RESPONSE", "CHALLENGE and RESPONSE: the bytes `who's it`.", Response(b"who's it")),
]
NOT_FRAMES = {"BLOCK 0", "BLOCK 1", "PART", "sequences", "datagram", "RESTARTED", *SUITES}


class Names(unittest.TestCase):
    """The table of names."""

    def test_text_and_fingerprint_of_a_key(self) -> None:
        rows = page.rows()
        self.assertEqual(set(rows), {"text of the key of 32 bytes 07", "its fingerprint"})
        text = rows["text of the key of 32 bytes 07"]
        self.assertEqual(identity.text(SEVENS), text)
        self.assertEqual(identity.parse(text), SEVENS)
        self.assertEqual(identity.fingerprint(SEVENS), rows["its fingerprint"])


class Handshakes(unittest.TestCase):
    """What precedes lanes."""

    def test_first_flight(self) -> None:
        self.assertTrue(
            page.says(
                "Vectors",
                "First flight: dialled key 32 bytes 07, channel `orders`, from the dialler, dial id `dial id.`, bound bytes "
                "`bound`, payload `hello, first flight`; nonce, ciphertext, tag:",
            )
        )
        sealed = page.bare()[0]
        keys = ChannelKeys.of(SEVENS, "orders")
        self.assertEqual(keys.seal(Role.DIALLER, DIAL_ID, b"bound", b"hello, first flight"), sealed)
        self.assertEqual(keys.open(Role.DIALLER, DIAL_ID, b"bound", sealed), b"hello, first flight")

    def test_cookie(self) -> None:
        self.assertTrue(
            page.says(
                "Vectors",
                "Cookie: secret 32 bytes 07, 1200.000000005 s (epoch 10), 192.0.2.7 port 7530, dial id `dial id.`, hello hash 32 "
                "bytes 03:",
            )
        )
        secret, hello = CookieSecret(SEVENS), bytes([3]) * 32
        cookie = secret.make(1200.000000005, ("192.0.2.7", 7530), DIAL_ID, hello)
        self.assertEqual(cookie, page.bare()[1])
        self.assertTrue(secret.accepts(cookie, 1200.0, ("192.0.2.7", 7530), DIAL_ID, hello))

    def test_context(self) -> None:
        self.assertTrue(
            page.says(
                "Vectors",
                "Context: dialler's key 32 bytes 01, responder's 32 bytes 02, indexes 3 and 4, dial id `dial id.`, channel "
                "`orders`:",
            )
        )
        made = context(bytes([1]) * 32, bytes([2]) * 32, (3, 4), DIAL_ID, "orders")
        self.assertEqual(made, page.bare()[2])

    def test_lanes_of_each_suite(self) -> None:
        self.assertTrue(
            page.says(
                "Vectors",
                "Lanes: association secret 32 bytes 42, from the dialler's shard 3 to the responder's shard 5; iv, then header "
                "`header, 16 bytes` and payload `hello, lane` sealed as packet 0102030405060708 (hex), ciphertext and tag:",
            )
        )
        for label, suite in SUITES.items():
            with self.subTest(label):
                iv, sealed = page.labelled()[label]
                keys = LaneKeys.of(LANE_SECRET, suite, Role.DIALLER, (3, 5))
                self.assertEqual(keys.iv, iv)
                self.assertEqual(keys.seal(0x0102030405060708, b"header, 16 bytes", b"hello, lane"), sealed)
                self.assertEqual(keys.open(0x0102030405060708, b"header, 16 bytes", sealed), b"hello, lane")


class Frames(unittest.TestCase):
    """What stands behind the header."""

    def test_frames_as_described(self) -> None:
        for label, words, frame in FRAMES:
            with self.subTest(label):
                self.assertTrue(page.says("Vectors", words), "the page says something else")
                (vector,) = page.labelled()[label]
                self.assertEqual(frames.encode(frame), vector)
                self.assertEqual(frames.decode_row(vector), (frame,))

    def test_blocks_of_messages(self) -> None:
        self.assertTrue(
            page.says(
                "Vectors",
                "Blocks of at most 400 B, counting type and 4 bytes of number, with PADDING in front if they are full: to alias 0 = "
                "`orders.new`, the message `first`, the request `?` under number 7, and 400 bytes 55 that go on in block 1.",
            )
        )
        long = bytes([0x55]) * 400
        cutter = Cutter(400 - 1 - 4)
        cutter.add(b"first", 0, "orders.new")
        cutter.add(b"?", 0, "orders.new", request=7)
        cutter.add(long, 0, "orders.new")
        cutter.close()
        rows = [frames.encode(Block(number, messages.decode(content))) for number, content in enumerate(cutter.blocks)]
        rows[0] = bytes(400 - len(rows[0])) + rows[0]
        vectors = [page.labelled()[f"BLOCK {number}"][0] for number in range(2)]
        self.assertEqual(rows, vectors)
        named, plain, asked = (Head(0, "orders.new"), Head(0), Head(0, request=7))
        (*padding, first), (second,) = map(frames.decode_row, vectors)
        self.assertEqual(padding, [Padding()] * 3)
        beginning = First(plain, 400, long[:367])
        self.assertEqual(first, Block(0, (Whole(named, b"first"), Whole(asked, b"?"), beginning)))
        self.assertEqual(second, Block(1, (Later(1, 367, 400, long[367:]),)))

    def test_sequences(self) -> None:
        self.assertTrue(
            page.says(
                "Vectors",
                "Sequences: the heads and bodies `a` of an ordered message of alias 0 with sequence 5, and of a value with stamp 9, "
                "neither named.",
            )
        )
        (vector,) = page.labelled()["sequences"]
        pieces = (Whole(Head(0, sequence=5), b"a"), Whole(Head(0, sequence=9, latest=True), b"a"))
        self.assertEqual(messages.encode(pieces), vector)
        self.assertEqual(messages.decode(vector), pieces)

    def test_datagram_and_the_answer_to_it(self) -> None:
        self.assertTrue(
            page.says(
                "Vectors",
                "The datagram: the AES-128-GCM lane above, index 01020304 (hex), acknowledgement wanted, packet number 258, one PING. "
                "RESTARTED: the answer to it of a node that knows no index 01020304.",
            )
        )
        (vector,), (notice,) = page.labelled()["datagram"], page.labelled()["RESTARTED"]
        keys = LaneKeys.of(LANE_SECRET, Suite.AES_128_GCM, Role.DIALLER, (3, 5))
        header = LaneHeader(to=5, index=0x01020304, sender=3, number=258, acknowledge=True)
        self.assertEqual(keys.datagram(header, frames.encode(Ping())), vector)
        self.assertEqual(LaneHeader.decode(vector), header)
        self.assertEqual(frames.decode_row(keys.frames_of(vector)), (Ping(),))
        self.assertEqual(Restarted.answer(vector).encode(), notice)
        self.assertEqual(Restarted.decode(notice), Restarted(to=3, index=0x01020304, sender=5, tag=vector[-16:-8]))


class Parts(unittest.TestCase):
    """A part behind padding: two frames."""

    def test_part(self) -> None:
        words = "PART: one byte of padding, then the 8 bytes `piece of` of block 5, whose content is 1,400 bytes long, from byte 700 on."
        self.assertTrue(page.says("Vectors", words))
        (vector,) = page.labelled()["PART"]
        row = (frames.Padding(), BlockPart(5, 700, 1_400, b"piece of"))
        self.assertEqual(frames.encode_row(row), vector)
        self.assertEqual(frames.decode_row(vector), row)
        for offset, total, piece in ((0, 8, b"piece of"), (0, 8, b""), (5, 12, b"piece of")):
            wrong = frames.encode(BlockPart(5, offset, total, piece))
            with self.assertRaises(Malformed):
                frames.decode_row(wrong)


class Everything(unittest.TestCase):
    """The page and the tests have the same vectors."""

    def test_no_vector_is_left_out(self) -> None:
        self.assertEqual(set(page.labelled()), NOT_FRAMES | {label for label, _, _ in FRAMES})
        self.assertEqual(len(page.bare()), 3)
        self.assertEqual(page.lines(), len(page.bare()) + len(page.labelled()))

    def test_every_type_on_the_page_has_a_vector_or_a_round_trip(self) -> None:
        """Best effort has no vector of its own: its pieces are read back in both forms."""
        whole, first, later = Whole(Head(4095, "a.b"), b""), First(Head(1), 9, b"ab", number=77), Later(77, 2, 9, b"cdefgh")
        for row in ((BestEffort((whole, first)),), (BestEffort((whole, later)),)):
            self.assertEqual(frames.decode_row(frames.encode_row(row)), row)


if __name__ == "__main__":
    unittest.main()
