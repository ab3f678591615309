"""A dialler: TLS 1.3 as the page asks for it, as far as one honest client needs it.

Owns one attempt to shake hands: X25519, AES-128-GCM with SHA-256, raw Ed25519 keys, ALPN `cubed/1` (RFC 8446, RFC 7250, RFC 9001). For
tests: it is no defence against a hostile responder. What always holds: the answering key is the dialled one, and has signed.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from dataclasses import dataclass

from cubed_wire.cursor import Cursor, Malformed
from cubed_wire.handshake import Finish, Hello, Reply
from cubed_wire.header import FINISH, HELLO, HandshakeHeader
from cubed_wire.keys import ChannelKeys, LaneKeys, Role, Suite, context, extract
from cubed_wire.tls import HandshakeKeys, expand_label
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

SUITE = Suite.AES_128_GCM
# A SubjectPublicKeyInfo of Ed25519 is this and the key (RFC 8410).
KEY_INFO = bytes.fromhex("302a300506032b6570032100")
CLIENT_HELLO, SERVER_HELLO, ENCRYPTED_EXTENSIONS, CERTIFICATE, CERTIFICATE_REQUEST, VERIFY, FINISHED = 1, 2, 8, 11, 13, 15, 20


def sized(width: int, body: bytes) -> bytes:
    """A vector of TLS: its length, big endian, and itself."""
    return len(body).to_bytes(width, "big") + body


def taken(cursor: Cursor, width: int) -> bytes:
    """The reverse of `sized`."""
    return cursor.take(int.from_bytes(cursor.take(width), "big"))


def message(kind: int, body: bytes) -> bytes:
    """A handshake message."""
    return bytes([kind]) + sized(3, body)


def extension(kind: int, body: bytes) -> bytes:
    """An extension of a hello."""
    return kind.to_bytes(2, "big") + sized(2, body)


def sha(data: bytes) -> bytes:
    """SHA-256."""
    return hashlib.sha256(data).digest()


@dataclass(frozen=True)
class Association:
    """What a handshake gives."""

    secret: bytes
    ours: int
    theirs: int

    def lane(self, sender: Role) -> LaneKeys:
        """The keys of one direction between shards 0."""
        return LaneKeys.of(self.secret, SUITE, sender, (0, 0))


class Dialler:
    """One attempt."""

    def __init__(self, identity: Ed25519PrivateKey, dialled: bytes) -> None:
        self.identity, self.dialled = identity, dialled
        self.keys = ChannelKeys.of(dialled)
        self.exchange = X25519PrivateKey.generate()
        self.dial_id, self.index = os.urandom(8), int.from_bytes(os.urandom(4), "little")
        self.transcript = self._client_hello()

    def hello(self) -> bytes:
        """The first datagram."""
        header = HandshakeHeader(HELLO, self.dial_id[0], self.index, 0, self.dial_id)
        return Hello(header, self.transcript).seal(self.keys)

    def _client_hello(self) -> bytes:
        extensions = [
            extension(13, sized(2, b"\x08\x07")),
            extension(19, sized(1, b"\x02")),
            extension(20, sized(1, b"\x02")),
            extension(16, sized(2, sized(1, b"cubed/1"))),
            extension(10, sized(2, b"\x00\x1d")),
            extension(43, sized(1, b"\x03\x04")),
            extension(57, b""),
            extension(51, sized(2, b"\x00\x1d" + sized(2, self.exchange.public_key().public_bytes_raw()))),
        ]
        body = b"\x03\x03" + os.urandom(32) + sized(1, b"") + sized(2, b"\x13\x01") + sized(1, b"\0")
        return message(CLIENT_HELLO, body + sized(2, b"".join(extensions)))

    def finish(self, datagram: bytes) -> tuple[bytes, Association]:
        """The answer to a REPLY, and what both sides know now."""
        reply = Reply.open(self.keys, datagram)
        if (reply.header.index, reply.header.dial_id) != (self.index, self.dial_id):
            raise Malformed("not addressed to this attempt")
        self.transcript += reply.server_hello
        early = expand_label(SUITE, extract(bytes(32), bytes(32)), "derived", 32, sha(b""))
        handshake = extract(early, self.exchange.exchange(_share(reply.server_hello)))
        ours, theirs = (self._secret(handshake, f"{side} hs traffic") for side in "cs")
        self._read_flight(Cursor(reply.flight(HandshakeKeys.of(SUITE, theirs))), theirs)
        master = extract(expand_label(SUITE, handshake, "derived", 32, sha(b"")), bytes(32))
        exporter = self._secret(master, "exp master")
        header = HandshakeHeader(FINISH, reply.header.sender_shard, reply.index, 0, self.dial_id)
        finish = Finish(header, self._flight(ours)).seal(HandshakeKeys.of(SUITE, ours))
        public = self.identity.public_key().public_bytes_raw()
        named = context(public, self.dialled, (self.index, reply.index), self.dial_id, "")
        label = expand_label(SUITE, exporter, "EXPORTER-cubed/1 association", 32, sha(b""))
        return finish, Association(expand_label(SUITE, label, "exporter", 32, sha(named)), self.index, reply.index)

    def _secret(self, secret: bytes, label: str) -> bytes:
        return expand_label(SUITE, secret, label, 32, sha(self.transcript))

    def _read_flight(self, cursor: Cursor, secret: bytes) -> None:
        for expected in (ENCRYPTED_EXTENSIONS, CERTIFICATE_REQUEST, CERTIFICATE, VERIFY, FINISHED):
            kind, body = cursor.byte(), taken(cursor, 3)
            if kind != expected:
                raise Malformed(f"message {kind} of TLS where {expected} belongs")
            if kind == CERTIFICATE and KEY_INFO + self.dialled not in body:
                raise Malformed("another key answered")
            if kind == VERIFY:
                Ed25519PublicKey.from_public_bytes(self.dialled).verify(body[4:], self._signed("server"))
            if kind == FINISHED and not hmac.compare_digest(body, self._proof(secret)):
                raise Malformed("a wrong Finished")
            self.transcript += message(kind, body)

    def _flight(self, secret: bytes) -> bytes:
        """The application secrets, thus the exporter, stand before this."""
        begun = len(self.transcript)
        entry = sized(3, KEY_INFO + self.identity.public_key().public_bytes_raw()) + sized(2, b"")
        self.transcript += message(CERTIFICATE, sized(1, b"") + sized(3, entry))
        signature = self.identity.sign(self._signed("client"))
        self.transcript += message(VERIFY, b"\x08\x07" + sized(2, signature))
        self.transcript += message(FINISHED, self._proof(secret))
        return self.transcript[begun:]

    def _signed(self, side: str) -> bytes:
        return b" " * 64 + f"TLS 1.3, {side} CertificateVerify".encode() + b"\0" + sha(self.transcript)

    def _proof(self, secret: bytes) -> bytes:
        key = expand_label(SUITE, secret, "finished", 32)
        return hmac.new(key, sha(self.transcript), hashlib.sha256).digest()


def _share(server_hello: bytes) -> X25519PublicKey:
    cursor = Cursor(server_hello)
    if cursor.byte() != SERVER_HELLO:
        raise Malformed("not a ServerHello")
    body = Cursor(taken(cursor, 3))
    body.take(34)
    taken(body, 1)
    if body.take(3) != b"\x13\x01\x00":
        raise Malformed("a suite that was not offered")
    extensions = Cursor(taken(body, 2))
    while True:
        kind, content = extensions.take(2), taken(extensions, 2)
        if kind == b"\x00\x33":
            return X25519PublicKey.from_public_bytes(content[4:])
