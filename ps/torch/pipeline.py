"""Pipeline: a torch model that is a sequence of modules, as a pipeline of layers."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import torch

from ps import xp
from ps.errors import UsageError
from ps.pipeline import Pipeline as LayerPipeline
from ps.pipeline import Tied
from ps.pipeline.arrays import ArrayKind
from ps.torch import bare_names
from ps.torch.array_kind import tensors
from ps.torch.module_layer import ModuleLayer
from ps.torch.torch_loss import loss_of

WAY_OUT = (
    "a pipeline is torch.nn.Sequential(...), whose modules take one after the other what the one before returns. A "
    "model with branches is one: a module may take and return a tuple, and pass on what a later one needs"
)


def Pipeline(
    model: torch.nn.Sequential,
    loss: Any,
    *,
    cuts: Sequence[int] | int | None = None,
    schedule: str = "1f1b",
    recompute: bool = False,
    axis: Any = 0,
    label_axis: Any = 0,
    inexact: bool = False,
) -> LayerPipeline:
    """Return the pipeline that trains a sequence of modules; all is as in ``ps.Pipeline``.

    ``loss`` is a loss module of torch, or function of ``torch.nn.functional`` (also a ``functools.partial`` of one),
    or ``TorchLoss(f, of=...)``. Tensors have the names of ``model.state_dict()``. The modules' weights are the first
    values; those of modules on the meta device are drawn anew for the stages that a worker has, by the seed and their
    places. The model itself is not changed: its weights are in ``kv.params``, and ``kv.save`` writes them. Modules
    compute where the worker does (``--device``; with CuPy installed that is its GPU).

    Raises UsageError for what is no sequence, for a loss that does not say what it averages over, and for a tensor that
    cannot be trained.
    """
    inner = bare_names.unwrapped(model) if isinstance(model, torch.nn.Module) else model
    if not isinstance(inner, torch.nn.Sequential):
        raise UsageError(f"{type(model).__name__} is not sequential: {WAY_OUT}")
    return LayerPipeline(
        _layers(inner),
        loss_of(loss),
        cuts=cuts,
        schedule=schedule,
        recompute=recompute,
        axis=axis,
        label_axis=label_axis,
        inexact=inexact,
        arrays=functools.partial(_arrays, next((each for each in inner.parameters() if each.is_cuda), None)),
    )


def _arrays(there: torch.Tensor | None, device: xp.Device) -> ArrayKind:
    """Return the arrays on the device that the job's worker computes on. Raises UsageError for a model elsewhere."""
    if there is not None and device.backend is xp.NUMPY:
        raise UsageError(
            f"the model is on {there.device}, and this worker computes on the host, since there is no cupy or --device "
            f"is cpu: install paramserver[cuda12] or [cuda13], give --device cuda, or leave the model on the CPU"
        )
    return tensors(device)


def _layers(model: torch.nn.Sequential) -> dict[str, Any]:
    """Return the layers by name, with those that share tensors tied."""
    made: dict[int, ModuleLayer] = {}
    owners: dict[int, tuple[ModuleLayer, str]] = {}
    found: dict[str, Any] = {}
    for name, module in model._modules.items():
        if module is None:
            continue
        layer = made.get(id(module))
        if layer is None:
            layer = made[id(module)] = ModuleLayer(module, f"layer {name}")
        found[name] = layer
        shared: dict[int, tuple[ModuleLayer, dict[str, str]]] = {}
        for own, each in layer.tensors().items():
            source, theirs = owners.setdefault(id(each), (layer, own))
            if source is not layer:
                shared.setdefault(id(source), (source, {}))[1][own] = theirs
        for source, names in shared.values():
            found[name] = Tied(source, found[name], names)
    return found
