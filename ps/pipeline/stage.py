"""PipelineStage: a run of consecutive layers on one worker, and what it keeps of each micro-batch under way."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ps.errors import PSError, UsageError
from ps.pipeline.arrays import ArrayKind, is_finite, shown
from ps.pipeline.chain import Chain
from ps.pipeline.cutting_check import demand_additive, demand_same
from ps.pipeline.gradient_sums import GradientSums
from ps.pipeline.layer import ForwardPass, LayerGraph, StatefulLayer
from ps.pipeline.loss import PipelineLoss


class PipelineStage:
    """The layers at some places of a chain, for one step after the other. It sends nothing and waits for nothing."""

    def __init__(
        self,
        chain: Chain,
        places: range,
        kind: ArrayKind,
        loss: PipelineLoss,
        *,
        seed: int = 0,
        pipeline: int = 0,
        recompute: bool = False,
        splits: bool = False,
    ) -> None:
        """``loss`` counts in the stage with the last layer only. ``recompute``: of a micro-batch under way only the
        input is kept, and its forward pass is done again before its backward pass. ``splits``: backward passes come in
        two parts, for which each layer is gone through by itself."""
        self.places = places
        self._chain = chain
        self._kind = kind
        self._loss = loss
        self._seed = seed
        self._pipeline = pipeline
        self._recompute = recompute
        self._splits = splits

    @property
    def is_last(self) -> bool:
        return self.places.stop == len(self._chain)

    @property
    def gives_gradient(self) -> bool:
        """Whether a stage before this one needs the gradient by its output."""
        return self.places.start > self._first

    @property
    def under_way(self) -> int:
        """How many micro-batches it holds something of."""
        return len(self._saved)

    def begin(
        self, params: Mapping[str, Any], names: list[dict[str, str]], sums: GradientSums, first: int, step: int
    ) -> None:
        """Begin a step with these tensors, by whole name; ``first``: the first place in the chain that is trained."""
        self._have(params, names)
        self._sums = sums
        self._first = first
        self._step = step
        self._runs = list(self._rows())
        self._saved: dict[int, Any] = {}
        self._of_loss: dict[int, Any] = {}
        self._for_weights: dict[int, list[tuple[int, Any, Any]]] = {}

    def _have(self, params: Mapping[str, Any], names: list[dict[str, str]]) -> None:
        self._params, self._names = params, names
        self._by_place: dict[int, dict[str, Any]] = {}

    def _tensors(self, place: int) -> dict[str, Any]:
        """Return a layer's tensors: looked up with its first pass, for they may still be on their way before that."""
        if place not in self._by_place:
            self._by_place[place] = {own: self._params[name] for own, name in self._names[place].items()}
        return self._by_place[place]

    # Forward

    def forward(self, microbatch: int, x: Any) -> Any:
        """Return the output. Raises UsageError naming a layer that cannot work with what it is given."""
        keep = self.places.stop > self._first
        y, saved = self._forward(microbatch, x, keep=keep and not self._recompute)
        if keep:
            self._saved[microbatch] = x if self._recompute else saved
        return y

    def _rows(self) -> Iterator[range]:
        """Yield the layers one by one, or as many in a row as have one graph: none of them twice."""
        layers, start = self._chain.layers, self.places.start
        while start < self.places.stop:
            stop, kind, found = start + 1, type(layers[start]), {id(layers[start])}
            if self._is_graph(start):
                while stop < self.places.stop and type(layers[stop]) is kind and id(layers[stop]) not in found:
                    found.add(id(layers[stop]))
                    stop += 1
            yield range(start, stop)
            start = stop

    def _is_graph(self, place: int) -> bool:
        return not self._splits and place >= self._first and self._chain.graphs[place]

    def _forward(self, microbatch: int, x: Any, *, keep: bool, repeated: bool = False) -> tuple[Any, list[Any]]:
        saved: list[Any] = []

        def at(place: int) -> ForwardPass:
            return ForwardPass(self._seed, self._step, microbatch, place, repeated, self._pipeline)

        for places in self._runs:
            start = places.start
            if keep and self._is_graph(start):
                x, seen = self._graph_forward(places, x, at)
            else:
                for place in places:
                    x, seen = self._layer_forward(place, x, at(place))
            if keep:
                saved.append(seen if start >= self._first else None)
        return x, saved

    def _graph_forward(self, places: range, x: Any, at: Callable[[int], ForwardPass]) -> tuple[Any, LayerGraph]:
        layers = self._chain.layers
        graph = layers[places.start].graph(x, by_input=places.start > self._first)
        for place in places:
            params = self._tensors(place)
            with self._naming(place, params, graph.shown):
                graph.extend(place, layers[place], params, at(place))
        return graph.output(), graph

    def _layer_forward(self, place: int, x: Any, at: ForwardPass | None) -> tuple[Any, Any]:
        layer, params = self._chain.layers[place], self._tensors(place)
        with self._naming(place, params, x):
            training = at is not None and self._chain.trains[place]
            y, saved = layer.forward_at(params, x, at) if training else layer.forward(params, x)
        return y, saved

    @contextmanager
    def _naming(self, place: int, params: Mapping[str, Any], x: Any) -> Iterator[None]:
        """Have what goes wrong in a layer's forward pass be told with its name, its tensors and its input."""
        try:
            yield
        except PSError:
            raise
        except Exception as error:
            has = ", ".join(f"{name} {shown(value)}" for name, value in params.items()) or "no tensors"
            raise UsageError(
                f"{self._chain.describe(place)} has {has} and was given {shown(x)}"
                f"{f' by {self._chain.describe(place - 1)}' if place else ''}: {type(error).__name__}: {error}"
            ) from error

    def evaluate(self, params: Mapping[str, Any], names: list[dict[str, str]], x: Any) -> Any:
        """Return the output outside of training; nothing is kept."""
        self._have(params, names)
        for place in self.places:
            x, _ = self._layer_forward(place, x, None)
        return x

    def first_bad(self, params: Mapping[str, Any], names: list[dict[str, str]], x: Any) -> tuple[Any, str]:
        """Return the output, and the first layer that has NaN or Inf in its own, if any has."""
        self._have(params, names)
        for place in self.places:
            x, _ = self._layer_forward(place, x, None)
            if not is_finite(x, self._kind):
                return x, self._chain.describe(place)
        return x, ""

    def lose(self, microbatch: int, output: Any, y: Any, weight: float) -> float:
        """Return the sum of the loss, and keep its gradient, divided by the ``weight`` of the whole batch."""
        value, gradient = self._loss(output, y)
        if self.places.stop > self._first:
            divisor = weight or float("nan")
            self._of_loss[microbatch] = self._kind.tree(lambda leaf: leaf / divisor, gradient)
        return float(value)

    # Backward

    def backward(self, microbatch: int, dy: Any) -> Any:
        """Return the gradient by the input, and add up that of the tensors; None where nobody needs it."""
        return self._backward(microbatch, dy, whole=True)

    def backward_input(self, microbatch: int, dy: Any) -> Any:
        """Return the gradient by the input; that of the tensors is put off, where layers can do so."""
        return self._backward(microbatch, dy, whole=False)

    def backward_weights(self, microbatch: int) -> None:
        """Do what ``backward_input`` has put off."""
        for place, saved, dy in self._for_weights.pop(microbatch):
            self._add_weights(place, saved, dy)

    def _backward(self, microbatch: int, dy: Any, *, whole: bool) -> Any:
        kept = self._saved.pop(microbatch)
        if self._recompute:
            _, kept = self._forward(microbatch, kept, keep=True, repeated=True)
        if self.is_last:
            dy = self._of_loss.pop(microbatch)
        later = self._for_weights.setdefault(microbatch, []) if not whole else []
        for places in reversed(self._runs):
            if dy is None or places.start < self._first:
                return None
            saved = kept.pop()
            if self._is_graph(places.start):
                dy = saved.backward(dy, self._sums)
            else:
                dy = self._layer_backward(places.start, saved, dy, None if whole else later)
        return dy

    def _layer_backward(self, place: int, saved: Any, dy: Any, later: list[tuple[int, Any, Any]] | None) -> Any:
        """Return the gradient by a layer's input, if anybody needs it."""
        layer = self._chain.layers[place]
        params, wanted = self._tensors(place), self._sums.wanted(place)
        if self._chain.splits[place]:
            if place == self._first:
                if later is None:
                    self._add_weights(place, saved, dy)
                else:
                    later.append((place, saved, dy))
                return None
            if not wanted:
                return layer.backward_input(params, saved, dy)
            if later is not None:
                later.append((place, saved, dy))
                return layer.backward_input(params, saved, dy)
            if self._chain.adds[place]:
                self._add_weights(place, saved, dy)
                return layer.backward_input(params, saved, dy)
        dx, grads = layer.backward(params, saved, dy)
        self._add(place, grads)
        return dx if place > self._first else None

    def _add_weights(self, place: int, saved: Any, dy: Any) -> None:
        layer, params = self._chain.layers[place], self._tensors(place)
        into = self._sums.into(place) if self._chain.adds[place] else None
        if into is None:
            self._add(place, layer.backward_weights(params, saved, dy))
        else:
            layer.add_weights(params, saved, dy, into[0], fresh=into[1])

    def _add(self, place: int, grads: Mapping[str, Any]) -> None:
        self._sums.add(place, grads, self._tensors(place))

    # Around the step

    def check(self, one: Any, other: Any, both: Any) -> tuple[Any, Any, Any]:
        """Return the outputs for two micro-batches, and for both as one. Raises UsageError where a layer's differ."""
        for place in self.places:
            (one, _), (other, _), (both, _) = (self._layer_forward(place, x, None) for x in (one, other, both))
            demand_same(one, other, both, self._kind, self._chain.describe(place))
        return one, other, both

    def check_loss(self, outputs: tuple[Any, Any, Any], labels: tuple[Any, Any, Any]) -> None:
        """Raise UsageError if the loss of two micro-batches is not that of both as one."""
        demand_additive(self._loss, outputs, labels, self._kind)

    def finish(self) -> None:
        """End a step: buffers of layers that have such are written anew, once."""
        for place in self.places:
            layer = self._chain.layers[place]
            if isinstance(layer, StatefulLayer):
                layer.finish(self._tensors(place))
