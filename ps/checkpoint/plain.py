"""Plain values as JSON has them, with arrays and bytes set aside: what scripts keep, without any code in it."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import numpy as np

from ps.errors import CheckpointError, UsageError
from ps.weights_file import DTYPES
from ps.xp import HostArray

MOST_DEPTH = 32


def packed(value: Any, name: str, arrays: dict[str, HostArray], depth: int = 0) -> Any:
    """Return a value as JSON has it; arrays of it go into ``arrays``, under names that begin with ``name``.

    Raises UsageError for what is none of the kinds that can be kept.
    """
    if depth > MOST_DEPTH:
        raise UsageError(f"{name}: it is nested in itself, or too deeply")
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int | np.integer):
        return {"int": str(int(value))} if abs(int(value)) >= 1 << 53 else int(value)
    if isinstance(value, float | np.floating):
        return {"float": float(value).hex()}
    if isinstance(value, bytes | bytearray):
        return {"bytes": base64.b64encode(value).decode()}
    if isinstance(value, np.ndarray) and value.dtype.name in DTYPES.values():
        arrays[name] = np.array(value)
        return {"array": name}
    if isinstance(value, list | tuple):
        kind = "list" if isinstance(value, list) else "tuple"
        return {kind: [packed(each, f"{name}/{i}", arrays, depth + 1) for i, each in enumerate(value)]}
    if isinstance(value, Mapping) and all(isinstance(key, str | int) for key in value):
        rows = enumerate(value.items())
        return {"dict": [[key, packed(each, f"{name}/{i}", arrays, depth + 1)] for i, (key, each) in rows]}
    kind = type(value).__name__
    raise UsageError(f"{name}: a checkpoint keeps numbers, texts, bytes, arrays, lists and dicts, not {kind}")


def unpacked(value: Any, arrays: Mapping[str, HostArray]) -> Any:
    """Return what ``packed`` was given. Raises CheckpointError."""
    match value:
        case {"int": str(text)}:
            return int(text)
        case {"float": str(text)}:
            return float.fromhex(text)
        case {"bytes": str(text)}:
            return base64.b64decode(text)
        case {"array": str(name)} if name in arrays:
            return arrays[name]
        case {"list": list(rows)}:
            return [unpacked(each, arrays) for each in rows]
        case {"tuple": list(rows)}:
            return tuple(unpacked(each, arrays) for each in rows)
        case {"dict": list(rows)}:
            return {key: unpacked(each, arrays) for key, each in rows}
        case None | bool() | str() | int():
            return value
    raise CheckpointError(f"the checkpoint has something that cannot be read: {value!r:.80}")
