"""What weights a client begins with, as a digest that it signs: only clients that were given the same are summed up.

Whoever gives one client other weights than the rest (weights with which the others' deltas say little, say) would see
its delta in the sum: Pasquini et al., Eluding Secure Aggregation in Federated Learning via Model Inconsistency, CCS
2022. The digest stands before the signature in what a client says of its keys.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from ps.errors import BadMessage
from ps.secure.channel import from_text
from ps.secure.identity import SIGNATURE

VERSION = 8
DIGEST = VERSION + 32


def digest_of(version: int, chunks: Iterable[Any]) -> bytes:
    """Return the digest of weights: their version (8 bytes, big-endian), and SHA-256 of all chunks' bytes.

    ``chunks``: anything with a buffer, in the order of their indices.
    """
    found = hashlib.sha256()
    for chunk in chunks:
        found.update(chunk)
    return version.to_bytes(VERSION, "big") + found.digest()


def version_in(digest: bytes) -> int:
    """Return the version that a digest is of."""
    return int.from_bytes(digest[:VERSION], "big")


def digest_in(text: str) -> bytes:
    """Return the digest in what a client has signed, base64; whether the signature is its is not looked at.

    Nothing where it is no such text.
    """
    try:
        return from_text(text)[-SIGNATURE - DIGEST : -SIGNATURE]
    except BadMessage:
        return b""


def of_most(digests: Mapping[int, bytes]) -> bytes:
    """Return the digest that most have; of several the one that comes first in the order of the keys."""
    return Counter(digests[key] for key in sorted(digests)).most_common(1)[0][0]
