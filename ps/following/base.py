"""Base: the tensors of a model that are not trained, from a file: they complete what the servers have."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ps.errors import UsageError
from ps.weights_file import DTYPES, bare, open_weights
from ps.xp import HostArray

SOURCE = "--base"


def rest_of(path: str, trained: Mapping[str, tuple[int, ...]]) -> dict[str, HostArray]:
    """Return a file's tensors but those that are ``trained``, whose shapes by name are given.

    Raises UsageError unless the file is of that model: it has all of those, too, with these shapes.
    """
    found = {}
    with open_weights(path, SOURCE) as file:
        theirs = {text: name for name, text in bare(file.entries).items()}
        mine = bare(trained)
        for name, text in mine.items():
            entry = file.entries[theirs[text]] if text in theirs else None
            if entry is None or entry.shape != tuple(trained[name]):
                has = "lacks it" if entry is None else f"has it as {entry}"
                raise UsageError(
                    f"the file {path} ({SOURCE}) is of another model: the job trains {text!r}, {list(trained[name])}, "
                    f"and the file {has}"
                )
        for text in theirs.keys() - set(mine.values()):
            entry = file.entries[theirs[text]]
            if entry.dtype not in DTYPES:
                raise UsageError(f"the file {path} ({SOURCE}) has {text!r} as {entry}, which cannot be copied here")
            array = found[text] = np.empty(entry.shape, DTYPES[entry.dtype])
            file.read(theirs[text], array)
    return found
