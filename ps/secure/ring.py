"""Encoding: numbers as integers of a ring, so that a sum under masks is the sum, and what it can hold.

Clip, scale, round by chance, add modulo 2^w (Bonawitz et al., Practical secure aggregation, CCS 2017; rounding after
Alistarh et al., QSGD, NeurIPS 2017). Nothing here is secret: masks are in ``masks``.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ps.dataclass import dataclass
from ps.errors import ConfigError
from ps.xp import HostArray

BLOCK = 1 << 16
MOST_BITS = {16: 16, 32: 24}
"""Bits of one element, at most, by the ring's: more than a float32's are of no use."""
LEAST_BITS = 4
BITS_BESIDE_NOISE = {16: 6, 32: 14}
"""Bits of one element where clients add noise, unless they are set: the ring has more to hold."""
FIXED_BITS, FIXED_STEP = 48, 2.0**-24
"""Numbers that are added up exactly: whole multiples of the step, below 2^23 in magnitude."""


@dataclass(frozen=True, slots=True)
class Encoding:
    """What a job's clients and servers agree on: all of it public.

    ``ring``: bits of a word, 16 or 32. ``clients``: contributions to one sum, at most. ``clip``: the largest magnitude
    of an element; ``bits``: of one element before masks. ``headroom``: the largest magnitude of a sum of noise that
    clients add (differential privacy), in steps.
    """

    ring: int
    clients: int
    clip: float
    bits: int
    headroom: int = 0

    @property
    def dtype(self) -> np.dtype[Any]:
        """A word's."""
        return np.dtype(f"<u{self.ring // 8}")

    @property
    def levels(self) -> int:
        """The largest integer that one element becomes; beside noise an even one, so that 0 is a whole number too."""
        return (1 << self.bits) - (2 if self.headroom else 1)

    @property
    def step(self) -> float:
        """What one is worth."""
        return 2 * self.clip / self.levels

    # What is trained

    def encode(self, values: HostArray, weight: float, rng: np.random.Generator) -> tuple[HostArray, int]:
        """Return elements times ``weight`` (0 to 1) as words, and how many were clipped. ``values``: 1-D, finite."""
        out = np.empty(values.size, self.dtype)
        clipped, scale, highest = 0, weight / self.step, np.float32(self.levels)
        for lo in range(0, values.size, BLOCK):
            part = values[lo : lo + BLOCK]
            clipped += int(np.count_nonzero(np.abs(part) > self.clip))
            work: Any = np.clip(part, -self.clip, self.clip).astype(np.float64 if self.bits > 16 else np.float32)
            work *= scale
            work += self.levels / 2
            work += rng.random(part.size, np.float32)
            np.floor(work, out=work)
            np.clip(work, 0, highest, out=work)
            out[lo : lo + BLOCK] = work.astype(self.dtype)
        return out, clipped

    def wrap(self, whole: HostArray) -> HostArray:
        """Return whole steps, int64, noise included, as words: modulo 2^w, as all that follows."""
        return (whole + self.levels // 2).astype(self.dtype)

    def decode(self, total: HostArray, count: int, dtype: Any) -> HostArray:
        """Return the sum that ``total``, words, is of so many clients' elements."""
        shifted = (total + self.dtype.type(self.headroom)).astype(np.int64) - self.headroom
        return np.asarray((shifted - count * (self.levels / 2)) * self.step, dtype)

    # What is added up exactly

    @property
    def digit_bits(self) -> int:
        """Bits of a digit: so many clients' digits have room in a word."""
        return min(16, int(math.log2(((1 << self.ring) - 1) // self.clients + 1)))

    def digits(self, bits: int) -> int:
        """Return how many words a number of ``bits`` bits takes."""
        return -(-bits // self.digit_bits)

    def split(self, numbers: HostArray, bits: int) -> HostArray:
        """Return whole numbers modulo 2^bits (1-D, int64 or uint64) as digits, one number after the other."""
        rest = numbers.astype(np.int64).view(np.uint64)
        base, count = self.digit_bits, self.digits(bits)
        mask = np.uint64((1 << base) - 1)
        rows = [(rest >> np.uint64(base * place)) & mask for place in range(count)]
        rows[-1] &= np.uint64((1 << (bits - base * (count - 1))) - 1)
        return np.stack(rows, axis=1).ravel().astype(self.dtype)

    def join(self, total: HostArray, bits: int) -> HostArray:
        """Return the sums, modulo 2^bits as uint64, of what ``total`` has the digits' sums of."""
        count = self.digits(bits)
        found = np.zeros(total.size // count, np.uint64)
        for place, row in enumerate(total.reshape(-1, count).T):
            found += row.astype(np.uint64) << np.uint64(self.digit_bits * place)
        return found & np.uint64((1 << bits) - 1)

    def fix(self, values: HostArray, weight: float = 1.0) -> HostArray:
        """Return numbers times ``weight`` as multiples of a fixed step, clipped far out, as digits."""
        most = float((1 << (FIXED_BITS - 1)) - 1) / self.clients
        whole = np.clip(np.rint(values.astype(np.float64) * weight / FIXED_STEP), -most, most)
        return self.split(whole.astype(np.int64), FIXED_BITS)

    def unfix(self, total: HostArray, dtype: Any) -> HostArray:
        """Return the sums of what was made by ``fix``."""
        found = self.join(total, FIXED_BITS).astype(np.int64)
        return (np.where(found >= 1 << (FIXED_BITS - 1), found - (1 << FIXED_BITS), found) * FIXED_STEP).astype(dtype)


def encoding_beside_noise(ring: int, clients: int, clip: float, bits: int = 0) -> Encoding:
    """Return the encoding for so many clients that leaves all other room for noise.

    Raises ConfigError where not even what is sent without noise has room.
    """
    bits = bits or BITS_BESIDE_NOISE[ring]
    plain = encoding_for(ring, clients, clip, bits)
    return Encoding(ring, clients, clip, bits, ((1 << ring) - 1 - clients * plain.levels) // 2)


def encoding_for(ring: int, clients: int, clip: float, bits: int = 0, headroom: int = 0) -> Encoding:
    """Return the encoding for so many clients, with the most bits that there is room for unless ``bits`` says how many.

    Raises ConfigError, with the numbers, where the sum could wrap, or has no room for what is worth sending.
    """
    room = (1 << ring) - 1 - 2 * headroom
    most = min(MOST_BITS[ring], int(math.log2(max(1, room // max(1, clients)) + 1)))
    if bits and clients * ((1 << bits) - 1) > room:
        raise ConfigError(
            f"{clients} clients of {bits} bits add up to {clients * ((1 << bits) - 1)}, and {ring} bits "
            f"hold {room}: they would wrap. Take at most bits={most}, or ring=32"
        )
    if (bits or most) < LEAST_BITS:
        raise ConfigError(
            f"{clients} clients leave {most} bits for an element in a ring of {ring} bits, and {LEAST_BITS} are the "
            f"least: take ring=32, or fewer --clients-per-round"
        )
    return Encoding(ring, clients, clip, bits or most, headroom)
