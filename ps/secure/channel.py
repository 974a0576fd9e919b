"""Channel: ephemeral X25519 keys, and boxes that only the other end of two of them can open."""

from __future__ import annotations

import base64
import binascii
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ps.errors import BadMessage
from ps.secure.masks import derive

KEY_BYTES = 32
_NONCE = bytes(12)
"""A key is made for one box alone, so that its number is used once."""


def private_key(secret: bytes) -> X25519PrivateKey:
    """Return the private key that a secret of 16 bytes stands for."""
    return X25519PrivateKey.from_private_bytes(derive(secret, "x25519"))


def public_of(private: X25519PrivateKey) -> bytes:
    """Return the public half, 32 bytes."""
    return private.public_key().public_bytes_raw()


def agree(private: X25519PrivateKey, public: bytes) -> bytes:
    """Return the secret that two keys have together. Raises BadMessage for a public key that is none."""
    try:
        return private.exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError as error:
        raise BadMessage(f"a public key that is none: {error}") from None


def seal(shared: bytes, plain: bytes, *about: Any) -> bytes:
    """Return a box; ``about`` is what it is for, of which there is one box alone."""
    return AESGCM(derive(shared, "box", *about)).encrypt(_NONCE, plain, None)


def unseal(shared: bytes, box: bytes, *about: Any) -> bytes:
    """Return what is in a box. Raises BadMessage where it was made for something else, or by somebody else."""
    try:
        return AESGCM(derive(shared, "box", *about)).decrypt(_NONCE, box, None)
    except (InvalidTag, ValueError):
        raise BadMessage("a sealed share that cannot be opened") from None


def to_text(data: bytes) -> str:
    """Return bytes as they stand in a message."""
    return base64.b64encode(data).decode()


def from_text(text: str, size: int = 0) -> bytes:
    """Return the bytes, of ``size`` if that is given. Raises BadMessage for any other text."""
    try:
        data = base64.b64decode(text.encode(), validate=True)
    except (ValueError, binascii.Error):
        raise BadMessage("a text that is no bytes") from None
    if size and len(data) != size:
        raise BadMessage(f"{len(data)} bytes where {size} were expected")
    return data
