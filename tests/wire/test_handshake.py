"""Goal: the four datagrams of a handshake have the page's fields at the page's places, and open for whom they should."""

from __future__ import annotations

import os
import tempfile
import unittest
from pathlib import Path

import page
from blake3 import blake3
from cubed_wire import header, identity
from cubed_wire.cookie import CookieSecret
from cubed_wire.cursor import Malformed
from cubed_wire.handshake import CookieDatagram, Finish, Hello, Reply
from cubed_wire.header import HandshakeHeader
from cubed_wire.keys import ChannelKeys, LaneKeys, Role, Suite, context
from cubed_wire.tls import HandshakeKeys
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

DIAL_ID = bytes(range(0x81, 0x89))
DIALLED = bytes([9]) * 32
KEYS = ChannelKeys.of(DIALLED, "orders")
COOKIE = bytes([0xC0]) * 32

# Lengths of TLS's messages with raw Ed25519 keys, X25519 and a 32-byte hash: RFC 8446 section 4, RFC 7250, RFC 9001 section 8.2.
MESSAGE_HEAD = 4
SERVER_HELLO = MESSAGE_HEAD + 2 + 32 + 1 + 2 + 1 + 2 + (4 + 2) + (4 + 2 + 2 + 32)
ALPN = 4 + 2 + 1 + len("cubed/1")
ENCRYPTED_EXTENSIONS = MESSAGE_HEAD + 2 + ALPN + (4 + 1) + (4 + 1) + (4 + 0)
CERTIFICATE_REQUEST = MESSAGE_HEAD + 1 + 2 + (4 + 2 + 2)
CERTIFICATE = MESSAGE_HEAD + 1 + 3 + (3 + 44 + 2)
CERTIFICATE_VERIFY = MESSAGE_HEAD + 2 + 2 + 64
FINISHED = MESSAGE_HEAD + 32
PROOF = CERTIFICATE + CERTIFICATE_VERIFY + FINISHED


def head(kind: int) -> HandshakeHeader:
    """A header whose fields all differ."""
    return HandshakeHeader(kind, shard=0x11, index=0x25242322, sender_shard=0x36, dial_id=DIAL_ID)


def traffic(suite: Suite) -> HandshakeKeys:
    """Handshake keys of some traffic secret."""
    return HandshakeKeys.of(suite, bytes(48 if suite is Suite.AES_256_GCM else 32))


class Layout(unittest.TestCase):
    """Where the fields lie."""

    def test_header(self) -> None:
        self.assertEqual(head(header.HELLO).encode().hex(), "01" "11" "22232425" "36" "01" "8182838485868788")
        self.assertEqual(HandshakeHeader.decode(head(header.REPLY).encode()), head(header.REPLY))

    def test_hello(self) -> None:
        self.assertTrue(page.says("Datagrams", "HELLO, always 1200 bytes 0 header bound 16 cookie (32) bound; zeros when there is none"))
        for cookie in (bytes(32), COOKIE):
            hello = Hello(head(header.HELLO), b"client hello", cookie)
            datagram = hello.seal(KEYS)
            self.assertEqual(len(datagram), 1200)
            self.assertEqual(datagram[16:48], cookie)
            payload = b"\x0c\x00client hello".ljust(1124, b"\0")
            self.assertEqual(datagram[48:60], blake3(datagram[:48] + payload).digest(12))
            self.assertEqual(KEYS.open(Role.DIALLER, DIAL_ID, datagram[:48], datagram[48:]), payload)
            self.assertEqual(Hello.open(KEYS, datagram), hello)

    def test_cookie_datagram(self) -> None:
        self.assertTrue(page.says("Datagrams", "COOKIE, always 76 bytes 0 header bound 16 nonce (12) 28 [ cookie (32) ] 60 tag (16)"))
        asked = CookieDatagram(head(header.COOKIE), COOKIE)
        datagram = asked.seal(KEYS)
        self.assertEqual(len(datagram), 76)
        self.assertEqual(KEYS.open(Role.RESPONDER, DIAL_ID, datagram[:16], datagram[16:]), COOKIE)
        self.assertEqual(CookieDatagram.open(KEYS, datagram), asked)

    def test_reply_is_sealed_twice_and_370_bytes_long(self) -> None:
        self.assertTrue(page.says("Datagrams", "REPLY and FINISH have these lengths with X25519 and AES-128-GCM."))
        flight = bytes(ENCRYPTED_EXTENSIONS + CERTIFICATE_REQUEST) + os.urandom(PROOF)
        tls = traffic(Suite.AES_128_GCM)
        reply = Reply.of(head(header.REPLY), 0x04030201, bytes(SERVER_HELLO), tls, flight)
        datagram = reply.seal(KEYS)
        self.assertIn(f"REPLY, {len(datagram)} B", page.section("Datagrams"))
        payload = KEYS.open(Role.RESPONDER, DIAL_ID, datagram[:16], datagram[16:])
        self.assertEqual(payload[:6], bytes([1, 2, 3, 4, SERVER_HELLO, 0]))
        self.assertEqual(tls.open(datagram[:16], payload[6 + SERVER_HELLO :]), flight)
        self.assertEqual(Reply.open(KEYS, datagram), reply)
        self.assertEqual(reply.flight(tls), flight)

    def test_finish_is_197_bytes_long(self) -> None:
        flight = os.urandom(PROOF)
        for suite in Suite:
            finish = Finish(head(header.FINISH), flight)
            datagram = finish.seal(traffic(suite))
            self.assertIn(f"FINISH, {len(datagram)} B", page.section("Datagrams"))
            self.assertEqual(Finish.open(traffic(suite), datagram), finish)

    def test_handshake_keys_are_quics(self) -> None:
        """RFC 9001 appendix A.1: the client's initial secret, key and iv, and A.5: a ChaCha20 key."""
        secret = bytes.fromhex("c00cf151ca5be075ed0ebfb5c80323c42d6b7db67881289af4008f1f6c357aea")
        keys = HandshakeKeys.of(Suite.AES_128_GCM, secret)
        self.assertEqual(keys.key.hex(), "1f369613dd76d5467730efcbe3b1a22d")
        self.assertEqual(keys.iv.hex(), "fa044b2f42a3fd3b46fb255c")
        secret = bytes.fromhex("9ac312a7f877468ebe69422748ad00a15443f18203a07d6060f688f30f21632b")
        keys = HandshakeKeys.of(Suite.CHACHA20_POLY1305, secret)
        self.assertEqual(keys.key.hex(), "c6d98ff3441c3fe1b2182094f69caa2ed4b716b65488960a7a984979fb23e1c8")
        self.assertEqual(keys.iv.hex(), "e0459b3474bdd0e44a41c144")


