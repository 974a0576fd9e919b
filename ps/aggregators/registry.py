"""The registry of aggregators; AggregatorSpec, how a job names one."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import cast

from ps.aggregators.aggregator import Aggregator
from ps.aggregators.clip import Clip
from ps.aggregators.geomedian import GeoMedian
from ps.aggregators.krum import Krum
from ps.aggregators.least import demand
from ps.aggregators.mean import Mean
from ps.aggregators.median import Median
from ps.aggregators.multikrum import MultiKrum
from ps.aggregators.trimmed import Trimmed
from ps.aggregators.weighted import Weighted
from ps.errors import ConfigError
from ps.optim import spec

AGGREGATORS: spec.Table = {
    "clip": Clip,
    "geomedian": GeoMedian,
    "krum": Krum,
    "mean": Mean,
    "median": Median,
    "multikrum": MultiKrum,
    "trimmed": Trimmed,
    "weighted": Weighted,
}


@dataclass(frozen=True, slots=True)
class AggregatorSpec:
    """An aggregator's name and all its numbers, checked; equal specs have equal text.

    >>> AggregatorSpec.parse("multikrum:2")
    AggregatorSpec(name='multikrum', numbers=(('f', 2), ('m', 0)))
    >>> str(AggregatorSpec.parse("trimmed"))
    'trimmed:beta=0.1'
    """

    name: str
    numbers: spec.Numbers = ()

    def __post_init__(self) -> None:
        given = dict(self.numbers)
        if given and self.name in AGGREGATORS and not dataclasses.fields(AGGREGATORS[self.name]):
            raise ConfigError(f"aggregator {self.name} takes no numbers, not even {next(iter(given))}")
        object.__setattr__(self, "numbers", spec.complete("aggregator", AGGREGATORS, self.name, given))

    @classmethod
    def parse(cls, text: str) -> AggregatorSpec:
        """Read ``name``, ``name:number`` or ``name:number,key=number,…``; ConfigError when it is wrong.

        The number without a key is the aggregator's first: krum's f, trimmed's beta, clip's norm.
        """
        return cls(*spec.parse_short("aggregator", AGGREGATORS, text))

    def __str__(self) -> str:
        return spec.text(self.name, self.numbers)

    def build(self) -> Aggregator:
        """Return the aggregator."""
        return cast(Aggregator, AGGREGATORS[self.name](**dict(self.numbers)))

    def demand(self, contributions: int) -> None:
        """Raise UsageError, with the numbers, when so few contributions make no sense with this aggregator."""
        demand(str(self), self.build().least, contributions)
