"""The four datagrams of a handshake: HELLO, COOKIE, REPLY, FINISH.

Owns where their fields lie and how they are sealed. It is given TLS's messages and handshake keys. What always holds: a HELLO is 1200
bytes, a COOKIE 76, the others at most 1200, so no answer is longer than its question.
"""

from __future__ import annotations

from dataclasses import dataclass

from blake3 import blake3

from .cursor import Cursor, Malformed
from .header import COOKIE, FINISH, HEADER_BYTES, HELLO, REPLY, HandshakeHeader
from .keys import ChannelKeys, Role
from .tls import HandshakeKeys

COOKIE_BYTES = 32
COOKIE_DATAGRAM_BYTES = 76
HELLO_PAYLOAD_BYTES = 1124
NO_COOKIE = bytes(COOKIE_BYTES)


@dataclass(frozen=True)
class Hello:
    """A dialler's question."""

    header: HandshakeHeader
    client_hello: bytes
    cookie: bytes = NO_COOKIE

    def seal(self, keys: ChannelKeys) -> bytes:
        """The datagram."""
        bound = self.header.encode() + self.cookie
        payload = len(self.client_hello).to_bytes(2, "little") + self.client_hello
        if len(payload) > HELLO_PAYLOAD_BYTES:
            raise ValueError("a ClientHello that does not fit")
        payload = payload.ljust(HELLO_PAYLOAD_BYTES, b"\0")
        return bound + keys.seal(Role.DIALLER, self.header.dial_id, bound, payload)

    @classmethod
    def open(cls, keys: ChannelKeys, datagram: bytes) -> Hello:
        """The reverse of `seal`."""
        header = _header(datagram, HELLO)
        bound, sealed = datagram[: HEADER_BYTES + COOKIE_BYTES], datagram[HEADER_BYTES + COOKIE_BYTES :]
        cursor = Cursor(keys.open(Role.DIALLER, header.dial_id, bound, sealed))
        return cls(header, _sized(cursor), bound[HEADER_BYTES:])

    def hash(self) -> bytes:
        """What a cookie proves to belong to: the same with and without a cookie."""
        return blake3(self.header.encode() + self.client_hello).digest()


@dataclass(frozen=True)
class CookieDatagram:
    """A responder under load asks for the hello again."""

    header: HandshakeHeader
    cookie: bytes

    def seal(self, keys: ChannelKeys) -> bytes:
        """The datagram."""
        bound = self.header.encode()
        return bound + keys.seal(Role.RESPONDER, self.header.dial_id, bound, self.cookie)

    @classmethod
    def open(cls, keys: ChannelKeys, datagram: bytes) -> CookieDatagram:
        """The reverse of `seal`."""
        header = _header(datagram, COOKIE)
        if len(datagram) != COOKIE_DATAGRAM_BYTES:
            raise Malformed("a COOKIE that is not 76 bytes long")
        bound, sealed = datagram[:HEADER_BYTES], datagram[HEADER_BYTES:]
        return cls(header, keys.open(Role.RESPONDER, header.dial_id, bound, sealed))


@dataclass(frozen=True)
class Reply:
    """A responder's answer; `sealed` is TLS's second flight under its handshake keys, tag included."""

    header: HandshakeHeader
    index: int
    server_hello: bytes
    sealed: bytes

    @classmethod
    def of(cls, header: HandshakeHeader, index: int, hello: bytes, keys: HandshakeKeys, flight: bytes) -> Reply:
        """Seals the flight with TLS's keys."""
        return cls(header, index, hello, keys.seal(header.encode(), flight))

    def seal(self, keys: ChannelKeys) -> bytes:
        """The datagram."""
        bound = self.header.encode()
        payload = self.index.to_bytes(4, "little") + len(self.server_hello).to_bytes(2, "little")
        payload += self.server_hello + self.sealed
        return bound + keys.seal(Role.RESPONDER, self.header.dial_id, bound, payload)

    @classmethod
    def open(cls, keys: ChannelKeys, datagram: bytes) -> Reply:
        """The reverse of `seal`."""
        header = _header(datagram, REPLY)
        bound, sealed = datagram[:HEADER_BYTES], datagram[HEADER_BYTES:]
        cursor = Cursor(keys.open(Role.RESPONDER, header.dial_id, bound, sealed))
        index = int.from_bytes(cursor.take(4), "little")
        return cls(header, index, _sized(cursor), cursor.rest())

    def flight(self, keys: HandshakeKeys) -> bytes:
        """EncryptedExtensions, CertificateRequest, Certificate, CertificateVerify, Finished."""
        return keys.open(self.header.encode(), self.sealed)


@dataclass(frozen=True)
class Finish:
    """A dialler's proof; `flight` is Certificate, CertificateVerify, Finished."""

    header: HandshakeHeader
    flight: bytes

    def seal(self, keys: HandshakeKeys) -> bytes:
        """The datagram."""
        return self.header.encode() + keys.seal(self.header.encode(), self.flight)

    @classmethod
    def open(cls, keys: HandshakeKeys, datagram: bytes) -> Finish:
        """The reverse of `seal`."""
        header = _header(datagram, FINISH)
        return cls(header, keys.open(datagram[:HEADER_BYTES], datagram[HEADER_BYTES:]))


def _header(datagram: bytes, kind: int) -> HandshakeHeader:
    header = HandshakeHeader.decode(datagram)
    if header.kind != kind:
        raise Malformed("not this kind of datagram")
    return header


def _sized(cursor: Cursor) -> bytes:
    return cursor.take(int.from_bytes(cursor.take(2), "little"))
