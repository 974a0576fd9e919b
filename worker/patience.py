"""Patience: when what is measured has not got better for long enough, so that training may end. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, TypedDict

from ps.errors import UsageError
from ps.worker.numbers import as_float, shown

HIGHER = {"acc", "accuracy", "auc", "bleu", "f1", "iou", "precision", "r2", "recall", "rouge", "score", "top1", "top5"}
LOWER = {"cost", "entropy", "error", "err", "loss", "mae", "mse", "nll", "perplexity", "ppl", "rmse", "squared"}
"""Words in the names of metrics of which it is known which is better."""


class PatienceArguments(TypedDict, total=False):
    """What ``kv.evaluate`` takes of it, see ``Patience``."""

    patience: int | None
    monitor: str | None
    mode: str | None
    min_delta: float


class Patience:
    """How often in a row a metric was not better than its best; NaN never is.

    ``patience``: so many evaluations are put up with. ``monitor``: the metric's name where there are several.
    ``mode``: "max" where higher is better, "min" where lower is; as the metric's name has it unless given.
    ``min_delta``: by how much it has to be better to count. As in Keras and Lightning.
    """

    def __init__(self, name: str, patience: Any, monitor: str | None, mode: str | None, min_delta: Any) -> None:
        """``name``: what a single number is called. Raises UsageError."""
        if isinstance(patience, bool) or not isinstance(patience, int) or patience < 1:
            raise UsageError(f"patience is a number of evaluations, at least 1, not {shown(patience)}")
        self._delta = as_float(min_delta)
        if not 0 <= self._delta < math.inf:
            raise UsageError(f"min_delta is how much better counts, 0 or more, not {shown(min_delta)}")
        if mode not in (None, "min", "max"):
            raise UsageError(f'mode is "min" or "max", not {shown(mode)}')
        self._patience, self._monitor = patience, monitor
        self._sign = _direction(name if monitor is None else monitor) if mode is None else 1 if mode == "max" else -1
        self.best: tuple[float, int] | None = None
        """The best value, and the clock of its model."""
        self._worse = 0
        self._name = ""

    def look(self, clock: int, metrics: Mapping[str, float]) -> str:
        """Take what was measured at a clock; return why training is to end, if it is. Raises UsageError."""
        self._name = self._monitor or (next(iter(metrics)) if len(metrics) == 1 else "")
        if self._name not in metrics:
            known = ", ".join(metrics) or "nothing"
            raise UsageError(f"kv.evaluate with patience needs monitor=NAME: measured were {known}")
        value = metrics[self._name]
        if math.isfinite(value) and (self.best is None or self._sign * (value - self.best[0]) > self._delta):
            self.best, self._worse = (value, clock), 0
            return ""
        self._worse += 1
        if self._worse < self._patience:
            return ""
        times = f"{self._worse} evaluation{'' if self._worse == 1 else 's'}"
        return f"{self.describe()}, and has not got better in {times} since" if self.best else self.describe()

    def dump(self) -> list[Any]:
        """Return what was seen so far, as plain values."""
        return [list(self.best) if self.best else None, self._worse, self._name]

    def load(self, values: list[Any]) -> None:
        """Go on with what ``dump`` returned."""
        best, self._worse, self._name = values
        self.best = None if best is None else (float(best[0]), int(best[1]))

    @property
    def looked(self) -> bool:
        """Whether anything was measured."""
        return bool(self._name)

    def describe(self) -> str:
        """Say what was best, and when, of what was measured."""
        if self.best is None:
            return f"{self._name} was never a number"
        return f"{self._name} was best at clock {self.best[1]:,}, {self.best[0]:.6g}"


def _direction(name: str) -> int:
    """Return 1 where higher is better, -1 where lower is. Raises UsageError where the name does not say."""
    words = set(re.split(r"[^a-z0-9]+", name.lower()))
    if bool(words & HIGHER) == bool(words & LOWER):
        raise UsageError(f'say which {name!r} is better with patience: mode="min" or mode="max"')
    return 1 if words & HIGHER else -1
