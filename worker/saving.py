"""Saving: into which file a worker writes the model, and when. What is written is said by ``ps.weights_file``."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

from ps import xp
from ps.errors import PSError, UnsavedModel, UsageError
from ps.half import HALVES
from ps.regular_file import shown
from ps.weights_file import COPIES, MASTERS, check_weights, open_weights, write_one_by_one, write_weights
from ps.whole import check_writable, numbered
from ps.worker.parameters import Parameters
from ps.worker.store import Store, WholeModel

log = logging.getLogger("ps.worker")

NO_MASTERS = (
    "no worker has the whole model. Have the masters written from outside of the job: psctl follow --masters "
    "--scheduler ADDRESS --out DIRECTORY, which also has the last ones"
)


class Saving:
    """The wishes of ``--save`` and ``--save-every``; without a ``path`` there are none."""

    def __init__(self, path: str | None = None, every: int = 0, *, masters: bool = False) -> None:
        """``masters``: of what is trained in half precision they are saved, not the copies."""
        self.path = path
        self.masters = masters
        self._every = every
        self._seen = 0

    def check(self) -> None:
        """Raise UsageError when the file cannot be written."""
        if self.path is not None:
            check_writable(self._at(0), "the model")

    def demand(self, tensors: Mapping[str, Any]) -> None:
        """Raise UsageError for tensors that no file can hold, if they are to be saved."""
        if self.path is not None:
            check_weights(tensors)

    def begin(self, clock: int) -> None:
        """Count from this clock on."""
        self._seen = clock

    def is_due(self, clock: int) -> bool:
        """Whether the model of this clock is to be written while training goes on: the first from each multiple on."""
        before, self._seen = self._seen, clock
        every = self._every
        return self.path is not None and every > 0 and before // every < clock // every

    def now(self, clock: int, write: Callable[[str], None]) -> None:
        """Write the model of a clock. What goes wrong costs this file alone: there will be a later one."""
        try:
            write(self._at(clock))
        except UnsavedModel as error:
            log.warning("%s; training goes on", error)

    def last(self, clock: int, about: Mapping[str, str], write: Callable[[str], None], *, sole: bool) -> None:
        """Write the final model, unless another worker than the ``sole`` one has. Raises UnsavedModel."""
        path = self._at(clock)
        if not sole and _is_there(path, about):
            return
        write(path)
        log.info("the model of clock %d is in %s", clock, path)

    def _at(self, clock: int) -> str:
        assert self.path is not None
        return numbered(self.path, clock)


def about(store: Store) -> dict[str, str]:
    """Return what a file says of the model in it, besides its tensors."""
    return {"job": store.job_id, "mode": store.job.mode, "clock": str(store.clock)}


def write_model(path: str | PathLike[str], model: Parameters, store: Store, *, masters: bool = False) -> None:
    """Write all tensors of a model as they are, or those in half precision as their ``masters``.

    Raises UsageError; UnsavedModel, also when the masters cannot be had: then the copies are written.
    """
    place = check_writable(path, "the model")
    if store.whole is not None:
        _write_parts(place, store, store.whole(model.all), masters=masters)
        return
    tensors, said = {name: xp.to_host(array) for name, array in model.all.items()}, about(store)
    trouble: PSError | None = None
    if any(tensor.dtype in HALVES for tensor in model.layout.tensors):
        said["weights"] = COPIES
        if masters:
            try:
                clock, found = store.masters()
                tensors, said = {**tensors, **found}, {**said, "weights": MASTERS, "clock": str(clock)}
            except PSError as error:
                trouble = error
    write_weights(place, tensors, said)
    if trouble is not None:
        raise UnsavedModel(f"{shown(str(path))} has the {COPIES}, which cannot be had: {trouble}")


def _write_parts(path: Path, store: Store, model: WholeModel, *, masters: bool) -> None:
    """Write a model whose parts other workers have, one tensor after the other."""
    shapes, value = model
    said = about(store)
    if any(tensor.dtype in HALVES for tensor in shapes.values()):
        if masters:
            raise UsageError(f"kv.save with masters and mode = {store.job.mode}: {NO_MASTERS}")
        said["weights"] = COPIES
    write_one_by_one(path, shapes, value, said)


def _is_there(path: str, about: Mapping[str, str]) -> bool:
    """Whether a file holds the model that this is about already."""
    if not Path(path).is_file():
        return False
    try:
        with open_weights(path) as file:
            return about.items() <= file.about.items()
    except PSError:
        return False
