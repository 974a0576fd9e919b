"""Export: the model of a checkpoint as one file of weights, for whatever reads such files."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from ps.checkpoint.claim import chosen, source_of
from ps.checkpoint.parts import BESIDE
from ps.checkpoint.stored_model import StoredModel
from ps.half import HALVES
from ps.weights_file import COPIES, MASTERS, write_one_by_one
from ps.whole import check_writable
from ps.xp import HostArray


def export_model(directory: str, file: str, *, masters: bool = False) -> str:
    """Write the model of a folder's newest whole checkpoint, or of the one that is named; return a line about it.

    Tensors that are not trained are those of the worker with rank 0. Raises UsageError, CheckpointError.
    """
    path = check_writable(file, "the model")
    lines: list[str] = []
    source, wanted = source_of(directory)
    manifest = chosen(source, wanted, lines.append)
    model = StoredModel(source, manifest)
    beside = {name: array for name, array in (model.worker(0) or {}).items() if name.startswith(BESIDE)}
    values: dict[str, Callable[[], HostArray]] = {}
    shapes: dict[str, HostArray] = {}
    has_halves = False
    for tensor in manifest.layout.tensors:
        half = tensor.dtype in HALVES
        has_halves |= half
        dtype = np.dtype(np.float32) if half and masters else np.dtype(tensor.dtype)
        shapes[tensor.name] = np.broadcast_to(np.zeros((), dtype), tensor.shape)
        values[tensor.name] = lambda name=tensor.name: model.tensor(name, masters=masters)  # type: ignore[misc]
    for name, array in beside.items():
        shapes[name.removeprefix(BESIDE)] = array
        values[name.removeprefix(BESIDE)] = lambda array=array: array  # type: ignore[misc]
    about: Mapping[str, str] = {
        "mode": str(manifest.job.get("mode", "")),
        "clock": str(manifest.step),
        **({"weights": MASTERS if masters else COPIES} if has_halves else {}),
    }
    write_one_by_one(path, shapes, lambda name: values[name](), about)
    passed = f" ({'; '.join(lines)})" if lines else ""
    return f"the model of step {manifest.step} is in {path}: {len(shapes)} tensors{passed}"
