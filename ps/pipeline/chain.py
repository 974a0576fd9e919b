"""Chain: a model as the list of its layers, what their tensors are called, and which layers share theirs.

A tensor's name is the layer's place in the list and its own name, ``2.weight``: it does not depend on where the model
is cut. Each layer's first values follow from the seed and its place alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import numpy as np

from ps.errors import UsageError
from ps.pipeline.layer import (
    AddingLayer,
    GraphLayer,
    PipelineLayer,
    SplitLayer,
    StatefulLayer,
    Tied,
    TrainingLayer,
    WrappedLayer,
)
from ps.xp import Array

T = TypeVar("T")


class Chain:
    """The layers in order, each with a name: its place, or its key where they were given as a dict."""

    def __init__(self, layers: Any) -> None:
        """Raises UsageError for what is no list of layers, and for tensors that are those of no layer in it."""
        if isinstance(layers, Mapping):
            names, given = [str(key) for key in layers], list(layers.values())
        elif isinstance(layers, list | tuple):
            names, given = [str(place) for place in range(len(layers))], list(layers)
        else:
            raise UsageError(
                f"a pipeline is a list of layers, each of which takes what the one before it returns, not a "
                f"{type(layers).__name__}. A model with branches is one: a layer may take and return a tuple, and pass "
                f"on what a later one needs"
            )
        if not given:
            raise UsageError("a pipeline has at least one layer")
        self.names = names
        self.layers: list[Any] = []
        self.splits: list[bool] = []
        """Which of them are a SplitLayer, as is asked in every pass."""
        self.trains: list[bool] = []
        """Which of them are a TrainingLayer."""
        self.adds: list[bool] = []
        """Which of them are an AddingLayer."""
        self.graphs: list[bool] = []
        """Which of them are a GraphLayer."""
        self._sources: list[int] = []
        """For each layer the place of the one whose tensors it has: its own, or the first place of the same object."""
        self._shared: list[dict[str, tuple[int, str]]] = []
        """For each layer the tensors that it shares, where not all: whose they are, and what they are called there."""
        for place, layer in enumerate(given):
            source, shared = layer, dict[str, tuple[int, str]]()
            while isinstance(layer, Tied):
                at = self._first(given, layer.source, place)
                if layer.names is None:
                    source = layer.source
                else:
                    shared |= {own: (at, theirs) for own, theirs in layer.names.items()}
                layer = layer.layer
            if not isinstance(layer, PipelineLayer):
                raise UsageError(
                    f"layer {names[place]} is a {type(layer).__name__}, which has not the three functions of a layer: "
                    f"init(rng), forward(params, x) and backward(params, saved, dy)"
                )
            self.layers.append(layer)
            self.splits.append(isinstance(layer, SplitLayer))
            self.trains.append(isinstance(layer, TrainingLayer))
            self.adds.append(isinstance(layer, AddingLayer))
            self.graphs.append(isinstance(layer, GraphLayer))
            self._sources.append(self._first(given, source, place))
            self._shared.append(shared)

    def _first(self, given: list[Any], layer: Any, place: int) -> int:
        """Return the first place of a layer. Raises UsageError for one that is not in the list."""
        found = next((at for at, other in enumerate(given) if other is layer), None)
        if found is None:
            raise UsageError(f"layer {self.names[place]} is tied to one that is not in the list")
        return found

    def __len__(self) -> int:
        return len(self.layers)

    def describe(self, place: int) -> str:
        """Return what a layer is called in messages."""
        layer = self.layers[place]
        kind = layer.wraps if isinstance(layer, WrappedLayer) else type(layer).__name__
        return f"layer {self.names[place]} ({kind})"

    def init(self, seed: int, places: Iterable[int] | None = None) -> dict[str, Array]:
        """Return first values of all tensors, or of those that some layers own, by their whole names."""
        found: dict[str, Array] = {}
        for place in range(len(self)) if places is None else places:
            if self._sources[place] == place:
                values = self.layers[place].init(np.random.default_rng([seed, place]))
                found |= self._owned(place, values)
        return found

    def kinds(self) -> dict[str, str]:
        """Return the kinds of the tensors without gradients, as layers have it, by their whole names."""
        found: dict[str, str] = {}
        for place, layer in enumerate(self.layers):
            if self._sources[place] == place and isinstance(layer, StatefulLayer):
                found |= self._owned(place, layer.kinds())
        return found

    def _owned(self, place: int, values: Mapping[str, T]) -> dict[str, T]:
        return {f"{self.names[place]}.{own}": each for own, each in values.items() if own not in self._shared[place]}

    def split(self, names: Iterable[str]) -> list[dict[str, str]]:
        """Return for each layer its tensors among these: the whole name by its own. Shared ones are in several."""
        prefixes = {name: place for place, name in enumerate(self.names)}
        owned: list[dict[str, str]] = [{} for _ in self.layers]
        for name in names:
            place = next((prefixes[name[:at]] for at in _dots(name) if name[:at] in prefixes), None)
            if place is not None:
                owned[place][name[len(self.names[place]) + 1 :]] = name
        found = [dict(owned[source]) for source in self._sources]
        for each, shared in zip(found, self._shared, strict=True):
            each |= {own: owned[at][theirs] for own, (at, theirs) in shared.items() if theirs in owned[at]}
        return found


def _dots(name: str) -> list[int]:
    """Return where the dots in a name are, the last one first."""
    return [at for at in reversed(range(len(name))) if name[at] == "."]
