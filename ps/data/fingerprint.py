"""Fingerprint: by what data are known again when a job goes on from a checkpoint, at the cost of a few rows."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from ps import xp
from ps.data.columns import Columns
from ps.data.stream import ExampleStream

ROWS, ELEMENTS = 64, 256
"""Examples of an array that are looked at, and elements of each: at most 128 KiB of eight bytes each."""
MOST_FIELDS = 20
"""Arrays that are told apart; of more only these."""


def fingerprint(source: Any) -> dict[str, Any]:
    """Return what a source of batches is known by, as JSON has it; nothing of a stream.

    ``examples``: how many; of arrays ``fields``: the dtype and shape of an example in each, and ``sample``: a hash of
    elements of examples that lie at equal distances. Examples that are read one by one may be changed as they are read,
    and cost what that costs, so of them there is the number alone.
    """
    if isinstance(source, ExampleStream):
        return {}
    about: dict[str, Any] = {"examples": len(source)}
    if isinstance(source, Columns):
        arrays = source.arrays[:MOST_FIELDS]
        about["fields"] = [f"{array.dtype}{list(array.shape[1:])}" for array in arrays]
        if not any(array.dtype.hasobject for array in arrays):
            about["sample"] = _sample(arrays)
    return about


def _sample(arrays: list[Any]) -> str:
    found = hashlib.sha256()
    for array in arrays:
        for row in np.unique(np.linspace(0, len(array) - 1, ROWS).astype(np.int64)) if len(array) else ():
            example = np.asarray(xp.to_host(array[row : row + 1]))
            found.update(example.flat[:: max(1, example.size // ELEMENTS)].tobytes())
    return found.hexdigest()[:16]


def other_data(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> Iterator[str]:
    """Yield in what data differ from those that a checkpoint knows, for people."""
    for name, text in (("examples", "they have {} examples, and had {}"), ("fields", "an example is {}, and was {}")):
        if name in ours and name in theirs and ours[name] != theirs[name]:
            yield text.format(_shown(ours[name]), _shown(theirs[name]))
            return
    if "sample" in ours and "sample" in theirs and ours["sample"] != theirs["sample"]:
        yield "they have other values"


def _shown(value: Any) -> str:
    return f"({', '.join(map(str, value))})" if isinstance(value, list) else str(value)
