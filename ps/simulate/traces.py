"""Traces: what a client is like (speed, line, when it is on, when it gives up), drawn by a seed or read from a file."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from ps.config.setting import shorten
from ps.dataclass import dataclass
from ps.errors import ConfigError, DataError
from ps.regular_file import blaming, read_regular
from ps.simulate.availability import LEAST, MOST, Always, Availability, OnOff, Span
from ps.simulate.rng import uniform
from ps.simulate.speed import LEAST_RATE, Bandwidth, ConstantSpeed, Speed, Unlimited
from ps.simulate.speed import MOST as MOST_STEP

_DROP, _WHEN = 31, 32
_CONSTANT, _UNLIMITED, _ALWAYS = ConstantSpeed(), Unlimited(), Always()
LARGEST = 256 << 20
"""Bytes of a file of traces, at most: a row for each of a million clients."""
COLUMNS = ("seconds_per_step", "up", "down", "dropout", "on", "off")
"""What a row of a file may say of a client; what is missing is taken to be no hindrance."""
_SPAN = LEAST, MOST
_RANGES = {"seconds_per_step": (0.0, MOST_STEP), "up": (LEAST_RATE, math.inf), "down": (LEAST_RATE, math.inf)}
_RANGES |= {"dropout": (0.0, 1.0), "on": _SPAN, "off": _SPAN}


@dataclass(frozen=True, slots=True)
class ClientRates:
    """A client's seconds for each local step, and its bytes a second up and down."""

    seconds_per_step: float
    up: float
    down: float


class Traces(Protocol):
    """What every client is like. Pure: asking twice gives the same."""

    def rates(self, client: int) -> ClientRates:
        """Return how fast a client is."""

    def span(self, client: int, now: float) -> Span:
        """Return whether a client is on at ``now``, and until when."""

    def gives_up(self, client: int, ticket: int) -> float | None:
        """Return after which share of a task, from 0 to 1, the client drops out; None when it does not.

        ``ticket`` numbers a client's tries, and those at one task.
        """


@dataclass(frozen=True, slots=True)
class Drawn:
    """Traces that a seed draws from distributions; nothing is kept for any client."""

    seed: int = 0
    speed: Speed = _CONSTANT
    bandwidth: Bandwidth = _UNLIMITED
    availability: Availability = _ALWAYS
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.dropout <= 1:
            raise ConfigError(f"dropout = {self.dropout}: must be a probability, from 0 to 1")

    def rates(self, client: int) -> ClientRates:
        """Return how fast the seed made this client."""
        return ClientRates(self.speed.seconds(self.seed, client), *self.bandwidth.rates(self.seed, client))

    def span(self, client: int, now: float) -> Span:
        """Return the span that ``now`` lies in."""
        return self.availability.span(self.seed, client, now)

    def gives_up(self, client: int, ticket: int) -> float | None:
        """Return after which share of the task the client drops out, with probability ``dropout``."""
        return _gives_up(self.seed, client, ticket, self.dropout)


@dataclass(frozen=True, slots=True)
class Recorded:
    """Traces of a file, a row for each client; when there are more clients, the rows are taken in turn."""

    rows: tuple[Mapping[str, float], ...]
    seed: int = 0

    @classmethod
    def read(cls, path: str | Path, seed: int = 0) -> Recorded:
        """Read a JSON list of objects, or a CSV with a head, with any of the ``COLUMNS``.

        Seconds, bytes a second, a probability, seconds; empty cells count as missing. DataError when the file cannot
        be read, has no rows, an unknown column, or a number out of range.
        """
        place = Path(path)
        with blaming(place, "file of traces", error=DataError):
            text = read_regular(place, LARGEST).decode("utf-8-sig")
            rows = json.loads(text) if place.suffix == ".json" else list(csv.DictReader(text.splitlines()))
        if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
            raise DataError(f"{place}: expected a row for each client with any of {', '.join(COLUMNS)}")
        return cls(tuple(_row(f"{place}, client {client}", row) for client, row in enumerate(rows)), seed)

    def rates(self, client: int) -> ClientRates:
        """Return how fast the file has this client."""
        row = self._row(client)
        return ClientRates(row.get("seconds_per_step", 0.0), row.get("up", math.inf), row.get("down", math.inf))

    def span(self, client: int, now: float) -> Span:
        """Return the part of the client's cycle that ``now`` lies in; where in it it begins is the seed's."""
        row = self._row(client)
        if not row.get("off"):
            return Span(True, math.inf)
        return OnOff(row["on"], row["off"]).span(self.seed, client, now)

    def gives_up(self, client: int, ticket: int) -> float | None:
        """Return after which share of the task the client drops out, with the row's probability."""
        return _gives_up(self.seed, client, ticket, self._row(client).get("dropout", 0.0))

    def _row(self, client: int) -> Mapping[str, float]:
        return self.rows[client % len(self.rows)]


def _gives_up(seed: int, client: int, ticket: int, probability: float) -> float | None:
    if probability <= 0 or uniform(seed, _DROP, client, ticket) >= probability:
        return None
    return uniform(seed, _WHEN, client, ticket)


def _row(where: str, row: Mapping[Any, Any]) -> dict[str, float]:
    found: dict[str, float] = {}
    for key, cell in row.items():
        if key not in COLUMNS:
            raise DataError(f"{where}: unknown column {shorten(key)}; there are {', '.join(COLUMNS)}")
        if cell is None or cell == "":
            continue
        try:
            value = float(cell)
        except (TypeError, ValueError):
            raise DataError(f"{where}: {key} = {shorten(cell)} is no number") from None
        except OverflowError:
            raise DataError(f"{where}: {key} is too large a number") from None
        low, high = _RANGES[key]
        if not low <= value <= high and not (value == 0 and key == "off"):
            raise DataError(f"{where}: {key} = {value:g} is out of range")
        found[key] = value
    if found.get("off") and not found.get("on"):
        raise DataError(f"{where}: off = {found['off']:g} needs on, the seconds that the client is there")
    return found
