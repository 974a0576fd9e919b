"""JobHistory: the curves of a job, as its snapshots have shown it since somebody looks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ps.json_lines import finite
from ps.monitor.time_series import MOST, TimeSeries
from ps.monitor.values import amount

MOST_CURVES = 40
"""Curves that are kept, at most: names come from scripts and clients."""

NOW = ("steps_per_s", "samples_per_s", "up_per_s", "down_per_s", "waiting", "staleness", "lag")
"""Of these there is a curve each, over time."""


class JobHistory:
    """Curves by name: ``now/…`` and ``metric/…`` over Unix time, ``eval/…`` over clocks, ``round/…`` over rounds."""

    def __init__(self) -> None:
        self._curves: dict[str, TimeSeries] = {}
        self._round = -1.0
        """The last round that is in them."""
        self._measured: Any = None

    def add(self, snapshot: Mapping[str, Any]) -> None:
        """Take a snapshot."""
        at = float(snapshot["time"])
        for name in NOW:
            value = finite(snapshot["now"].get(name))
            if value is not None:
                self._add(f"now/{name}", at, value)
        for role, totals in snapshot["totals"].items():
            self._add(f"now/{role}", at, totals.get("live", 0))
        for name, found in snapshot["metrics"].items():
            self._add(f"metric/{name}", at, found["mean"], found["low"], found["high"], found["odd"])
        measured = snapshot["measured"]
        if measured is not None and measured != self._measured:
            self._measured = measured
            for name, value in measured["values"].items():
                self._add(f"eval/{name}", measured["clock"], finite(value), odd=int(isinstance(value, str)))
        for row in (snapshot["federated"] or {}).get("history", ()):
            if row["round"] > self._round:
                self._round = row["round"]
                self._add_round(row)

    def curves(self, most: int = MOST) -> dict[str, dict[str, list[Any]]]:
        """Return the curves by name, or so many last points of each."""
        return {name: curve.columns(most) for name, curve in self._curves.items()}

    def _add_round(self, row: Mapping[str, Any]) -> None:
        at = row["round"] + 1
        for name in ("selected", "accepted", "seconds"):
            self._add(f"round/{name}", at, row[name])
        self._add("round/refused", at, sum(amount(count) for count in row["refused"].values()))
        for name, found in row["metrics"].items():
            middle = found["mean"] if found.get("p50") is None else found["p50"]
            self._add(f"client/{name}", at, middle, found.get("p10"), found.get("p90"))

    def _add(
        self,
        name: str,
        at: float,
        value: float | None,
        low: float | None = None,
        high: float | None = None,
        odd: int = 0,
    ) -> None:
        if (curve := self._curves.get(name)) is None:
            if len(self._curves) >= MOST_CURVES:
                return
            curve = self._curves[name] = TimeSeries()
        curve.add(at, value, low, high, odd)
