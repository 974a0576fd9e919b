"""What a pipeline asks of a layer: three functions, and what it may have beside them. Layers hold no tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np

from ps.dataclass import dataclass
from ps.xp import Array


@runtime_checkable
class PipelineLayer(Protocol):
    """One layer of a model. It is given its tensors by their own names, without those of the layers around it.

    What goes in and out is an array or a tree of arrays (dicts, lists, tuples) that may have other things in it.
    """

    def init(self, rng: np.random.Generator) -> Mapping[str, Array]:
        """Return fresh tensors by name; an empty dict if there are none."""
        ...

    def forward(self, params: Mapping[str, Array], x: Any) -> tuple[Any, Any]:
        """Return the output, and what the backward pass needs of this one."""
        ...

    def backward(self, params: Mapping[str, Array], saved: Any, dy: Any) -> tuple[Any, Mapping[str, Array]]:
        """Return the gradient by the input and by each tensor, given that by the output."""
        ...


@runtime_checkable
class SplitLayer(PipelineLayer, Protocol):
    """A layer whose backward pass comes in two parts, so that the input's can go on its way first.

    Qi et al., Zero Bubble Pipeline Parallelism, 2023 (arXiv:2401.10241).
    """

    def backward_input(self, params: Mapping[str, Array], saved: Any, dy: Any) -> Any:
        """Return the gradient by the input, as ``backward`` does."""
        ...

    def backward_weights(self, params: Mapping[str, Array], saved: Any, dy: Any) -> Mapping[str, Array]:
        """Return the gradient by each tensor, as ``backward`` does."""
        ...


@runtime_checkable
class AddingLayer(SplitLayer, Protocol):
    """A layer that adds up the gradients of its tensors itself, without memory for one more of each."""

    def add_weights(
        self, params: Mapping[str, Array], saved: Any, dy: Any, into: Mapping[str, Array], *, fresh: bool
    ) -> None:
        """Add what ``backward_weights`` returns to what is in ``into``, which has those tensors that are trained; or
        put it there, where nothing is yet (``fresh``)."""
        ...


@dataclass(frozen=True, slots=True)
class ForwardPass:
    """Which forward pass of a training step this is: its numbers do not depend on where the model is cut."""

    seed: int
    step: int
    microbatch: int
    position: int
    """The layer's place in the list."""
    repeated: bool = False
    """Whether it was done before, and is done again to save memory."""
    pipeline: int = 0
    """Which of the pipelines of a job, as each has examples of its own."""

    def rng(self) -> np.random.Generator:
        """Return the same random numbers whenever this pass is done."""
        return np.random.default_rng(self.numbers)

    @property
    def numbers(self) -> list[int]:
        """What the random numbers of this pass follow from."""
        return [self.seed, self.pipeline, self.step, self.microbatch, self.position]


@runtime_checkable
class TrainingLayer(PipelineLayer, Protocol):
    """A layer that does something else in training than in evaluation, as dropout does.

    ``forward`` is for evaluation then.
    """

    def forward_at(self, params: Mapping[str, Array], x: Any, at: ForwardPass) -> tuple[Any, Any]:
        """Return what ``forward`` does, in training; the same for the same ``at``."""
        ...


class LayerGraph(Protocol):
    """What goes through layers in a row, for one micro-batch, and back through all of them at once."""

    def extend(self, place: int, layer: Any, params: Mapping[str, Array], at: ForwardPass) -> None:
        """Go on through the layer at this place."""
        ...

    @property
    def shown(self) -> Any:
        """What has come out so far, for messages."""
        ...

    def output(self) -> Any:
        """Return what comes out."""
        ...

    def backward(self, dy: Any, sums: Any) -> Any:
        """Add up the gradients by the layers' tensors (``GradientSums``), bit for bit as the layers do one by one;
        return that by the input, if it is wanted."""
        ...


@runtime_checkable
class GraphLayer(PipelineLayer, Protocol):
    """A layer of a library that has gradients by itself. Several of one library in a row have one graph."""

    def graph(self, x: Any, *, by_input: bool) -> LayerGraph:
        """Begin a graph; ``by_input``: the gradient by the input is wanted."""
        ...


@runtime_checkable
class StatefulLayer(PipelineLayer, Protocol):
    """A layer with tensors that have no gradients, as the statistics of batch norm, or what is frozen."""

    def kinds(self) -> Mapping[str, str]:
        """Return what these tensors are, by their own names: ``buffer``, ``counter`` or ``frozen``."""
        ...

    def finish(self, params: Mapping[str, Array]) -> None:
        """Write the buffers among its tensors anew, once at the end of each training step."""
        ...


@runtime_checkable
class WrappedLayer(PipelineLayer, Protocol):
    """A layer around something of another library."""

    @property
    def wraps(self) -> str:
        """What that is called in messages."""
        ...


@dataclass(frozen=True, slots=True)
class Tied:
    """A layer that computes with the tensors of another one in the list, as a head does with an embedding's.

    ``Pipeline([embed, block, Tied(embed, Head())])``: what ``layer`` itself would begin with is not asked for.
    """

    source: Any
    """The layer whose tensors they are: the same object as in the list."""
    layer: Any
    """What is done with them."""
    names: Mapping[str, str] | None = None
    """The layer's own names of what it shares, and what the source calls them; None for all. The rest is its own."""
