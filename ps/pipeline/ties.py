"""Tie: tensors that several layers share, and to which stage their gradients go where those are in several."""

from __future__ import annotations

from collections.abc import Iterable

from ps.dataclass import dataclass
from ps.pipeline.cut import Cut


@dataclass(frozen=True, slots=True)
class Tie:
    """A layer with tensors of layers in another stage, which is given their gradients and has them for the step."""

    place: int
    stage: int
    owner: int
    """The stage of the first layer with these tensors."""
    names: frozenset[str]
    """What the layer itself calls them."""


def ties(split: Iterable[dict[str, str]], cut: Cut) -> list[Tie]:
    """Return the ties between stages; ``split`` as ``Chain.split`` gives it."""
    owners: dict[str, int] = {}
    found: dict[tuple[int, int], set[str]] = {}
    for place, names in enumerate(split):
        for own, name in names.items():
            owner = owners.setdefault(name, cut.stage_of(place))
            if owner != cut.stage_of(place):
                found.setdefault((place, owner), set()).add(own)
    return [Tie(place, cut.stage_of(place), owner, frozenset(names)) for (place, owner), names in found.items()]
