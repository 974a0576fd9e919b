"""ModuleLayer: a torch module as one of a pipeline's layers. Autograd goes through it, and no further, unless it goes
through several in a row (``ModuleGraph``)."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch

from ps.errors import UsageError
from ps.pipeline import ForwardPass
from ps.torch import bare_names
from ps.torch.array_kind import TENSORS, array, tensor
from ps.torch.batch_statistics import BatchStatistics
from ps.torch.drawing import drawing
from ps.torch.drawing_modules import may_draw
from ps.torch.lent_tensors import LentTensors
from ps.torch.module_graph import ModuleGraph, differentiable, leaf, like, only, outputs_of
from ps.torch.tensor_memory import numbers, seen
from ps.xp import Array

KINDS = {torch.float32: "buffer", torch.float64: "buffer", torch.int64: "counter"}


class ModuleLayer:
    """One module. Its weights are the connection's, and its own are only what training begins with.

    What it draws at random (dropout) follows from the seed, the step, the micro-batch and its place. Batch norm takes
    each micro-batch by itself; its running statistics are those of the whole batch, once for each step.
    """

    def __init__(self, module: torch.nn.Module, name: str) -> None:
        self._module = module
        self._name = name
        self._clones = any(getattr(part, "inplace", False) is True for part in module.modules())
        """Whether the module writes into what it is given, which may be the script's, or kept by the layer before."""
        self._tried = False
        """Whether it has been looked at whether it does so unsaid."""
        self._draws = may_draw(module)  # before there are hooks of ours
        self._lent = LentTensors(module)
        self._tensors: dict[str, tuple[Array, torch.Tensor]] = {}
        self._statistics = BatchStatistics(module, name)
        self._buffers = [own for own, _ in bare_names.buffers(module)]
        self._held = {**dict(module.named_buffers()), **dict(module.named_parameters())}

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return parameters and buffers of the model's state, by their first names."""
        return {**dict(bare_names.parameters(self._module)), **dict(bare_names.buffers(self._module))}

    # What a pipeline asks for

    @property
    def wraps(self) -> str:
        """The module's class."""
        return type(self._module).__name__

    def init(self, rng: np.random.Generator) -> dict[str, Array]:
        """Return the module's values; of one on the meta device fresh ones. Raises UsageError where there are none."""
        module = self._module
        if any(each.is_meta for each in self._held.values()):
            module = _materialised(module, int(rng.integers(1 << 63)), self._name)
        state = {**dict(bare_names.parameters(module)), **dict(bare_names.buffers(module))}
        return {own: numbers(each).copy() for own, each in state.items()}

    def kinds(self) -> dict[str, str]:
        """Return which tensors are frozen, and which are buffers."""
        frozen = {own: "frozen" for own, each in bare_names.parameters(self._module) if not each.requires_grad}
        return frozen | {own: KINDS.get(each.dtype, "frozen") for own, each in bare_names.buffers(self._module)}

    def forward(self, params: Mapping[str, Array], x: Any) -> tuple[Any, Any]:
        """Return the output in evaluation."""
        training = [module for module in self._module.modules() if module.training]
        for module in training:
            module.training = False
        try:
            with torch.no_grad():
                inputs = TENSORS.tree(tensor, x)
                if self._clones:
                    inputs = TENSORS.tree(torch.clone, inputs)
                state = dict(self._state(params))
                # what is measured, or looked at before the first step, changes nothing
                state |= {own: state[own].clone() for own in self._buffers if own in state}
                return self._lent.call(state, inputs), None
        finally:
            for module in training:
                module.training = True

    def forward_at(self, params: Mapping[str, Array], x: Any, at: ForwardPass) -> tuple[Any, Any]:
        """Return the output, and the graph to it from the input and the parameters."""
        inputs = TENSORS.tree(leaf, x)
        y, weights = self.forward_on(params, inputs, at)
        return TENSORS.tree(torch.Tensor.detach, y), (inputs, weights, y)

    def graph(self, x: Any, *, by_input: bool) -> ModuleGraph:
        """Begin a graph through this module and the next ones."""
        return ModuleGraph(x, by_input=by_input)

    def forward_on(self, params: Mapping[str, Array], x: Any, at: ForwardPass) -> tuple[Any, dict[str, torch.Tensor]]:
        """Return the output for what is on a graph, which goes on, and the parameters that are leaves of it."""
        state = self._statistics.scratch(dict(self._state(params)))
        versions = {own: each._version for own, each in state.items() if not each.requires_grad} if at.repeated else {}
        given = x if self._tried and not self._clones else TENSORS.tree(torch.clone, x)
        before = [] if self._tried else [each._version for each in only(given)]
        with torch.enable_grad(), self._statistics.noting(at):
            if self._draws:
                devices = {each.device.index for each in [*state.values(), *only(x)] if each.is_cuda}
                seed = int(np.random.SeedSequence(at.numbers).generate_state(1, np.uint64)[0])
                with drawing(seed, devices):
                    y = self._lent.call(state, given)
            else:
                y = self._lent.call(state, given)
        if not self._tried:
            self._tried = True
            self._clones = self._clones or before != [each._version for each in only(given)]
        if at.microbatch and not at.repeated:
            self._statistics.tell()
        changed = [own for own, version in versions.items() if state[own]._version != version]
        if own := next((own for own in changed if not self._statistics.has(own)), ""):
            raise UsageError(
                f"{self._name} changes its buffer {own} in each forward pass, and recompute=True does that twice: "
                f"leave it out"
            )
        return y, {own: each for own, each in state.items() if each.requires_grad}

    def backward(self, params: Mapping[str, Array], saved: Any, dy: Any) -> tuple[Any, dict[str, Array]]:
        """Return the gradients by the input and by the parameters."""
        inputs, weights, y = saved
        found = _gradients(y, dy, [*differentiable(inputs), *weights.values()], keep=False)
        return like(inputs, found), self._named(weights, found[len(found) - len(weights) :])

    def backward_input(self, params: Mapping[str, Array], saved: Any, dy: Any) -> Any:
        """Return the gradient by the input alone."""
        inputs, _, y = saved
        return like(inputs, _gradients(y, dy, differentiable(inputs), keep=True))

    def backward_weights(self, params: Mapping[str, Array], saved: Any, dy: Any) -> dict[str, Array]:
        """Return the gradients by the parameters alone."""
        _, weights, y = saved
        return self._named(weights, _gradients(y, dy, list(weights.values()), keep=False))

    def finish(self, params: Mapping[str, Array]) -> None:
        """Bring the running statistics of batch norm up to date with the step's batch."""
        self._statistics.finish({own: seen(params[own]) for own in params if self._statistics.has(own)})

    # Inside

    def _state(self, params: Mapping[str, Array]) -> Iterator[tuple[str, torch.Tensor]]:
        """Yield tensors over the memory of the connection's arrays; those to be trained are the leaves of graphs."""
        for own, each in params.items():
            known = self._tensors.get(own)
            if known is None or known[0] is not each:
                over = seen(each)
                held = self._held.get(own)
                known = each, over.requires_grad_(held is not None and held.requires_grad)
                self._tensors[own] = known
            yield own, known[1]

    def _named(self, weights: Mapping[str, torch.Tensor], found: list[Any]) -> dict[str, Array]:
        return {own: array(each) for own, each in zip(weights, found, strict=True) if each is not None}


