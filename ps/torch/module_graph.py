"""ModuleGraph: autograd through several modules in a row at once, for one micro-batch.

What each of them computes is what it would by itself, forward and backward; the graph is gone through once instead of
once for each, and gradients are added up where they are wanted as they come, one tensor's beside the sums at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch

from ps.pipeline import ForwardPass
from ps.pipeline.arrays import leaves
from ps.pipeline.gradient_sums import GradientSums
from ps.torch.array_kind import TENSORS, array, tensor
from ps.torch.tensor_memory import seen
from ps.xp import Array

if TYPE_CHECKING:
    from ps.torch.module_layer import ModuleLayer

Add = Callable[[torch.Tensor], None]


class ModuleGraph:
    """A graph from an input and the parameters of the modules."""

    def __init__(self, x: Any, *, by_input: bool) -> None:
        """``by_input``: the gradient by the input is wanted."""
        self._by_input = by_input
        self._inputs = TENSORS.tree(leaf if by_input else lambda each: tensor(each).detach(), x)
        self._y = self._inputs
        self._weights: list[tuple[int, Mapping[str, Array], dict[str, torch.Tensor]]] = []

    def extend(self, place: int, layer: ModuleLayer, params: Mapping[str, Array], at: ForwardPass) -> None:
        """Go on through a module, the layer at this place."""
        self._y, weights = layer.forward_on(params, self._y, at)
        self._weights.append((place, params, weights))

    @property
    def shown(self) -> Any:
        """What has come out so far."""
        return self._y

    def output(self) -> Any:
        """Return what comes out, which is on no graph."""
        return TENSORS.tree(torch.Tensor.detach, self._y)

    def backward(self, dy: Any, sums: GradientSums) -> Any:
        """Add up the gradients by the parameters; return that by the input, None where it is not wanted or there is
        none. The graph is gone."""
        outputs, given = outputs_of(self._y, dy)
        inputs = differentiable(self._inputs) if self._by_input else []
        wanted: list[torch.Tensor] = []
        later: list[tuple[torch.Tensor, Add]] = []
        for place, params, weights in self._weights:
            for own in sums.names(place):
                if (weight := weights.get(own)) is None:
                    continue
                wanted.append(weight)
                if (begun := sums.begun(place, own)) is not None:
                    weight.grad = seen(begun)
                else:
                    later.append((weight, _adding(sums, place, own, params)))
        if not outputs or not (wanted or inputs):
            return None
        hooks = [weight.register_post_accumulate_grad_hook(_taken(add)) for weight, add in later if not weight.is_cuda]
        try:
            torch.autograd.backward(outputs, given, inputs=[*inputs, *wanted])
        finally:
            for hook in hooks:
                hook.remove()
        for weight, add in later:  # on a device they come on a thread of torch's
            if weight.grad is not None:
                add(weight.grad)
        for weight in wanted:
            weight.grad = None
        found = [each.grad for each in inputs]
        for each in inputs:
            each.grad = None
        return like(self._inputs, found) if inputs else None


def _adding(sums: GradientSums, place: int, own: str, params: Mapping[str, Array]) -> Add:
    return lambda gradient: sums.add(place, {own: array(gradient)}, params)


def _taken(add: Add) -> Add:
    """Return a hook that has a gradient added as soon as it is there."""

    def take(weight: torch.Tensor) -> None:
        if weight.grad is not None:
            add(weight.grad)
            weight.grad = None

    return take


def leaf(value: Any) -> torch.Tensor:
    """Return a tensor at which a graph begins."""
    found = tensor(value).detach()
    return found.requires_grad_(found.is_floating_point() or found.is_complex())


def only(tree: Any) -> list[torch.Tensor]:
    """Return the tensors of a tree, without what else is in it."""
    return [each for _, each in leaves(tree, "") if isinstance(each, torch.Tensor)]


def differentiable(tree: Any) -> list[torch.Tensor]:
    """Return the tensors of a tree by which there are gradients."""
    return [each for each in only(tree) if each.requires_grad]


def outputs_of(y: Any, dy: Any) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Return those outputs by which gradients are given, and these."""
    pairs = [
        (out, tensor(given))
        for (_, out), (_, given) in zip(leaves(y, ""), leaves(dy, ""), strict=True)
        if isinstance(out, torch.Tensor) and out.requires_grad and given is not None
    ]
    return [out for out, _ in pairs], [given for _, given in pairs]


def like(inputs: Any, found: list[Any]) -> Any:
    """Return the first of the gradients in the places of the inputs that they are of, and None in the others'."""
    given = iter(found)
    tree = TENSORS.tree(lambda each: next(given) if each.requires_grad else None, inputs)
    return tree if only(tree) else None
