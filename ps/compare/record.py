"""Record: what one run wrote down, joined: its evaluations, and the examples and bytes up to each of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import Any

import numpy as np

from ps.compare.follow import number, read_lines, read_object
from ps.dataclass import dataclass
from ps.json_lines import amount
from ps.record_files import EVALUATIONS, METRICS, NO_METRICS, ROUNDS, SHARES, STAGES, SUMMARY
from ps.record_lives import RecordLives
from ps.xp import HostArray

MOST_POINTS = 60
"""Evaluations of a run that are shown, at most: the last one always, the others evenly chosen."""


@dataclass(frozen=True, slots=True)
class Point:
    """One evaluation: ``seconds`` since the first step, and the examples and bytes of all participants up to then."""

    clock: int
    seconds: float
    value: float
    examples: int
    bytes: int


@dataclass(frozen=True, slots=True)
class RankTotals:
    """One rank's sums. ``records`` counts its steps, in federated mode the rounds in which it took part."""

    rank: int
    records: int
    clock: int
    examples: int
    bytes_up: int
    bytes_down: int
    bytes_activations: int
    """Of the bytes up, those that went to the next stages of a model."""
    bytes_gradients: int
    """Of the bytes up, those that went back to the stages before."""
    wait_s: float


@dataclass(frozen=True, slots=True)
class ModelShare:
    """The layers of a model that one rank has, and the bytes of their tensors."""

    rank: int
    layers: tuple[int, ...]
    bytes: int


@dataclass(frozen=True, slots=True)
class Record:
    """A run's record. ``metric`` is what was evaluated, or empty; everything else may be empty too."""

    metric: str = ""
    points: tuple[Point, ...] = ()
    participants: tuple[RankTotals, ...] = ()
    times: HostArray = field(default_factory=lambda: np.empty(0))
    """Unix time of every line, in order."""
    exits: Mapping[int, int] = field(default_factory=dict)
    """The exit status of each worker, where there is a summary."""
    refused: Mapping[str, int] = field(default_factory=dict)
    rounds: int = 0
    spread: Mapping[str, float] = field(default_factory=dict)
    """The metric over the clients, each on data like its own, after the last round that has it."""
    shares: tuple[tuple[int, Mapping[str, int]], ...] = ()
    """The examples of each label that a client holds."""
    parts: tuple[ModelShare, ...] = ()
    """What each worker has of a model that is a pipeline."""
    layers: int = 0
    """Of such a model, all of them."""

    @property
    def clock(self) -> int:
        """The number of clocks that some participant has done."""
        return max((one.clock for one in self.participants), default=-1) + 1

    @property
    def train_s(self) -> float:
        """Seconds from the first line to the last."""
        return float(self.times[-1] - self.times[0]) if len(self.times) else 0.0

    def longest_gap(self, since: float) -> float:
        """Return the longest time without a line after ``since`` and before the last line; 0 without any."""
        after = self.times[self.times > since]
        return float(np.diff(after, prepend=since).max()) if len(after) else 0.0


def read(folder: Path, metric: str = "accuracy") -> Record:
    """Return the record in a run's folder, as far as there is one. Nothing is raised for what is missing or torn."""
    lives = RecordLives.read(folder)
    lines = [line for line in read_lines(folder / METRICS) if isinstance(line.get("rank"), int) and _at(line)]
    lines = [line for line in lines if lives.has_step(line)]
    lines.sort(key=_at)
    times = np.array([_at(line) for line in lines])
    rounds = read_lines(folder / ROUNDS)
    summary = read_object(folder / SUMMARY)
    stages = [line for line in read_lines(folder / STAGES) if isinstance(line.get("layers"), list)]
    evaluations = [line for line in read_lines(folder / EVALUATIONS) if lives.has_evaluation(line)]
    name, points = _points(evaluations, metric, lines, times)
    return Record(
        name,
        _thin(points),
        _participants(lines),
        times,
        {one["rank"]: one["exit_status"] for one in summary.get("processes", ()) if one["role"] == "worker"},
        _refused(rounds),
        len(rounds),
        _spread(rounds, name),
        _shares(read_lines(folder / SHARES)),
        _parts(stages),
        max((int(amount(line, "of")) for line in stages), default=0),
    )


