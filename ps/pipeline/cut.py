"""Cut: where a chain of layers is cut into stages."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from ps.dataclass import dataclass
from ps.errors import UsageError


@dataclass(frozen=True, slots=True)
class Cut:
    """The stages of a chain of so many layers; ``starts`` has the first layer of each stage but the first."""

    layers: int
    starts: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        bounds = (0, *self.starts, self.layers)
        if any(not isinstance(at, int) or isinstance(at, bool) for at in bounds) or any(
            hi <= lo for lo, hi in itertools.pairwise(bounds)
        ):
            raise UsageError(
                f"cuts are the places of the layers with which stages begin, in order: from 1 to {self.layers - 1} for "
                f"{self.layers} layers, not {list(self.starts)}"
            )

    @property
    def stages(self) -> list[range]:
        """The places of the layers of each stage."""
        bounds = (0, *self.starts, self.layers)
        return [range(lo, hi) for lo, hi in itertools.pairwise(bounds)]

    def stage_of(self, place: int) -> int:
        """Return the number of the stage that a layer is in."""
        return sum(start <= place for start in self.starts)


def evenly(layers: int, stages: int) -> Cut:
    """Return the cut into stages of as equally many layers as can be. Raises UsageError for too many stages."""
    if not 1 <= stages <= layers:
        raise UsageError(f"{layers} layers can be cut into 1 to {layers} stages, not {stages}")
    return Cut(layers, tuple(round(layers * stage / stages) for stage in range(1, stages)))


def cut_at(layers: int, cuts: Sequence[int] | int | None) -> Cut:
    """Return a cut by what a script says: places, a number of stages, or nothing, which is one stage."""
    if cuts is None:
        return Cut(layers)
    return evenly(layers, cuts) if isinstance(cuts, int) else Cut(layers, tuple(cuts))
