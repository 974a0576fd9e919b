"""TorchLoss: a loss of torch's that says what it averages over, so that micro-batches can be combined."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from ps.errors import UsageError
from ps.pipeline.arrays import leaves
from ps.pipeline.loss import PipelineLoss
from ps.torch.array_kind import TENSORS, tensor

FUNCTIONS: dict[Any, type[nn.Module]] = {
    functional.binary_cross_entropy: nn.BCELoss,
    functional.binary_cross_entropy_with_logits: nn.BCEWithLogitsLoss,
    functional.cross_entropy: nn.CrossEntropyLoss,
    functional.huber_loss: nn.HuberLoss,
    functional.kl_div: nn.KLDivLoss,
    functional.l1_loss: nn.L1Loss,
    functional.mse_loss: nn.MSELoss,
    functional.nll_loss: nn.NLLLoss,
    functional.smooth_l1_loss: nn.SmoothL1Loss,
    functional.soft_margin_loss: nn.SoftMarginLoss,
}
"""Functions, and the modules that do the same."""
HALVES = (torch.float16, torch.bfloat16)
CLASSES = (nn.CrossEntropyLoss, nn.NLLLoss)
"""Losses whose mean is over the labels that count, by their classes' weights."""
ELEMENTS = tuple(kind for kind in FUNCTIONS.values() if kind not in CLASSES)
"""Losses whose mean is over all numbers."""


class TorchLoss:
    """A loss made of two functions: ``TorchLoss(f, of=lambda y: y.numel())``; autograd has its gradient."""

    def __init__(self, function: Callable[[Any, Any], torch.Tensor], of: Callable[[Any], float] = len) -> None:
        """``function(output, y)`` returns the *sum* of the loss over the examples, a tensor with one number; ``of(y)``
        what that is divided by to be a mean."""
        self._function = function
        self._of = of

    def weight(self, y: Any) -> float:
        """Return what the sum is divided by."""
        return float(self._of(_tensors(y)))

    def __call__(self, output: Any, y: Any) -> tuple[float, Any]:
        """Return the sum, and its gradient by the output."""
        given = _tree(lambda each: each.detach().requires_grad_(each.is_floating_point()), output)
        wanted = [leaf for _, leaf in leaves(given, "") if isinstance(leaf, torch.Tensor) and leaf.requires_grad]
        with torch.enable_grad():
            value = self._function(_tree(_widened, given), _tensors(y))
        if not isinstance(value, torch.Tensor) or value.numel() != 1:
            raise UsageError("a loss returns its sum over the examples, a tensor with one number")
        found = iter(torch.autograd.grad(value, wanted, allow_unused=True))
        gradient = _tree(lambda each: next(found) if each.requires_grad else None, given)
        return float(value.detach()), gradient


def _widened(value: torch.Tensor) -> torch.Tensor:
    """Return a tensor in which many losses can be added up: in float16 a sum ends at 65504."""
    return value.float() if value.dtype in HALVES else value


def loss_of(loss: Any) -> PipelineLoss:
    """Return a loss of torch's as one that says what it averages over. Raises UsageError where that is not known."""
    if isinstance(loss, PipelineLoss) and not isinstance(loss, nn.Module):
        return loss
    module = _module(loss)
    kind = type(module)
    if kind not in (*CLASSES, *ELEMENTS):
        name = getattr(loss, "__name__", type(loss).__name__)
        raise UsageError(
            f"the loss {name} does not say what it averages over, so its micro-batches cannot be combined: give "
            f"ps.torch.TorchLoss(f, of=...), where f(output, y) returns the sum of the loss over the examples and "
            f"of(y) what that is divided by (len: examples)"
        )
    if module.reduction == "none":
        raise UsageError(f"the loss {kind.__name__} with reduction='none' is no number: 'mean' or 'sum'")
    summed = copy.copy(module)
    summed.reduction = "sum"
    if module.reduction == "sum":
        return TorchLoss(summed, lambda y: 1.0)
    if module.reduction == "batchmean":
        return TorchLoss(summed, len)
    return TorchLoss(summed, functools.partial(_labels, summed) if kind in CLASSES else torch.numel)


def _module(loss: Any) -> Any:
    """Return the module that a function of torch's, with or without arguments, stands for."""
    if isinstance(loss, functools.partial) and loss.func in FUNCTIONS and not loss.args:
        return FUNCTIONS[loss.func](**loss.keywords)
    return FUNCTIONS[loss]() if not isinstance(loss, nn.Module) and _is_known(loss) else loss


def _is_known(loss: Any) -> bool:
    return any(loss is function for function in FUNCTIONS)


def _labels(loss: Any, y: torch.Tensor) -> float:
    """Return how much the labels weigh that are not ignored; where they are probabilities, how many there are."""
    if y.is_floating_point():
        return float(y.numel() / (y.shape[1] if y.ndim > 1 else y.shape[0]))
    counts = y != loss.ignore_index
    if loss.weight is None:
        return float(counts.sum())
    return float(loss.weight.double()[torch.where(counts, y, 0)][counts].sum())


def _tree(function: Callable[[Any], Any], values: Any) -> Any:
    return TENSORS.tree(lambda each: function(tensor(each)), values)


def _tensors(values: Any) -> Any:
    return _tree(lambda each: each, values)
