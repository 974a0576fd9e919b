"""When a client is there: spans of time in which it is on or off, computed for any moment and kept nowhere."""

from __future__ import annotations

import math
from typing import NamedTuple, Protocol

from ps.dataclass import dataclass
from ps.number import number
from ps.simulate.rng import exponential, normal, uniform
from ps.spec import Registry

_PURPOSE = 11
_CYCLES = 16
"""Cycles after which an exponential process begins anew."""


LEAST, MOST = 0.01, 1e9
"""Seconds that a span may last on average: shorter ones would keep virtual time from passing."""


class Span(NamedTuple):
    """Whether a client is on, and until when that stays so."""

    on: bool
    until: float


class Availability(Protocol):
    """When clients are on: a function of the seed, the client and the time, in seconds from 0 on."""

    def span(self, seed: int, client: int, now: float) -> Span:
        """Return the span that ``now`` lies in; it ends after ``now``."""


@dataclass(frozen=True, slots=True)
class Always:
    """Every client is always on."""

    def span(self, seed: int, client: int, now: float) -> Span:
        """Return a span without end."""
        return Span(True, math.inf)


@dataclass(frozen=True, slots=True)
class OnOff:
    """``on`` seconds on and ``off`` seconds off in turn; each client begins somewhere in its cycle."""

    on: float = number(600.0, at_least=LEAST, at_most=MOST)
    off: float = number(300.0, at_least=LEAST, at_most=MOST)

    def span(self, seed: int, client: int, now: float) -> Span:
        """Return the part of the cycle that ``now`` lies in."""
        return _cycle(self.on, self.off, uniform(seed, _PURPOSE, client), now)


@dataclass(frozen=True, slots=True)
class Diurnal:
    """On for a ``share`` of each ``day``, most clients at the same hours: they begin ``spread`` days around one time.

    So the number of clients that are there goes up and down, as with telephones that train at night (Bonawitz et al.,
    Towards federated learning at scale, MLSys 2019).
    """

    day: float = number(86400.0, at_least=LEAST, at_most=MOST)
    share: float = number(0.5, at_least=1e-3, at_most=0.999)
    spread: float = number(0.1, at_least=0, at_most=1000)

    def span(self, seed: int, client: int, now: float) -> Span:
        """Return the part of the day that ``now`` lies in."""
        phase = self.spread * normal(seed, _PURPOSE, client) % 1.0
        return _cycle(self.day * self.share, self.day * (1 - self.share), phase, now)


@dataclass(frozen=True, slots=True)
class Exponential:
    """On and off for exponentially distributed times with the means ``on`` and ``off``.

    Every 16 cycles a client's state is drawn anew, so that any moment can be looked up without all that came before.
    """

    on: float = number(600.0, at_least=LEAST, at_most=MOST)
    off: float = number(300.0, at_least=LEAST, at_most=MOST)

    def span(self, seed: int, client: int, now: float) -> Span:
        """Return the span that ``now`` lies in."""
        length = _CYCLES * (self.on + self.off)
        block = math.floor(now / length)
        at, end = block * length, (block + 1) * length
        here = uniform(seed, _PURPOSE, client, block, 0) < self.on / (self.on + self.off)
        index = 1
        while True:
            at += exponential(self.on if here else self.off, seed, _PURPOSE, client, block, index)
            if at >= end:
                return Span(here, max(end, math.nextafter(now, math.inf)))
            if at > now:
                return Span(here, at)
            here, index = not here, index + 1


AVAILABILITIES: Registry[Availability] = Registry(
    "availability",
    {"always": Always, "diurnal": Diurnal, "exponential": Exponential, "onoff": OnOff},
    pluggable=False,
)


def parse_availability(text: str) -> Availability:
    """Read ``name:key=number,…``; ConfigError when it is wrong."""
    return AVAILABILITIES.parse(text).build()


def _cycle(on: float, off: float, phase: float, now: float) -> Span:
    """Return the span of a cycle that is on first, when it had gone on for ``phase`` of its length at time 0."""
    length = on + off
    place = (now + phase * length) % length
    here = place < on
    # Rounding must not make a span end at the moment that it was asked for.
    return Span(here, max(now + (on if here else length) - place, math.nextafter(now, math.inf)))
