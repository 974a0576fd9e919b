"""Masks: the words that hide a contribution, any part of which can be made without the rest.

AES-256 in counter mode; the counter is the place in the model, so that each server makes the masks of its own chunks
alone. Keys are derived with HKDF (RFC 5869) from a secret, the job, the round, the attempt and whose it is.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from ps.xp import HostArray

BLOCK = 16
"""Bytes of the cipher's block: a chunk's masks begin at a multiple of it."""
KEY = 32
"""Bytes of a key."""
_ZEROS = bytes(1 << 20)


def derive(secret: bytes, *about: Any, size: int = KEY) -> bytes:
    """Return a key from a secret and what it is for: texts and whole numbers, which nothing else has in that order."""
    info = b"".join(len(part).to_bytes(4, "big") + part for part in (str(each).encode() for each in about))
    return HKDF(SHA256(), size, None, b"paramserver secure aggregation" + info).derive(secret)


def words(key: bytes, offset: int, count: int, dtype: np.dtype[Any]) -> HostArray:
    """Return ``count`` words of a key's masks from byte ``offset`` on, a multiple of ``BLOCK``."""
    counter = (offset // BLOCK).to_bytes(16, "big")
    cipher = Cipher(algorithms.AES(key), modes.CTR(counter)).encryptor()
    nbytes = count * dtype.itemsize
    zeros = _ZEROS[:nbytes] if nbytes <= len(_ZEROS) else bytes(nbytes)
    return np.frombuffer(cipher.update(zeros), dtype)


Signed = Iterable[tuple[bytes, int]]
"""Keys, each with 1 where its masks are added and -1 where they are taken off."""


def apply_masks(vector: HostArray, offset: int, keys: Signed, *, inverse: bool = False) -> None:
    """Add the masks of all keys to words, in place, modulo 2^w; with ``inverse`` take them off."""
    for key, sign in keys:
        masks = words(key, offset, vector.size, vector.dtype)
        operate = np.add if (sign > 0) != inverse else np.subtract
        operate(vector, masks, out=vector)
