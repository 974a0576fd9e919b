"""Chain: a model as the list of its layers, what their tensors are called, and which layers share theirs.

A tensor's name is the layer's place in the list and its own name, ``2.weight``: it does not depend on where the model
is cut. Each layer's first values follow from the seed and its place alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from ps.errors import UsageError
from ps.pipeline.layer import PipelineLayer, Tied
from ps.xp import Array


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
        self.layers: list[PipelineLayer] = []
        self.owners: list[int] = []
        """For each layer the place of the one whose tensors it has: its own, or the first place of the same object."""
        for place, layer in enumerate(given):
            inner, source = (layer.layer, layer.source) if isinstance(layer, Tied) else (layer, layer)
            if not isinstance(inner, PipelineLayer):
                raise UsageError(
                    f"layer {names[place]} is a {type(inner).__name__}, which has not the three functions of a layer: "
                    f"init(rng), forward(params, x) and backward(params, saved, dy)"
                )
            owner = next((at for at, other in enumerate(given) if other is source), None)
            if owner is None:
                raise UsageError(f"layer {names[place]} is tied to one that is not in the list")
            self.layers.append(inner)
            self.owners.append(owner)

    def __len__(self) -> int:
        return len(self.layers)

    def describe(self, place: int) -> str:
        """Return what a layer is called in messages."""
        name, kind = self.names[place], type(self.layers[place]).__name__
        return f"layer {name} ({kind})"

    def init(self, seed: int, places: Iterable[int] | None = None) -> dict[str, Array]:
        """Return first values of all tensors, or of those that some layers own, by their whole names."""
        found: dict[str, Array] = {}
        for place in range(len(self)) if places is None else places:
            if self.owners[place] == place:
                values = self.layers[place].init(np.random.default_rng([seed, place]))
                found |= {f"{self.names[place]}.{name}": value for name, value in values.items()}
        return found

    def split(self, names: Iterable[str]) -> list[dict[str, str]]:
        """Return for each layer its tensors among these: the whole name by its own. Tied ones are in several."""
        prefixes = {name: place for place, name in enumerate(self.names)}
        owned: list[dict[str, str]] = [{} for _ in self.layers]
        for name in names:
            place = next((prefixes[name[:at]] for at in _dots(name) if name[:at] in prefixes), None)
            if place is not None:
                owned[place][name[len(self.names[place]) + 1 :]] = name
        return [owned[owner] for owner in self.owners]

    def ties(self) -> dict[int, int]:
        """Return the places of layers that have another one's tensors, and that one's."""
        return {place: owner for place, owner in enumerate(self.owners) if place != owner}


def _dots(name: str) -> list[int]:
    """Return where the dots in a name are, the last one first."""
    return [at for at in reversed(range(len(name))) if name[at] == "."]
