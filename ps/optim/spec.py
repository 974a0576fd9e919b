"""Text such as ``adam:lr=1e-3,beta1=0.9``: a name and numbers, never code.

What each name and number means lives with the optimizers and schedules; here is only how the text is read,
checked and written back.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from ps.errors import ConfigError

Table: TypeAlias = Mapping[str, type[Any]]
"""Name -> the dataclass whose fields, declared with ``number``, are the numbers it takes."""

Numbers: TypeAlias = tuple[tuple[str, float], ...]
"""Every number of one spec, in the order of its dataclass's fields."""


MAX_BETA = 0.999999
"""The largest decay of a running mean; one closer to 1 would be 1 in float32."""


MOST = 1e12
"""The largest number there is, unless another is declared: float32 holds its square, and its product with another."""

MOST_RATE = 1e6
"""The largest learning rate: what it is multiplied with, and by some optimizers divided by, stays within float32."""

LEAST = 1e-30
"""The smallest number above 0: float32 holds it, and some of what it is multiplied with."""


@dataclass(frozen=True, slots=True)
class Range:
    """The values a number may take. Below ``LEAST`` in magnitude there is only 0."""

    at_least: float = -math.inf
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
                ("at least", self.at_least),
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


RATE = Range(at_least=0, at_most=MOST_RATE)
"""The values a learning rate may take."""


def number(
    default: float | None = None,
    *,
    at_least: float = -math.inf,
    above: float = -math.inf,
    at_most: float = MOST,
    below: float = math.inf,
    whole: bool = False,
) -> Any:
    """Declare one number of an optimizer or schedule: its default (None: must be given) and its range."""
    metadata = {"range": Range(at_least, above, at_most, below, whole)}
    if default is None:
        return dataclasses.field(metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def parse(kind: str, table: Table, text: str) -> tuple[str, Numbers]:
    """Return the name and all numbers of ``text``; ConfigError, beginning with ``kind``, when it is wrong."""
    name, colon, rest = text.partition(":")
    name = name.strip()
    given: dict[str, float] = {}
    for item in rest.split(",") if colon else ():
        key, equals, value = (part.strip() for part in item.partition("="))
        if not equals or not key:
            raise ConfigError(f"{kind} {text!r}: expected key=number after the colon, not {item.strip()!r}")
        if key in given:
            raise ConfigError(f"{kind} {text!r}: {key} is given twice")
        try:
            given[key] = float(value)
        except ValueError:
            raise ConfigError(f"{kind} {text!r}: {key}={value!r} is not a number") from None
    return name, complete(kind, table, name, given)


def parse_short(kind: str, table: Table, text: str) -> tuple[str, Numbers]:
    """Like ``parse``, but the first number may stand without its key: ``topk:0.01`` for ``topk:ratio=0.01``.

    ConfigError, in words of its own, also for a colon behind a name that takes no numbers.
    """
    name, colon, rest = text.partition(":")
    known = name.strip() in table
    fields = dataclasses.fields(table[name.strip()]) if known else ()
    if colon and known and not fields:
        raise ConfigError(f"{kind} {text!r}: {name.strip()} takes no numbers")
    if fields:
        with contextlib.suppress(ValueError):
            float(rest.partition(",")[0])
            text = f"{name}:{fields[0].name}={rest}"
    return parse(kind, table, text)


def complete(kind: str, table: Table, name: str, given: Mapping[str, float]) -> Numbers:
    """Return the numbers of ``name`` with the defaults filled in; ConfigError for what it does not take."""
    if name not in table:
        raise ConfigError(f"unknown {kind} {name!r}; {_hint(name, table)}there are {', '.join(sorted(table))}")
    fields = {field.name: field for field in dataclasses.fields(table[name])}
    for key in given:
        if key not in fields:
            alike = ", for all tensors alike" if kind == "optimizer" else ""
            raise ConfigError(
                f"{kind} {name} takes no {key!r}; {_hint(key, fields)}it takes {', '.join(fields)}{alike}"
            )
    numbers = []
    for key, field in fields.items():
        value = given.get(key, field.default)
        allowed = field.metadata["range"]
        if value is dataclasses.MISSING:
            raise ConfigError(f"{kind} {name} needs {key}=<{allowed}>")
        if value not in allowed:
            raise ConfigError(f"{kind} {name}: {key}={value!r} {allowed.refusal(value)}")
        numbers.append((key, int(value) if allowed.whole else float(value)))
    return tuple(numbers)


def text(name: str, numbers: Numbers) -> str:
    """Return the canonical text, every number written out, so that it outlives a change of defaults."""
    return name + ":" * bool(numbers) + ",".join(f"{key}={value!r}" for key, value in numbers)


def _hint(word: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1)
    return f"did you mean {close[0]!r}? " if close else ""
