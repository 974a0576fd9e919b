"""Batches of examples that come one by one: fields stacked into arrays where that can be done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


def collate(examples: Sequence[Any]) -> Any:
    """Return a batch shaped as one example is: tuples of fields, dicts of fields, numbers and arrays.

    Numbers, and arrays of one shape, become an array with the examples along its first axis. What has no such form
    (texts, arrays of different lengths) stays a list.
    """
    first = examples[0]
    if isinstance(first, Mapping):
        return {name: collate([example[name] for example in examples]) for name in first}
    if isinstance(first, tuple):
        return tuple(collate(field) for field in zip(*examples, strict=True))
    try:
        found = np.asarray([np.asarray(example) for example in examples])
    except (TypeError, ValueError, RuntimeError):  # of different shapes, or nothing that NumPy knows
        return list(examples)
    return found if found.dtype.kind in "biufc" else list(examples)


def size_of(batch: Any) -> int:
    """Return how many examples a batch has; 0 where that cannot be told."""
    if isinstance(batch, Mapping):
        batch = next(iter(batch.values()), ())
    elif isinstance(batch, tuple | list) and batch:
        batch = batch[0]
    try:
        return len(batch)
    except TypeError:
        return 0
