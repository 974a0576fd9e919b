"""Number: one parameter of whatever a text such as ``adam:lr=1e-3`` names: its default and its range."""

from __future__ import annotations

import dataclasses
import math
import re
from typing import Any

from ps.dataclass import dataclass

MAX_BETA = 0.999999
"""The largest decay of a running mean; one closer to 1 would be 1 in float32."""

MOST = 1e12
"""The largest number there is, unless another is declared: float32 holds its square, and its product with another."""

MOST_RATE = 1e6
"""The largest learning rate: what it is multiplied with, and by some optimizers divided by, stays within float32."""

MOST_STEPS = 1_000_000_000
"""The largest number of steps or rounds, and of anything whole unless another is declared: float64 holds many more."""

MOST_CLIENTS = 1_000_000
"""The largest number of clients."""

MOST_COMBINED = 10_000
"""The largest number of contributions to one round."""

MOST_COMPARED = 1000
"""The largest number of contributions that are compared with each other: their distances are that many, squared."""

MOST_WORKERS = 5000
"""The largest number of workers of a job in which all know of all: one view shows them."""

MOST_MEMBERS = 20_000
"""The largest number of members that one message can tell of."""

LEAST = 1e-30
"""The smallest number above 0: float32 holds it, and some of what it is multiplied with."""

_WHOLE = re.compile(r"[+-]?[0-9]{1,40}")
_DECIMAL = re.compile(r"[+-]?(([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?|inf|nan)", re.IGNORECASE | re.ASCII)


def parse_whole(text: str) -> int:
    """Return a whole number written in the digits 0 to 9; ValueError for every other text that Python takes for one."""
    if not _WHOLE.fullmatch(text):
        raise ValueError(f"{text[:40]!r} is no whole number")
    return int(text)


def parse_decimal(text: str) -> float:
    """Return a number such as ``0.5`` or ``-1e-4``, Inf for one that is too large; ValueError for odder texts."""
    if not _DECIMAL.fullmatch(text):
        raise ValueError(f"{text[:40]!r} is no number")
    return float(text)


@dataclass(frozen=True, slots=True)
class Range:
    """The values a number may take. Below ``LEAST`` in magnitude there is only 0."""

    at_least: float = -MOST
    above: float = -math.inf
    at_most: float = MOST
    below: float = math.inf
    whole: bool = False

    def __contains__(self, value: float) -> bool:
        return (
            math.isfinite(value)
            and (value == 0 or abs(value) >= LEAST)
            and self.at_least <= value <= self.at_most
            and self.above < value < self.below
            and not (self.whole and value != int(value))
        )

    def __str__(self) -> str:
        bounds = [
            f"{word} {bound:g}"
            for word, bound in (
                ("at least", self.at_least if self.at_least > self.above else -math.inf),
                ("above", self.above),
                ("at most", self.at_most if self.at_most < self.below else math.inf),
                ("below", self.below),
            )
            if math.isfinite(bound)
        ]
        return " ".join(["a whole number" if self.whole else "a finite number", " and ".join(bounds)]).strip()

    def refusal(self, value: float) -> str:
        """Return what is wrong with a value that is not in the range."""
        if 0 < abs(value) < LEAST:
            return f"is too small for float32: smaller than {LEAST:g} there is only 0; it must be {self}"
        return f"must be {self}"


EXAMPLES = Range(above=0, at_most=1e20)
"""The examples that a gradient or a delta may be said to come from: as weights, float32 holds what they are times."""

RATE = Range(at_least=0, at_most=MOST_RATE)
"""The values a learning rate may take."""

DECAY = Range(at_least=0)
"""The values a weight decay may take."""


def number(
    default: float | None = None,
    *,
    at_least: float = -MOST,
    above: float = -math.inf,
    at_most: float | None = None,
    below: float = math.inf,
    whole: bool = False,
) -> Any:
    """Declare one number as a field of a dataclass: its default (None: must be given) and its range.

    Without others it lies between -``MOST`` and ``MOST``, and is at most ``MOST_STEPS`` if it is whole.
    """
    most = (MOST_STEPS if whole else MOST) if at_most is None else at_most
    metadata = {"range": Range(at_least, above, most, below, whole)}
    if default is None:
        return dataclasses.field(metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)
