"""What this package needs of TLS: QUIC's packet protection of handshake messages.

Owns HKDF-Expand-Label (RFC 8446 section 7.1) and the labels `quic key` and `quic iv` (RFC 9001 section 5.1). TLS itself is elsewhere:
its traffic secrets are given. What always holds: one datagram per key, so the packet number is 0 and the nonce is the iv.
"""

from __future__ import annotations

from dataclasses import dataclass

from cryptography.hazmat.primitives.hashes import SHA256, SHA384
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from .keys import NONCE_BYTES, LaneKeys, Suite


def expand_label(suite: Suite, secret: bytes, label: str, length: int, context: bytes = b"") -> bytes:
    """HKDF-Expand-Label; AES-256-GCM goes with SHA-384, the others with SHA-256."""
    name = b"tls13 " + label.encode()
    info = length.to_bytes(2, "big") + bytes([len(name)]) + name + bytes([len(context)]) + context
    algorithm = SHA384() if suite is Suite.AES_256_GCM else SHA256()
    return HKDFExpand(algorithm, length, info).derive(secret)


@dataclass(frozen=True)
class HandshakeKeys:
    """One side's handshake keys."""

    suite: Suite
    key: bytes
    iv: bytes

    @classmethod
    def of(cls, suite: Suite, traffic_secret: bytes) -> HandshakeKeys:
        """From TLS's handshake traffic secret of that side."""
        key = expand_label(suite, traffic_secret, "quic key", suite.key_bytes)
        return cls(suite, key, expand_label(suite, traffic_secret, "quic iv", NONCE_BYTES))

    def seal(self, header: bytes, messages: bytes) -> bytes:
        """Ciphertext and tag of handshake messages."""
        return self._zero().seal(0, header, messages)

    def open(self, header: bytes, sealed: bytes) -> bytes:
        """The handshake messages."""
        return self._zero().open(0, header, sealed)

    def _zero(self) -> LaneKeys:
        return LaneKeys(self.suite, self.key, self.iv)
