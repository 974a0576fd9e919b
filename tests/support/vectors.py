"""What the tests of compression share: every codec, and vectors of every size and magnitude."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from ps.compress import CODECS, Codec, Key

ALL = ("none", "fp16", "bf16", "int8", "onebit", "topk:0.05", "randomk:0.05", "powersgd:2")
REMEMBERING = ("onebit", "topk:0.05", "topk:0.05,momentum=0.9,warmup=4", "randomk:0.05", "powersgd:2")
KEY = Key(seed=5, clock=3, chunk=2, rank=1)


def codec(text: str) -> Codec:
    return CODECS.parse(text).build()


def decode(text: str, frame: np.ndarray, size: int, dtype: str = "float32", key: Key = KEY) -> np.ndarray:
    out = np.full(size, 7, dtype)
    codec(text).open(frame, size, dtype, key).write(out)
    return out


def encode(text: str, values: np.ndarray, key: Key = KEY) -> np.ndarray:
    return codec(text).encode(values, key, codec(text).init(values))


@st.composite
def vectors(draw: st.DrawFn, largest: float = 1e30) -> np.ndarray:
    """Vectors of 1 to 5000 elements, of one magnitude or many, down to denormals, with zeros and ties."""
    size = draw(st.integers(1, 5000) | st.sampled_from([1, 7, 8, 1023, 1024, 1025, 4096, 4097]))
    dtype = draw(st.sampled_from(["float32", "float64"]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    exponent = draw(st.sampled_from([-45, -40, -8, 0, 3, 29]))
    values = np.clip(rng.standard_normal(size), -9, 9) * 10.0**exponent
    shape = draw(st.sampled_from(["normal", "zeros", "mostly zeros", "ties", "spread"]))
    if shape == "zeros":
        values[:] = draw(st.sampled_from([0.0, -0.0]))
    elif shape == "mostly zeros":
        values *= rng.random(size) < 0.02
    elif shape == "ties":
        values = np.sign(values) * 10.0**exponent
    elif shape == "spread":
        values = rng.standard_normal(size) * 10.0 ** rng.uniform(-40, 29, size)
    return np.clip(values, -largest, largest).astype(dtype)
