"""Names: an Ed25519 public key as text, as a fingerprint, and what its owner signs.

Owns the section "Names" of the page. What always holds: a key has one spelling, and a file that others can use is not read.
"""

from __future__ import annotations

import base64
import os
import stat
from pathlib import Path

from blake3 import blake3
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from .cursor import Malformed

KEY_BYTES = 32
TEXT_CHARACTERS = 56


def text(key: bytes) -> str:
    """The key as people copy it."""
    check = blake3(b"cubed/1 public key text" + key).digest(3)
    return base64.b32encode(key + check).decode().lower()


def parse(spelling: str) -> bytes:
    """The key that `spelling` stands for; `Malformed` when it is not the one spelling of a key."""
    if len(spelling) != TEXT_CHARACTERS or not set(spelling) <= set("abcdefghijklmnopqrstuvwxyz234567"):
        raise Malformed("not 56 characters a-z2-7")
    key = base64.b32decode(spelling.upper())[:KEY_BYTES]
    if text(key) != spelling:
        raise Malformed("the check bytes are wrong")
    return key


def fingerprint(key: bytes) -> str:
    """For people to compare."""
    digits = blake3(key).digest(8).hex()
    return "-".join(digits[at : at + 4] for at in range(0, 16, 4))


def signed(purpose: str, message: bytes) -> bytes:
    """What a signature outside TLS covers."""
    return b"cubed/1 " + purpose.encode() + b"\0" + message


def load(path: Path) -> Ed25519PrivateKey:
    """The identity in a file of this user alone."""
    if stat.S_IMODE(os.stat(path).st_mode) & 0o077:
        raise Malformed("group or others can use the file")
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except (ValueError, TypeError) as error:
        raise Malformed(f"not PKCS#8 in PEM: {error}") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise Malformed("not an Ed25519 key")
    return key
