"""Sharing: a secret in so many parts that some of them give it back and fewer tell nothing (Shamir, CACM 1979)."""

from __future__ import annotations

from collections.abc import Iterable

from Crypto.Protocol.SecretSharing import Shamir

from ps.errors import BadMessage

SECRET = 16
"""Bytes of a secret: 128 bits, from which longer keys are derived."""


def split(secret: bytes, threshold: int, count: int) -> list[tuple[int, bytes]]:
    """Return ``count`` shares, numbered from 1, of which ``threshold`` give the secret back."""
    return [(number, bytes(share)) for number, share in Shamir.split(threshold, count, secret)]


def combine(shares: Iterable[tuple[int, bytes]], threshold: int) -> bytes:
    """Return the secret from at least ``threshold`` shares. Raises BadMessage where there are fewer."""
    found = dict(shares)
    if len(found) < threshold:
        raise BadMessage(f"{len(found)} shares of a secret, and {threshold} are needed")
    return bytes(Shamir.combine(sorted(found.items())[:threshold]))
