"""GradientSums: the gradients of a worker's layers, added up over the micro-batches of a step.

They are added in the order of the micro-batches for each layer, and of a tensor that several layers have in the order
of the layers after that: so the bits depend neither on the schedule nor on where the model is cut.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Mapping
from typing import Any

from ps import xp
from ps.errors import GradientError
from ps.pipeline.arrays import ArrayKind, shown
from ps.pipeline.chain import Chain
from ps.xp import Array


class GradientSums:
    """One step's sums, by the place of the layer and the tensor's own name."""

    def __init__(
        self, chain: Chain, names: list[dict[str, str]], trained: Mapping[str, Any], kind: ArrayKind, *, once: bool
    ) -> None:
        """``names``: as ``Chain.split`` gives them. ``trained``: the arrays whose gradients are wanted, or arrays like
        them in which they can be added up. ``once``: there is one micro-batch, so nothing is added."""
        self._chain = chain
        self._names = [{own: name for own, name in each.items() if name in trained} for each in names]
        self._kind = kind
        self._once = once
        uses = Counter(name for each in self._names for name in each.values())
        self._into = {name: trained[name] for name, times in uses.items() if times == 1}
        self._sums: dict[int, dict[str, Any]] = {}

    def wanted(self, place: int) -> bool:
        """Whether a layer has tensors that are trained."""
        return bool(self._names[place])

    def names(self, place: int) -> Iterable[str]:
        """Return what a layer calls its tensors that are trained."""
        return self._names[place]

    def begun(self, place: int, own: str) -> Any:
        """Return what has been added up so far of a layer's tensor, to which more may be added in place; or None."""
        return self._sums.get(place, {}).get(own)

    def into(self, place: int) -> tuple[dict[str, Any], bool] | None:
        """Return where the gradients of a layer's tensors are added up, and whether nothing is there yet; None where
        there is no memory for them so far, or not for all."""
        names = self._names[place]
        if (begun := self._sums.get(place)) is not None:
            return (begun, False) if begun.keys() == names.keys() else None
        found = {own: self._into.get(name) for own, name in names.items()}
        if not all(isinstance(each, self._kind.types) for each in found.values()):
            return None
        self._sums[place] = found
        return found, True

    def add(self, place: int, grads: Mapping[str, Any], like: Mapping[str, Any]) -> None:
        """Add one micro-batch's gradients of a layer to what there is; ``like``: its tensors. Raises GradientError."""
        sums = self._sums.setdefault(place, {})
        for own, name in self._names[place].items():
            given = grads.get(own)
            if given is None:
                continue
            if tuple(given.shape) != tuple(like[own].shape) or given.dtype != like[own].dtype:
                raise GradientError(
                    f"{self._chain.describe(place)} returns {shown(given)} as the gradient of {own}, which is "
                    f"{shown(like[own])}"
                )
            if own in sums:
                sums[own] += given
            elif name in self._into and isinstance(self._into[name], self._kind.types):
                sums[own] = self._into[name]
                xp.copy(given, sums[own])
            else:
                sums[own] = given if self._once else self._kind.copy(given)

    def of(self, place: int, names: Iterable[str]) -> dict[str, Any]:
        """Return a layer's sums for some of its tensors, by their own names."""
        sums = self._sums.get(place, {})
        return {own: sums[own] for own in sorted(names) if own in sums}

    def take(self, place: int, sums: Mapping[str, Any]) -> None:
        """Take sums of a layer that was computed elsewhere, of tensors that belong here."""
        self._sums.setdefault(place, {}).update({own: self._kind.array(given) for own, given in sums.items()})

    def all(self, without: Container[tuple[int, str]] = ()) -> dict[str, Array]:
        """Return the gradient of every tensor that has one, by its whole name, without some of a layer's own."""
        found: dict[str, Array] = {}
        for place in sorted(self._sums):
            for own, value in self._sums[place].items():
                if (place, own) not in without:
                    name = self._names[place][own]
                    found[name] = found[name] + value if name in found else value
        return found
