"""Goal: rows of frames and cut messages survive the way, whatever they hold and in whatever order blocks come."""

from __future__ import annotations

import random
import unittest

import page
import samples
from cubed_wire import frames, messages
from cubed_wire.cursor import Malformed
from cubed_wire.frames import Block, Blocked, Credit, Padding, Ping, Skip, Told
from cubed_wire.messages import Assembly, Cutter
from cubed_wire.ranges import Ack
from cubed_wire.records import Bind, Close, Skipped
from cubed_wire.settled import Entry, Settled

ACK = Ack(((0, 0),), 0)


class Rows(unittest.TestCase):
    """Whole datagrams."""

    def test_random_rows_are_read_as_they_were_written(self) -> None:
        chance = random.Random(1)
        for _ in range(3_000):
            row = samples.row(chance)
            self.assertEqual(frames.decode_row(frames.encode_row(row)), row)

    def test_what_is_read_is_written_again_or_refused(self) -> None:
        chance, read = random.Random(2), 0
        for _ in range(20_000):
            data = samples.mutated(chance, frames.encode_row(samples.row(chance)))
            try:
                row = frames.decode_row(data)
            except Malformed:
                continue
            read += 1
            self.assertEqual(frames.encode_row(row), data)
        self.assertGreater(read, 2_000)
        self.assertLess(read, 18_000)

    def test_which_frames_ask_for_an_acknowledgement(self) -> None:
        words = "All but ACK, PADDING, CLOSE and a SETTLED without entries ask for an acknowledgement."
        self.assertTrue(page.says("Frames", words))
        entry = Entry(0, 1, (0,))
        for frame in (ACK, Padding(), Told(Close(0)), Settled(3)):
            self.assertFalse(frames.asks(frame), frame)
        for frame in (Ping(), Settled(3, (entry,)), Credit(0, 0, 0), Blocked(0, 0), Told(Bind(0, "a", 0)), Skip(0, 1, 0), Block(0, ())):
            self.assertTrue(frames.asks(frame), frame)

    def test_which_frames_may_precede_the_greeting(self) -> None:
        words = "Until it has the peer's greeting a side accepts ACK, PING, PADDING and RECORD only"
        self.assertTrue(page.says("Frames", words))
        for frame in (ACK, Ping(), Padding(), Told(Skipped(0x20, b""))):
            self.assertTrue(frames.may_precede_greeting(frame), frame)
        for frame in (Settled(0), Credit(0, 0, 0), Blocked(0, 0), Skip(0, 1, 0), Block(0, ())):
            self.assertFalse(frames.may_precede_greeting(frame), frame)


class Blocks(unittest.TestCase):
    """Messages through blocks."""

    def test_messages_come_out_of_shuffled_blocks_once_each(self) -> None:
        chance = random.Random(3)
        for _ in range(200):
            cutter = Cutter(chance.choice((40, 100, 395, 1431)))
            bodies = [chance.randbytes(chance.choice((0, 1, 30, 400, 5_000))) for _ in range(12)]
            for number, body in enumerate(bodies):
                cutter.add(body, number % 3, f"flow.{number % 3}", number if number % 4 == 0 else None)
            cutter.close()
            self.assertTrue(all(len(block) <= cutter.content_bytes for block in cutter.blocks))
            numbered = list(enumerate(cutter.blocks))
            chance.shuffle(numbered)
            assembly = Assembly()
            got = [(head.alias, body) for number, block in numbered for head, body in assembly.take(number, block)]
            self.assertEqual(sorted(got), sorted((number % 3, body) for number, body in enumerate(bodies)))

    def test_every_block_names_its_aliases(self) -> None:
        self.assertTrue(page.says("Messages", "every block and best-effort datagram that uses an alias names it, at its first use there"))
        cutter = Cutter(40)
        for _ in range(9):
            cutter.add(b"a body", 5, "a.flow")
        cutter.close()
        self.assertGreater(len(cutter.blocks), 2)
        for block in cutter.blocks:
            heads = [piece.head for piece in messages.decode(block) if isinstance(piece, messages.Whole | messages.First)]
            self.assertEqual([head.name for head in heads], ["a.flow", *[None] * (len(heads) - 1)])

    def test_pieces_that_contradict_each_other_are_refused(self) -> None:
        head = messages.Head(0, "a")
        first = messages.encode([messages.First(head, 8, b"abcd")])
        for wrong in (messages.Later(1, 4, 9, b"efgh"), messages.Later(2, 4, 8, b"efgh")):
            assembly = Assembly()
            self.assertEqual(assembly.take(0, first), [])
            with self.assertRaises(Malformed):
                assembly.take(1, messages.encode([wrong]))
        assembly, headless = Assembly(), messages.Later(1, 1, 8, b"bcdefgh")
        self.assertEqual(assembly.take(1, messages.encode([headless])), [])
        with self.assertRaises(Malformed):
            assembly.take(2, messages.encode([messages.Later(2, 1, 8, b"bcdefgh")]))
        assembly = Assembly()
        assembly.take(0, first)
        self.assertEqual(assembly.take(1, messages.encode([messages.Later(1, 4, 8, b"efgh")])), [(head, b"abcdefgh")])


if __name__ == "__main__":
    unittest.main()
