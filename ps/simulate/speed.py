"""How fast clients compute, and how fast their lines are: distributions over clients, named on the command line."""

from __future__ import annotations

import math
from typing import NamedTuple, Protocol

from ps.dataclass import dataclass
from ps.number import number
from ps.simulate.rng import lognormal, uniform
from ps.spec import Registry

MOST = 1e6
"""Seconds of a local step, at most: a round would not end in any time that is simulated."""

MOST_SIGMA = 10
"""Deviation of a logarithm, at most: one client in a thousand is then e^31 times as slow as the typical one."""

LEAST_RATE = 1e-3
"""Bytes a second, at least."""

_SPEED, _CLASS, _UP, _DOWN = 21, 22, 23, 24


class Speed(Protocol):
    """Seconds that a client takes for one local step."""

    def seconds(self, seed: int, client: int) -> float:
        """Return a client's seconds for each local step."""


@dataclass(frozen=True, slots=True)
class ConstantSpeed:
    """All clients take ``seconds`` for a step."""

    step: float = number(0.01, at_least=0, at_most=MOST)

    def seconds(self, seed: int, client: int) -> float:
        """Return the number itself."""
        return self.step


@dataclass(frozen=True, slots=True)
class LognormalSpeed:
    """The logarithm of the seconds is normal: half the clients are faster than ``median``."""

    median: float = number(0.01, above=0, at_most=MOST)
    sigma: float = number(0.5, at_least=0, at_most=MOST_SIGMA)

    def seconds(self, seed: int, client: int) -> float:
        """Return a number that the seed draws for this client."""
        return lognormal(self.median, self.sigma, seed, _SPEED, client)


@dataclass(frozen=True, slots=True)
class SpeedClasses:
    """A share ``slow`` of the clients takes ``factor`` times as long as the others, which take ``step`` seconds."""

    slow: float = number(0.5, at_least=0, at_most=1)
    factor: float = number(10.0, above=0, at_most=MOST)
    step: float = number(0.01, at_least=0, at_most=MOST)

    def seconds(self, seed: int, client: int) -> float:
        """Return the seconds of the class that the seed puts this client into."""
        return self.step * (self.factor if uniform(seed, _CLASS, client) < self.slow else 1.0)


SPEEDS: Registry[Speed] = Registry(
    "speed", {"classes": SpeedClasses, "constant": ConstantSpeed, "lognormal": LognormalSpeed}, pluggable=False
)


def parse_speed(text: str) -> Speed:
    """Read ``name:key=number,…``; ConfigError when it is wrong."""
    return SPEEDS.parse(text).build()


class LinkRates(NamedTuple):
    """Bytes a second, up and down; infinite where transfers take no time."""

    up: float
    down: float


class Bandwidth(Protocol):
    """How fast clients' lines are."""

    def rates(self, seed: int, client: int) -> LinkRates:
        """Return a client's line."""


@dataclass(frozen=True, slots=True)
class Unlimited:
    """Transfers take no time."""

    def rates(self, seed: int, client: int) -> LinkRates:
        """Return an infinitely fast line."""
        return LinkRates(math.inf, math.inf)


@dataclass(frozen=True, slots=True)
class Fixed:
    """All clients have ``up`` and ``down`` bytes a second."""

    up: float = number(1e6, at_least=LEAST_RATE)
    down: float = number(5e6, at_least=LEAST_RATE)

    def rates(self, seed: int, client: int) -> LinkRates:
        """Return the two numbers."""
        return LinkRates(self.up, self.down)


@dataclass(frozen=True, slots=True)
class Spread:
    """The logarithms of ``up`` and ``down`` are normal around these medians with deviation ``sigma``."""

    up: float = number(1e6, at_least=LEAST_RATE)
    down: float = number(5e6, at_least=LEAST_RATE)
    sigma: float = number(0.5, at_least=0, at_most=MOST_SIGMA)

    def rates(self, seed: int, client: int) -> LinkRates:
        """Return the line that the seed draws for this client."""
        up = lognormal(self.up, self.sigma, seed, _UP, client)
        return LinkRates(up, lognormal(self.down, self.sigma, seed, _DOWN, client))


BANDWIDTHS: Registry[Bandwidth] = Registry(
    "bandwidth", {"constant": Fixed, "lognormal": Spread, "unlimited": Unlimited}, pluggable=False
)


def parse_bandwidth(text: str) -> Bandwidth:
    """Read ``name:key=number,…``; ConfigError when it is wrong."""
    return BANDWIDTHS.parse(text).build()