class Refused(unittest.TestCase):
    """What does not open."""

    def test_wrong_lengths_and_kinds(self) -> None:
        hello = Hello(head(header.HELLO), b"hello").seal(KEYS)
        cookie = CookieDatagram(head(header.COOKIE), COOKIE).seal(KEYS)
        for reader, data in [
            (Hello, hello[:-1]),
            (Hello, hello + b"\0"),
            (Hello, cookie),
            (CookieDatagram, cookie[:-1]),
            (CookieDatagram, cookie + b"\0"),
            (CookieDatagram, hello),
            (CookieDatagram, CookieDatagram(head(header.COOKIE), COOKIE[1:]).seal(KEYS)),
            (Reply, hello),
            (Reply, CookieDatagram(head(header.COOKIE), bytes(32)).seal(KEYS)),
            (Reply, head(header.REPLY).encode() + bytes(27)),
            (Reply, head(header.REPLY).encode() + bytes(5)),
            (Reply, head(header.REPLY).encode() + bytes(1185)),
        ]:
            with self.subTest(reader=reader.__name__, length=len(data)), self.assertRaises(Malformed):
                reader.open(KEYS, data)

    def test_what_is_too_long_is_not_sealed(self) -> None:
        Hello(head(header.HELLO), bytes(1122)).seal(KEYS)
        with self.assertRaises(ValueError):
            Hello(head(header.HELLO), bytes(1123)).seal(KEYS)
        ChannelKeys.of(DIALLED, "c" * 255)
        with self.assertRaises(ValueError):
            ChannelKeys.of(DIALLED, "c" * 256)

    def test_every_byte_of_a_hello_is_bound(self) -> None:
        hello = Hello(head(header.HELLO), b"hello", COOKIE).seal(KEYS)
        for at in range(len(hello)):
            damaged = hello[:at] + bytes([hello[at] ^ 1]) + hello[at + 1 :]
            with self.subTest(at=at), self.assertRaises(Malformed):
                Hello.open(KEYS, damaged)

    def test_other_key_channel_direction_and_dial(self) -> None:
        datagram = CookieDatagram(head(header.COOKIE), COOKIE).seal(KEYS)
        for keys in (ChannelKeys.of(DIALLED), ChannelKeys.of(DIALLED, "order"), ChannelKeys.of(bytes(32), "orders")):
            with self.assertRaises(Malformed):
                CookieDatagram.open(keys, datagram)
        with self.assertRaises(Malformed):
            KEYS.open(Role.DIALLER, DIAL_ID, datagram[:16], datagram[16:])
        with self.assertRaises(Malformed):
            KEYS.open(Role.RESPONDER, bytes(8), datagram[:16], datagram[16:])

    def test_a_lane_key_opens_its_own_direction_shards_suite_and_number(self) -> None:
        def keys(suite: Suite = Suite.AES_256_GCM, role: Role = Role.DIALLER, shards: tuple[int, int] = (1, 2)) -> LaneKeys:
            return LaneKeys.of(bytes(32), suite, role, shards)

        sealed = keys().seal(7, b"header", b"payload")
        self.assertEqual(keys().open(7, b"header", sealed), b"payload")
        others = [keys(Suite.CHACHA20_POLY1305), keys(role=Role.RESPONDER), keys(shards=(2, 1)), keys(shards=(1, 3))]
        for other in others:
            with self.assertRaises(Malformed):
                other.open(7, b"header", sealed)
        for number, clear in ((8, b"header"), (7, b"Header")):
            with self.assertRaises(Malformed):
                keys().open(number, clear, sealed)

    def test_a_context_depends_on_each_of_its_parts(self) -> None:
        one, two = bytes([1]) * 32, bytes([2]) * 32
        contexts = {
            context(one, two, (3, 4), DIAL_ID, "c"),
            context(two, one, (3, 4), DIAL_ID, "c"),
            context(one, two, (4, 3), DIAL_ID, "c"),
            context(one, two, (3, 4), bytes(8), "c"),
            context(one, two, (3, 4), DIAL_ID, ""),
        }
        self.assertEqual(len(contexts), 5)


