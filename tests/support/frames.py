"""Frames: what a codec makes of a chunk, for tests that only need some that are right."""

from __future__ import annotations

import functools

import numpy as np

from ps.compress import Key
from ps.config.job import JobConfig


@functools.cache
def frame(codec: str, size: int, dtype: str = "float32") -> bytes:
    """Return a frame of so many elements."""
    made = JobConfig(compress=codec).specs.compress.build()
    values = np.linspace(-1, 1, size, dtype=dtype)
    return np.asarray(made.encode(values, Key(0, 0, 0, 0), made.init(values))).tobytes()
