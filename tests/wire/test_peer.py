"""Goal: a peer made from the page alone shakes hands with the other implementation and is understood."""

from __future__ import annotations

import os
import unittest

import other
from cubed_wire import frames
from cubed_wire.cursor import Malformed
from cubed_wire.frames import Block, Credit, Frame, Padding, Ping, Told
from cubed_wire.handshake import Hello
from cubed_wire.header import LaneHeader, Restarted
from cubed_wire.keys import Role
from cubed_wire.messages import Cutter, Head, Whole, decode
from cubed_wire.ranges import Ack
from cubed_wire.records import Close, Greeting
from cubed_wire.settled import Entry, Settled
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from dialler import Dialler


class Peer:
    """A session with the other."""

    def __init__(self, node: other.Node) -> None:
        self.node, self.next_number = node, 0
        dialler = Dialler(Ed25519PrivateKey.generate(), node.key)
        (self.reply,) = node.tell(dialler.hello())
        self.finish, self.association = dialler.finish(self.reply)
        self.after_finish = node.tell(self.finish)
        self.ours, self.theirs = (self.association.lane(role) for role in (Role.DIALLER, Role.RESPONDER))

    def datagram(self, *row: Frame) -> bytes:
        """Frames under the next packet number."""
        header = LaneHeader(0, self.association.theirs, 0, self.next_number, acknowledge=True)
        self.next_number += 1
        return self.ours.datagram(header, frames.encode_row(row))

    def say(self, *row: Frame) -> list[Frame]:
        """Sends frames; what comes back."""
        answers = self.node.tell(self.datagram(*row))
        for answer in answers:
            assert LaneHeader.decode(answer).index == self.association.ours
        return [frame for answer in answers for frame in frames.decode_row(self.theirs.frames_of(answer))]

    def greet(self) -> list[Frame]:
        """The first words."""
        return self.say(Told(Greeting(os.urandom(16), "python", "", 0, 0, 1, bytes(32), 1 << 20)))


@unittest.skipUnless(other.PATH, "CUBED_WIRE names no program; tests/wire/run builds it where there is a cargo")
class Peers(unittest.TestCase):
    """Against a node of the other, in one process at virtual time. It knows no flow whose name's length divides by three."""

    def setUp(self) -> None:
        self.node = other.Node()
        self.addCleanup(self.node.close)

    def test_a_handshake_gives_a_session(self) -> None:
        peer = Peer(self.node)
        self.assertEqual((len(peer.reply), len(peer.finish)), (370, 197))
        acknowledged, greeting, *probe = peer.greet()
        # A longer datagram is tried at once, and a short one goes behind it.
        self.assertEqual(set(probe), {Ping(), Padding()})
        self.assertEqual(len(probe), 1_440 - 16 - 16 + 1)
        self.assertEqual(acknowledged, Ack(((0, 0),), acknowledged.delay_us))
        self.assertEqual((greeting.record.name, greeting.record.shards), ("node 2", 1))
        self.assertIn(Ack(((0, 1),), 0), peer.say(Ping()))

    def test_messages_are_granted_settled_and_refused(self) -> None:
        peer = Peer(self.node)
        peer.greet()
        told = peer.say(Block(0, (Whole(Head(0, "four"), b"hello"),)))
        self.assertIn(Settled(1), told)
        self.assertIn(Credit(0, 65_536, 1_000), told)
        told = peer.say(Block(1, (Whole(Head(0), b"again"), Whole(Head(1, "three3"), b"nobody listens"))))
        self.assertIn(Settled(2, (Entry(1, 1, (1,)),)), told)

    def test_a_message_over_many_blocks_is_settled_when_it_is_whole(self) -> None:
        peer = Peer(self.node)
        peer.greet()
        cutter = Cutter(1_000)
        cutter.add(bytes(20_000), 0, "fives")
        cutter.close()
        order = list(reversed(list(enumerate(cutter.blocks))))
        floors = [told.floor for block in order for told in peer.say(Block(block[0], decode(block[1]))) if isinstance(told, Settled)]
        self.assertEqual(floors, [len(order)])

    def test_a_violation_is_answered_with_close_two(self) -> None:
        peer = Peer(self.node)
        peer.greet()
        self.assertIn(Told(Close(2)), peer.say(Block(0, (Whole(Head(0), b"an alias without a name"),))))

    def test_an_unknown_index_is_answered_with_restarted(self) -> None:
        peer = Peer(self.node)
        datagram = bytearray(peer.datagram(Ping()))
        datagram[2] ^= 1
        (answer,) = self.node.tell(bytes(datagram))
        self.assertEqual(Restarted.decode(answer), Restarted.answer(bytes(datagram)))

    def test_silence(self) -> None:
        """Nothing is sent in answer to what does not open, comes twice or was altered."""
        stranger = Dialler(Ed25519PrivateKey.generate(), bytes([7]) * 32)
        self.assertEqual(self.node.tell(stranger.hello()), [])
        peer = Peer(self.node)
        damaged = bytearray(peer.datagram(Ping()))
        damaged[-1] ^= 1
        self.assertEqual(self.node.tell(bytes(damaged)), [])
        greeted = peer.datagram(Told(Greeting(os.urandom(16), "python", "", 0, 0, 1, bytes(32), 1 << 20)))
        answered = self.node.tell(greeted)
        self.assertEqual([len(datagram) for datagram in answered[1:]], [1_440, 33])
        self.assertEqual(self.node.tell(greeted), [])

    def test_an_altered_reply_is_dropped(self) -> None:
        dialler = Dialler(Ed25519PrivateKey.generate(), self.node.key)
        (reply,) = self.node.tell(dialler.hello())
        with self.assertRaises(Malformed):
            dialler.finish(reply[:-1] + bytes([reply[-1] ^ 1]))
        with self.assertRaises(Malformed):
            Dialler(Ed25519PrivateKey.generate(), self.node.key).finish(reply)

    def test_its_hello_is_sealed_here_to_the_same_bytes(self) -> None:
        (datagram,) = other.ask("dial", [bytes([7]) * 32])
        sealed = bytes.fromhex(datagram.split(",")[-1])
        dialler = Dialler(Ed25519PrivateKey.generate(), bytes([7]) * 32)
        hello = Hello.open(dialler.keys, sealed)
        self.assertEqual(hello.seal(dialler.keys), sealed)
        self.assertEqual(hello.header.shard, hello.header.dial_id[0])
        self.assertIn(b"\x07cubed/1", hello.client_hello)


if __name__ == "__main__":
    unittest.main()
