"""ModuleLayer: a torch module as one of a pipeline's layers: autograd goes through it, and no further."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch

from ps.errors import UsageError
from ps.pipeline import ForwardPass
from ps.pipeline.arrays import leaves
from ps.torch import bare_names
from ps.torch.array_kind import TENSORS, array, tensor
from ps.torch.batch_statistics import BatchStatistics
from ps.torch.drawing import drawing
from ps.torch.tensor_memory import numbers, seen
from ps.xp import Array

KINDS = {torch.float32: "buffer", torch.float64: "buffer", torch.int64: "counter"}
_IN_PLACE = "in-place operation"


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
                return self._call(state, inputs), None
        finally:
            for module in training:
                module.training = True

    def forward_at(self, params: Mapping[str, Array], x: Any, at: ForwardPass) -> tuple[Any, Any]:
        """Return the output, and the graph to it from the input and the parameters."""
        seed = int(np.random.SeedSequence(at.numbers).generate_state(1, np.uint64)[0])
        state = self._statistics.scratch(dict(self._state(params)))
        versions = {own: each._version for own, each in state.items() if not each.requires_grad}
        inputs = TENSORS.tree(_leaf, x)
        devices = {each.device.index for each in [*state.values(), *_only(inputs)] if each.is_cuda}
        with drawing(seed, devices), torch.enable_grad(), self._statistics.noting(at):
            try:
                y = self._call(state, TENSORS.tree(torch.clone, inputs) if self._clones else inputs)
            except RuntimeError as error:
                if self._clones or _IN_PLACE not in str(error):
                    raise
                self._clones = True  # from now on
                with drawing(seed, devices):
                    y = self._call(state, TENSORS.tree(torch.clone, inputs))
        if at.microbatch and not at.repeated:
            self._statistics.tell()
        if at.repeated:
            changed = [own for own, version in versions.items() if state[own]._version != version]
            if own := next((own for own in changed if not self._statistics.has(own)), ""):
                raise UsageError(
                    f"{self._name} changes its buffer {own} in each forward pass, and recompute=True does that twice: "
                    f"leave it out"
                )
        weights = {own: each for own, each in state.items() if each.requires_grad}
        return TENSORS.tree(torch.Tensor.detach, y), (inputs, weights, y)

    def backward(self, params: Mapping[str, Array], saved: Any, dy: Any) -> tuple[Any, dict[str, Array]]:
        """Return the gradients by the input and by the parameters."""
        inputs, weights, y = saved
        found = _gradients(y, dy, [*_differentiable(inputs), *weights.values()], keep=False)
        return _like(inputs, found), self._named(weights, found[len(found) - len(weights) :])

    def backward_input(self, params: Mapping[str, Array], saved: Any, dy: Any) -> Any:
        """Return the gradient by the input alone."""
        inputs, _, y = saved
        return _like(inputs, _gradients(y, dy, _differentiable(inputs), keep=True))

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

    def _call(self, state: dict[str, torch.Tensor], x: Any) -> Any:
        return torch.func.functional_call(self._module, state, (x,), strict=False)

    def _named(self, weights: Mapping[str, torch.Tensor], found: list[Any]) -> dict[str, Array]:
        return {own: array(each) for own, each in zip(weights, found, strict=True) if each is not None}


def _leaf(value: Any) -> torch.Tensor:
    """Return a tensor at which a graph begins."""
    found = tensor(value).detach()
    return found.requires_grad_(found.is_floating_point() or found.is_complex())


def _differentiable(tree: Any) -> list[torch.Tensor]:
    return [leaf for _, leaf in leaves(tree, "") if isinstance(leaf, torch.Tensor) and leaf.requires_grad]


def _gradients(y: Any, dy: Any, wanted: list[torch.Tensor], *, keep: bool) -> list[Any]:
    """Return the gradient by each of the tensors, or None, given that by some of the outputs."""
    pairs = [
        (out, tensor(given))
        for (_, out), (_, given) in zip(leaves(y, ""), leaves(dy, ""), strict=True)
        if isinstance(out, torch.Tensor) and out.requires_grad and given is not None
    ]
    if not pairs or not wanted:
        return [None] * len(wanted)
    outputs, given = zip(*pairs, strict=True)
    return list(torch.autograd.grad(outputs, wanted, given, retain_graph=keep, allow_unused=True))


def _like(inputs: Any, found: list[Any]) -> Any:
    """Return the first of the gradients in the places of the inputs that they are of, and None in the others'."""
    given = iter(found)
    tree = TENSORS.tree(lambda leaf: next(given) if leaf.requires_grad else None, inputs)
    return tree if any(leaf is not None for _, leaf in leaves(_only(tree), "")) else None


def _only(tree: Any) -> list[Any]:
    return [leaf for _, leaf in leaves(tree, "") if isinstance(leaf, torch.Tensor)]


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
