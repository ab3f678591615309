"""Cookies: a responder's proof of address that costs it no state.

Owns the keyed hash. It is given the secret and the time. What always holds: a cookie is accepted in its epoch and the next, from its
address and port, for its hello.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from blake3 import blake3

EPOCH_SECONDS = 120


@dataclass(frozen=True)
class CookieSecret:
    """32 random bytes of one node."""

    secret: bytes

    def make(self, seconds: float, address: tuple[str, int], dial_id: bytes, hello_hash: bytes) -> bytes:
        """The cookie for a hello from `address`, at `seconds` of the responder's clock."""
        return self._of_epoch(int(seconds // EPOCH_SECONDS), address, dial_id, hello_hash)

    def accepts(self, cookie: bytes, seconds: float, address: tuple[str, int], dial_id: bytes, hello_hash: bytes) -> bool:
        """Whether it was made for this hello, lately."""
        now = int(seconds // EPOCH_SECONDS)
        made = [self._of_epoch(epoch, address, dial_id, hello_hash) for epoch in (now, now - 1) if epoch >= 0]
        return any(hmac.compare_digest(cookie, one) for one in made)

    def _of_epoch(self, epoch: int, address: tuple[str, int], dial_id: bytes, hello_hash: bytes) -> bytes:
        host, port = address
        place = _sixteen(host) + port.to_bytes(2, "little")
        return blake3(epoch.to_bytes(8, "little") + place + dial_id + hello_hash, key=self.secret).digest()


def _sixteen(host: str) -> bytes:
    try:
        return bytes(10) + b"\xff\xff" + IPv4Address(host).packed
    except ValueError:
        return IPv6Address(host).packed
