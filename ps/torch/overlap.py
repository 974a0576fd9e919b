"""Overlap: gradients that are sent while the backward pass computes the others."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import partial

import torch

from ps.errors import UsageError
from ps.torch.tensor_memory import TensorMemory

INSTEAD = "leave out overlap=True, with which a gradient leaves as soon as it is computed"


class Overlap:
    """Which gradients of the coming step are sent, and what they were then.

    Hooks run on whatever thread computes a gradient (on a GPU it is one of torch's own), one at a time.
    """

    def __init__(
        self,
        memory: TensorMemory,
        parameters: Sequence[tuple[str, torch.Tensor]],
        accumulate: int,
        begin: Callable[[], None],
    ) -> None:
        """``begin`` is called before the first gradient of a step is sent. Raises UsageError for what cannot be."""
        self._memory = memory
        self._names = [name for name, _ in parameters]
        self._parameters = [parameter for _, parameter in parameters]
        self._accumulate = accumulate
        self._begin = begin
        self._counts = [0] * len(parameters)
        self._sent: dict[int, tuple[torch.Tensor, int, int]] = {}
        """By number of the parameter: its gradient, with its version and address."""
        self._steps = 0
        self._turn = threading.Lock()
        for index, parameter in enumerate(self._parameters):
            self._refuse_samples(index, parameter)
            parameter.register_post_accumulate_grad_hook(partial(self._accumulated, index))

    @property
    def sent(self) -> frozenset[int]:
        """The numbers of the parameters whose gradients are sent."""
        return frozenset(self._sent)

    def _refuse_samples(self, index: int, parameter: torch.Tensor) -> None:
        """Raise UsageError for a parameter with gradients of single examples: its own is not what is to be sent."""
        if "grad_sample" in parameter.__dict__:
            raise UsageError(
                f"parameter {self._names[index]!r} has a grad_sample, as Opacus keeps it: what is clipped and made "
                f"noisy there is known after the backward pass only. {INSTEAD.capitalize()}"
            )

    def _accumulated(self, index: int, parameter: torch.Tensor) -> None:
        with self._turn:
            self._counts[index] += 1
            if self._counts[index] < self._accumulate:
                return
            name, gradient = self._names[index], parameter.grad
            if index in self._sent:
                raise UsageError(
                    f"the gradient of {name!r} was sent in a backward pass before this one: step() comes after every "
                    f"{self._accumulate}. Say how many there are, DistributedOptimizer(..., accumulate=4), or {INSTEAD}"
                )
            self._refuse_samples(index, parameter)
            if gradient is None or gradient.is_sparse:
                return
            if not self._sent:
                self._begin()
            self._memory.send(index, gradient)
            self._sent[index] = gradient, gradient._version, gradient.data_ptr()

    def demand_unchanged(self) -> None:
        """Raise UsageError for a gradient that is not what was sent of it any more.

        torch counts writes, but for those through ``.data``, which are looked for in the steps 1, 2, 4, 8 and so on.
        """
        self._steps += bool(self._sent)
        every = self._steps & (self._steps - 1) == 0
        for index, (gradient, version, address) in self._sent.items():
            now = self._parameters[index].grad
            same = now is gradient and (gradient._version, gradient.data_ptr()) == (version, address)
            if not same or (every and not self._memory.has(index, gradient)):
                raise UsageError(
                    f"the gradient of {self._names[index]!r} was changed after it was sent. To clip, --clip-norm or "
                    f"--clip-value; GradScaler, gradients of several losses and what else changes them: {INSTEAD}"
                )

    def end(self) -> None:
        """Begin with the next step."""
        self._sent.clear()
        self._counts = [0] * len(self._counts)