def _points(
    evaluations: Sequence[dict[str, Any]], metric: str, lines: Sequence[dict[str, Any]], times: HostArray
) -> tuple[str, list[Point]]:
    """Join by time: what was seen and sent before a model was evaluated had its part in it."""
    name = next(iter(_metrics(evaluations, metric)), "")
    found = [(_at(line), line) for line in evaluations if _at(line) and number(line, name) is not None]
    found.sort(key=lambda item: item[0])
    examples = _running(lines, ("samples",))
    moved = _running(lines, ("bytes_up", "bytes_down"))
    began = min([*times[:1], *(t for t, _ in found[:1])], default=0.0)
    points = []
    for t, line in found:
        seen = int(np.searchsorted(times, t, side="right"))
        value = number(line, name)
        assert value is not None
        clock = int(amount(line, "clock"))
        points.append(Point(clock, round(t - began, 3), round(value, 6), int(examples[seen]), int(moved[seen])))
    return name if points else "", points


def _metrics(evaluations: Sequence[dict[str, Any]], preferred: str) -> list[str]:
    names = {
        name: None for line in evaluations for name in line if name not in NO_METRICS and number(line, name) is not None
    }
    return [preferred] if preferred in names else list(names)


def _running(lines: Sequence[dict[str, Any]], keys: Sequence[str]) -> HostArray:
    """Return the sums of the first 0, 1, 2, ... lines."""
    values = [sum(amount(line, key) for key in keys) for line in lines]
    return np.concatenate([[0], np.cumsum(np.array(values, np.float64))])


def _participants(lines: Sequence[dict[str, Any]]) -> tuple[RankTotals, ...]:
    ranks: dict[int, list[dict[str, Any]]] = {}
    for line in lines:
        ranks.setdefault(line["rank"], []).append(line)

    def total(own: Sequence[dict[str, Any]], key: str) -> float:
        return sum(amount(line, key) for line in own)

    return tuple(
        RankTotals(
            rank,
            len(own),
            max(int(amount(line, "clock")) for line in own),
            int(total(own, "samples")),
            int(total(own, "bytes_up")),
            int(total(own, "bytes_down")),
            int(total(own, "bytes_activations")),
            int(total(own, "bytes_gradients")),
            round(total(own, "wait_s"), 2),
        )
        for rank, own in sorted(ranks.items())
    )


def _refused(rounds: Sequence[dict[str, Any]]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for line in rounds:
        reasons: dict[str, Any] = line["refused"] if isinstance(line.get("refused"), dict) else {}
        for reason in reasons:
            counts[reason] = counts.get(reason, 0) + int(amount(reasons, reason))
    return {reason: count for reason, count in sorted(counts.items()) if count}


def _spread(rounds: Sequence[dict[str, Any]], metric: str) -> dict[str, float]:
    """Return the metric over the clients after the last round that has it, wherever in its line that stands."""
    for line in reversed(rounds):
        for place in (line.get("evaluation"), line.get("metrics"), line):
            found = place.get(metric) if isinstance(place, dict) else None
            if isinstance(found, dict):
                return {key: round(value, 6) for key in found if (value := number(found, key)) is not None}
    return {}


def _shares(lines: Sequence[dict[str, Any]]) -> tuple[tuple[int, dict[str, int]], ...]:
    shares: dict[int, dict[str, int]] = {}
    for line in lines:
        labels = line.get("labels")
        if isinstance(line.get("rank"), int) and isinstance(labels, dict):
            shares[line["rank"]] = {str(label): int(amount(labels, label)) for label in labels}
    return tuple(sorted(shares.items()))


def _parts(lines: Sequence[dict[str, Any]]) -> tuple[ModelShare, ...]:
    found = {
        line["rank"]: ModelShare(line["rank"], tuple(map(int, line["layers"])), int(amount(line, "bytes")))
        for line in lines
        if isinstance(line.get("rank"), int) and all(isinstance(place, int) for place in line["layers"])
    }
    return tuple(found[rank] for rank in sorted(found))


def _thin(points: Sequence[Point]) -> tuple[Point, ...]:
    if len(points) <= MOST_POINTS:
        return tuple(points)
    return tuple(points[round(i)] for i in np.linspace(0, len(points) - 1, MOST_POINTS))


def _at(line: dict[str, Any]) -> float:
    return amount(line, "t")