class Cookies(unittest.TestCase):
    """Whose cookie is taken, and how long."""

    def test_its_epoch_and_the_next(self) -> None:
        self.assertTrue(page.says("Cookies", "Accepted in its epoch and the next. The hello hash is the same with and without a cookie."))
        plain, proven = (Hello(head(header.HELLO), b"hello", cookie) for cookie in (bytes(32), COOKIE))
        self.assertEqual(plain.hash(), proven.hash())
        self.assertNotEqual(plain.hash(), Hello(head(header.HELLO), b"hallo").hash())
        secret, place = CookieSecret(bytes(32)), ("2001:db8::1", 7530)
        cookie = secret.make(1000.0, place, DIAL_ID, plain.hash())
        for seconds, taken in ((959.9, False), (960.0, True), (1199.9, True), (1200.0, False)):
            self.assertEqual(secret.accepts(cookie, seconds, place, DIAL_ID, plain.hash()), taken, seconds)

    def test_its_place_and_hello(self) -> None:
        secret, place, hashed = CookieSecret(bytes(32)), ("192.0.2.7", 7530), bytes(32)
        cookie = secret.make(0.0, place, DIAL_ID, hashed)
        self.assertTrue(secret.accepts(cookie, 0.0, ("192.0.2.7", 7530), DIAL_ID, hashed))
        self.assertTrue(secret.accepts(cookie, 0.0, ("::ffff:192.0.2.7", 7530), DIAL_ID, hashed))
        for other in ((("192.0.2.8", 7530), DIAL_ID, hashed), (("192.0.2.7", 7531), DIAL_ID, hashed), (place, bytes(8), hashed)):
            self.assertFalse(secret.accepts(cookie, 0.0, *other))
        self.assertFalse(CookieSecret(bytes([1]) * 32).accepts(cookie, 0.0, place, DIAL_ID, hashed))


class Identities(unittest.TestCase):
    """Files and signatures."""

    def test_a_file_that_others_can_use_is_refused(self) -> None:
        self.assertTrue(page.says("Names", "A file that group or others can use is refused."))
        secret = Ed25519PrivateKey.generate()
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "node.key"
            path.write_bytes(secret.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
            self.assertTrue(path.read_text().startswith("-----BEGIN PRIVATE KEY-----\n"))
            path.chmod(0o600)
            self.assertEqual(identity.load(path).private_bytes_raw(), secret.private_bytes_raw())
            for mode in (0o640, 0o604, 0o660):
                path.chmod(mode)
                with self.assertRaises(Malformed):
                    identity.load(path)

    def test_another_kind_of_key_or_no_key_is_refused(self) -> None:
        other = X25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "node.key"
            path.touch(0o600)
            for data in (b"", b"-----BEGIN PRIVATE KEY-----\n", other):
                path.write_bytes(data)
                with self.assertRaises(Malformed):
                    identity.load(path)

    def test_signatures_cover_the_purpose(self) -> None:
        self.assertTrue(page.says("Names", '**Signatures outside TLS** cover `"cubed/1 " | purpose | 00 | message`.'))
        self.assertEqual(identity.signed("group", b"words"), b"cubed/1 group\x00words")


if __name__ == "__main__":
    unittest.main()
