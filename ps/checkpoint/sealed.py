"""Sealed JSON: values in a file with the hash of all of it, so that one changed byte is seen."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from ps.checkpoint.place import CheckpointPlace, read_all, write_all
from ps.errors import CheckpointError
from ps.regular_file import shown

MOST = 256 << 20
"""Bytes of such a file, at most."""
_SEAL = "sha256"


def write_sealed(place: CheckpointPlace, name: str, values: Mapping[str, Any]) -> None:
    """Write a new file. Raises FileExistsError, CheckpointError."""
    write_all(place, name, sealed(values))


def sealed(values: Mapping[str, Any]) -> bytes:
    """Return values, whose names are texts, as a file has them."""
    return _text({**values, _SEAL: _digest(values)})


def read_sealed(place: CheckpointPlace, name: str) -> dict[str, Any]:
    """Return the values of a file. Raises FileNotFoundError, and CheckpointError where it is not as it was written."""
    data = read_all(place, name, MOST)
    try:
        found = json.loads(data)
        del found[_SEAL]
        whole = data == sealed(found)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        whole = False
    if not whole:
        raise CheckpointError(f"{shown(name)} is damaged or cut short")
    values: dict[str, Any] = found
    return values


def _text(values: Mapping[str, Any]) -> bytes:
    return json.dumps(values, indent=0, sort_keys=True, allow_nan=False).encode() + b"\n"


def _digest(values: Mapping[str, Any]) -> str:
    return hashlib.sha256(_text(values)).hexdigest()
