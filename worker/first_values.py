"""FirstValues: what a model begins with: the script's arrays, or those of the file that the job's ``init`` names."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping

import numpy as np

from ps import xp
from ps.errors import UsageError
from ps.half import HALVES, SINGLE, narrow, widen
from ps.protocol.layout import Layout
from ps.weights_file import DTYPES, Entry, WeightsFile, bare, open_weights
from ps.worker.model import Model, check_values
from ps.worker.store import Masters
from ps.xp import Array, HostArray

SOURCE = "the job's init"
_NO_MASTER = np.empty(0, SINGLE)
MOST_NAMED = 3
"""Tensors that a message names, at most."""


class FirstValues:
    """A model's first values. The file is read by whoever needs some of it: the worker whose values count for all, and
    each worker with tensors that stay with it."""

    def __init__(self, model: Model, path: str | None) -> None:
        self._model = model
        self._path = path
        self._known: dict[str, str] = {}
        self._read = "", _NO_MASTER
        """The tensor that ``value`` was asked for last."""

    def own(self, arrays: Mapping[str, Array]) -> Mapping[str, Array]:
        """Return some of the model's tensors as they are to begin. Raises UsageError."""
        if self._path is None or not arrays:
            return arrays
        found = {name: np.empty(array.shape, array.dtype.newbyteorder("<")) for name, array in arrays.items()}
        with open_weights(self._path, SOURCE) as file:
            names = self._names(file)
            for name, array in found.items():
                file.read(names[name], array)
        return found

    def _names(self, file: WeightsFile) -> dict[str, str]:
        """Return what each tensor is called in the file, which is found out once. Raises UsageError."""
        if not self._known:
            self._known = _matched(file, self._model.all, {tensor.name for tensor in self._model.whole.tensors})
        return self._known

    def value(self, name: str) -> HostArray:
        """Return one tensor of the file, of any worker; it is asked for again and again. Raises UsageError."""
        assert self._path is not None
        if self._read[0] == name:
            return self._read[1]
        like = self._model.all[name]
        found = np.empty(like.shape, like.dtype)
        with open_weights(self._path, SOURCE) as file:
            names = self._names(file)
            if _has_master(like.dtype.name, file.entries[names[name]]):
                raise UsageError(
                    f"the file {file.path} ({SOURCE}) has the float32 master of {name!r}, and workers with parts of a "
                    f"model begin with copies: save it without masters"
                )
            file.read(names[name], found)
        self._read = name, found
        return found

    def fill(self, layout: Layout, values: HostArray) -> Masters:
        """Have the file's values of a layout in a flat buffer, if there is a file. Raises UsageError.

        Return the masters that it has of tensors in half precision; of a section with some, the others' are their
        values.
        """
        if self._path is None:
            return {}
        flat = layout.flat(values)
        views = layout.views(flat)
        with open_weights(self._path, SOURCE) as file:
            names = self._names(file)
            single = {t.section for t in layout.tensors if _has_master(t.dtype, file.entries[names[t.name]])}
            masters = {section: np.empty(flat[section].size, SINGLE) for section in single if section in flat}
            for tensor in layout.tensors:
                view, entry = views[tensor.name], file.entries[names[tensor.name]]
                master = masters.get(tensor.section, _NO_MASTER)[tensor.start : tensor.stop]
                if _has_master(tensor.dtype, entry):
                    file.read(names[tensor.name], master)
                    narrow(master, view.reshape(-1))
                else:
                    file.read(names[tensor.name], view)
                    if tensor.section in masters:
                        widen(view.reshape(-1), master)
                if tensor.kind == "trainable":
                    check_values(tensor, views[tensor.name], f" of the file {file.path}")
        self._check_ties(views)
        return masters

    def _check_ties(self, views: Mapping[str, HostArray]) -> None:
        """Raise UsageError where the file contradicts itself about what is one array in the script, a tied weight."""
        first: dict[object, str] = {}
        for name, array in self._model.arrays.items():
            if name not in views or not array.size:
                continue
            other = first.setdefault((*xp.extent(array), array.shape, array.strides, array.dtype.name), name)
            one, two = (views[each].reshape(-1).view(np.uint8) for each in (other, name))
            if not np.array_equal(one, two):
                raise UsageError(
                    f"the file {self._path} ({SOURCE}) has other values for {name!r} than for {other!r}, which are one "
                    f"array in the script: were they tied when the model was saved?"
                )


def _has_master(dtype: str, entry: Entry) -> bool:
    """Whether a file has the float32 master of a tensor of this dtype."""
    return dtype in HALVES and DTYPES.get(entry.dtype) == SINGLE.name


def _matched(file: WeightsFile, arrays: Mapping[str, Array], trained: Container[str]) -> dict[str, str]:
    """Return what each tensor of the model is called in the file. Raises UsageError unless it is that model's.

    Of what is ``trained`` in half precision it may have the float32 masters.
    """
    mine = bare(arrays)
    theirs = {text: name for name, text in bare(file.entries).items()}
    missing = [text for text in mine.values() if text not in theirs]
    extra = [text for text in theirs if text not in set(mine.values())]
    if len(missing) == len(mine) and extra:
        raise UsageError(
            f"the file {file.path} ({SOURCE}) is of another model: it has {_some(extra)}, and this one has "
            f"{_some(missing)}"
        )
    if missing or extra:
        lacks = [f"it lacks {_some(missing)}"] if missing else []
        more = [f"it also has {_some(extra)}, which the model has not"] if extra else []
        raise UsageError(f"the file {file.path} ({SOURCE}) does not fit the model: {'; '.join(lacks + more)}")
    for name, text in mine.items():
        entry, array = file.entries[theirs[text]], arrays[name]
        fits = DTYPES.get(entry.dtype) == array.dtype.name
        fits = fits or (name in trained and _has_master(array.dtype.name, entry))
        if entry.shape != tuple(array.shape) or not fits:
            raise UsageError(
                f"the file {file.path} ({SOURCE}) has {text!r} as {entry}; the model has "
                f"{array.dtype.name}{list(array.shape)}"
            )
    return {name: theirs[text] for name, text in mine.items()}


def _some(names: Iterable[str]) -> str:
    found = [repr(name) for name in names]
    more = len(found) - MOST_NAMED
    return ", ".join(found[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