def _gradients(y: Any, dy: Any, wanted: list[torch.Tensor], *, keep: bool) -> list[Any]:
    """Return the gradient by each of the tensors, or None, given that by some of the outputs."""
    outputs, given = outputs_of(y, dy)
    if not outputs or not wanted:
        return [None] * len(wanted)
    return list(torch.autograd.grad(outputs, wanted, given, retain_graph=keep, allow_unused=True))


def _materialised(module: torch.nn.Module, seed: int, name: str) -> torch.nn.Module:
    """Return a copy of a module on the meta device with fresh values. Raises UsageError where it has no way to."""
    kept = dict(bare_names.buffers(module))
    lost = next((own for own, each in module.named_buffers() if each.is_meta and own not in kept), "")
    if lost:
        raise UsageError(
            f"{name} has the buffer {lost} on the meta device, which is no part of the model's state, so nobody can "
            f"say what is in it: build it on the CPU"
        )
    made = copy.deepcopy(module).to_empty(device="cpu")
    with drawing(seed):
        for path, part in made.named_modules():
            own = [*part._parameters.values(), *part._buffers.values()]
            if not any(each is not None for each in own):
                continue
            reset = getattr(part, "reset_parameters", None)
            if reset is None:
                where = f" ({path})" if path else ""
                raise UsageError(
                    f"{name} has a {type(part).__name__}{where} on the meta device, which cannot "
                    f"be drawn anew: give it reset_parameters(), or build it on the CPU"
                )
            reset()
    return made
