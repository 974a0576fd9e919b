"""Identity: who a client is to others, for years: an Ed25519 key of its own, and whom it has listed.

Where keys are kept and how they are listed is the key folder's affair. Without one, on loopback, each process makes an
identity for itself and counts whoever comes: that protects from nobody who can add clients.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from ps.errors import BadMessage
from ps.secure.channel import from_text

SIGNATURE = 64
PUBLIC = 32
Lists = Callable[[bytes], bool]
"""Whether a public identity (32 bytes) is one that counts, by this party's own list."""


def identity_in(text: str) -> bytes:
    """Return the identity at the beginning of what a client has signed, base64; whether it is its is not looked at.

    What is no such text is an identity of its own.
    """
    try:
        return from_text(text)[:PUBLIC]
    except BadMessage:
        return text.encode()


class Signer(Protocol):
    """An identity of one's own."""

    @property
    def public(self) -> bytes: ...

    def sign(self, message: bytes) -> bytes: ...


class ThrowawaySigner:
    """An identity that ends with the process."""

    def __init__(self) -> None:
        self._key = Ed25519PrivateKey.generate()
        self.public = self._key.public_key().public_bytes_raw()

    def sign(self, message: bytes) -> bytes:
        """Return the signature of a message, 64 bytes."""
        return self._key.sign(message)


def anybody(public: bytes) -> bool:
    """List everybody: of use on loopback alone."""
    return True


def signed(public: bytes, signature: bytes, message: bytes) -> bool:
    """Whether a signature is that of an identity."""
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True
