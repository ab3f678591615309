"""Keys: the first flight's seal, the association's context, and the keys of lanes.

Owns HKDF labels, nonces and the three AEADs. It is given the association secret: TLS has exported it. What always holds: what does
not open under the key, the nonce and the bytes in clear raises `Malformed`.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from enum import IntEnum

from blake3 import blake3
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from .cursor import Malformed
from .header import HEADER_BYTES, TAG_BYTES, VERSION, LaneHeader

NONCE_BYTES = 12
CHANNEL_BYTES_MAX = 255


class Suite(IntEnum):
    """An AEAD by its number in key derivation."""

    AES_128_GCM = 1
    AES_256_GCM = 2
    CHACHA20_POLY1305 = 3

    @property
    def key_bytes(self) -> int:
        """Length of its key."""
        return 16 if self is Suite.AES_128_GCM else 32

    def cipher(self, key: bytes) -> AESGCM | ChaCha20Poly1305:
        """It, with a key."""
        return ChaCha20Poly1305(key) if self is Suite.CHACHA20_POLY1305 else AESGCM(key)


class Role(IntEnum):
    """Which side of the handshake sends."""

    DIALLER = 1
    RESPONDER = 2


def extract(salt: bytes, material: bytes) -> bytes:
    """HKDF-Extract-SHA256."""
    return hmac.new(salt, material, hashlib.sha256).digest()


def expand(secret: bytes, info: bytes, length: int) -> bytes:
    """HKDF-Expand-SHA256."""
    return HKDFExpand(SHA256(), length, info).derive(secret)


@dataclass(frozen=True)
class ChannelKeys:
    """The first flight's keys: what everybody can derive who knows the dialled key and the channel's name."""

    secret: bytes

    @classmethod
    def of(cls, dialled: bytes, channel: str = "") -> ChannelKeys:
        """For one channel of one node."""
        name = channel.encode()
        if len(name) > CHANNEL_BYTES_MAX:
            raise ValueError("a channel's name has at most 255 bytes")
        return cls(extract(b"cubed/1 first flight", dialled + name))

    def seal(self, sender: Role, dial_id: bytes, bound: bytes, payload: bytes) -> bytes:
        """Nonce, ciphertext and tag."""
        nonce = blake3(bound + payload).digest(NONCE_BYTES)
        return nonce + self._cipher(sender, dial_id).encrypt(nonce, payload, bound)

    def open(self, sender: Role, dial_id: bytes, bound: bytes, sealed: bytes) -> bytes:
        """The payload."""
        nonce, rest = sealed[:NONCE_BYTES], sealed[NONCE_BYTES:]
        return _opened(self._cipher(sender, dial_id), nonce, rest, bound)

    def _cipher(self, sender: Role, dial_id: bytes) -> AESGCM:
        return AESGCM(expand(self.secret, b"key" + bytes([sender]) + dial_id, 16))


def context(dialler: bytes, responder: bytes, indexes: tuple[int, int], dial_id: bytes, channel: str) -> bytes:
    """What the exporter is given: who shook hands; `indexes` are the dialler's and the responder's."""
    numbers = b"".join(index.to_bytes(4, "little") for index in indexes)
    return blake3(bytes([VERSION]) + dialler + responder + numbers + dial_id + channel.encode()).digest()


@dataclass(frozen=True)
class LaneKeys:
    """One direction of one pair of shards."""

    suite: Suite
    key: bytes
    iv: bytes

    @classmethod
    def of(cls, association_secret: bytes, suite: Suite, sender: Role, shards: tuple[int, int]) -> LaneKeys:
        """`shards` are the sender's and the receiver's."""
        info = b"cubed/1 lane" + bytes([suite, sender, *shards])
        secret = expand(association_secret, info, 32)
        key = expand(secret, b"cubed/1 lane key", suite.key_bytes)
        return cls(suite, key, expand(secret, b"cubed/1 lane iv", NONCE_BYTES))

    def nonce(self, number: int) -> bytes:
        """Of a packet number."""
        counter = bytes(4) + number.to_bytes(8, "big")
        return bytes(a ^ b for a, b in zip(self.iv, counter, strict=True))

    def seal(self, number: int, header: bytes, payload: bytes) -> bytes:
        """Ciphertext and tag."""
        return self.suite.cipher(self.key).encrypt(self.nonce(number), payload, header)

    def open(self, number: int, header: bytes, sealed: bytes) -> bytes:
        """The payload."""
        return _opened(self.suite.cipher(self.key), self.nonce(number), sealed, header)

    def datagram(self, header: LaneHeader, payload: bytes) -> bytes:
        """A whole lane datagram."""
        return header.encode() + self.seal(header.number, header.encode(), payload)

    def frames_of(self, datagram: bytes) -> bytes:
        """The frames of a whole lane datagram."""
        header = LaneHeader.decode(datagram)
        return self.open(header.number, datagram[:HEADER_BYTES], datagram[HEADER_BYTES:])


def _opened(cipher: AESGCM | ChaCha20Poly1305, nonce: bytes, sealed: bytes, bound: bytes) -> bytes:
    if len(nonce) != NONCE_BYTES or len(sealed) < TAG_BYTES:
        raise Malformed("no room for nonce and tag")
    try:
        return cipher.decrypt(nonce, sealed, bound)
    except InvalidTag:
        raise Malformed("does not open") from None
