"""The registry of aggregation rules; RuleSpec, how a job names one."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import cast

from ps.errors import ConfigError
from ps.optim import spec
from ps.rules.clip import Clip
from ps.rules.geomedian import GeoMedian
from ps.rules.krum import Krum
from ps.rules.least import demand
from ps.rules.mean import Mean
from ps.rules.median import Median
from ps.rules.multikrum import MultiKrum
from ps.rules.rule import Rule
from ps.rules.trimmed import Trimmed
from ps.rules.weighted import Weighted

RULES: spec.Table = {
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
class RuleSpec:
    """A rule's name and all its numbers, checked; equal specs have equal text.

    >>> RuleSpec.parse("multikrum:2")
    RuleSpec(name='multikrum', numbers=(('f', 2), ('m', 0)))
    >>> str(RuleSpec.parse("trimmed"))
    'trimmed:beta=0.1'
    """

    name: str
    numbers: spec.Numbers = ()

    def __post_init__(self) -> None:
        given = dict(self.numbers)
        if given and self.name in RULES and not dataclasses.fields(RULES[self.name]):
            raise ConfigError(f"aggregator {self.name} takes no numbers, not even {next(iter(given))}")
        object.__setattr__(self, "numbers", spec.complete("aggregator", RULES, self.name, given))

    @classmethod
    def parse(cls, text: str) -> RuleSpec:
        """Read ``name``, ``name:number`` or ``name:number,key=number,…``; ConfigError when it is wrong.

        The number without a key is the rule's first: krum's f, trimmed's beta, clip's norm.
        """
        return cls(*spec.parse_short("aggregator", RULES, text))

    def __str__(self) -> str:
        return spec.text(self.name, self.numbers)

    def build(self) -> Rule:
        """Return the rule."""
        return cast(Rule, RULES[self.name](**dict(self.numbers)))

    def demand(self, contributions: int) -> None:
        """Raise UsageError, with the numbers, when so few contributions make no sense with this rule."""
        demand(str(self), self.build().least, contributions)
