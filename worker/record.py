"""StepLog: a worker's lines in ``metrics.jsonl``, one for each step."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ps.errors import UsageError

FLUSH = 0.5
"""Seconds after which lines are written; each write appends whole lines, so that workers can share the file."""


class StepLog:
    """Counts a worker's steps and, with a run directory, writes them down."""

    def __init__(self, run_dir: str | None, rank: int) -> None:
        self.rank = rank
        self.steps = 0
        self.samples = 0
        self.max_staleness = 0
        self._latest: dict[str, Any] = {}
        self._lines: list[str] = []
        self._began = self._last = self._flushed = time.monotonic()
        self._path = None
        if run_dir is not None:
            try:
                Path(run_dir).mkdir(parents=True, exist_ok=True)
                self._path = Path(run_dir) / "metrics.jsonl"
                self._path.touch()
            except OSError as error:
                raise UsageError(f"cannot write to the run directory {run_dir}: {error.strerror}") from None

    def step(self, clock: int, samples: float, metrics: Mapping[str, Any], **counted: Any) -> None:
        """Note one step: its clock (0-based), its number of examples, the script's metrics and what was counted."""
        now = time.monotonic()
        took, self._last = now - self._last, now
        self.steps += 1
        self.samples += int(samples)
        self.max_staleness = max(self.max_staleness, counted.get("staleness", 0))
        self._latest = {
            "t": round(time.time(), 3),
            "rank": self.rank,
            "clock": clock,
            **{name: _plain(value) for name, value in metrics.items()},
            "samples": int(samples),
            "samples_per_s": round(samples / took, 1) if took > 0 else 0.0,
            **counted,
        }
        if self._path is not None:
            self._lines.append(json.dumps(self._latest))
            if now - self._flushed > FLUSH:
                self.flush()

    def report(self) -> dict[str, Any]:
        """Return the sums for the status."""
        elapsed = self._last - self._began
        shown = {k: v for k, v in self._latest.items() if k not in ("t", "rank", "clock", "samples_per_s", "staleness")}
        return {
            **shown,
            "steps": self.steps,
            "samples": self.samples,
            "samples_per_s": round(self.samples / elapsed, 1) if elapsed > 0 else 0.0,
            "max_staleness": self.max_staleness,
        }

    def flush(self) -> None:
        """Write what is noted. A full disk costs the record, not the training."""
        self._flushed = time.monotonic()
        lines, self._lines = self._lines, []
        if self._path is None or not lines:
            return
        try:
            with self._path.open("ab", buffering=0) as file:
                file.write(("\n".join(lines) + "\n").encode())
        except OSError as error:
            self._path = None
            print(f"ps: metrics.jsonl is no longer written: {error.strerror}", flush=True)


def _plain(value: Any) -> Any:
    """Return a metric as JSON has it: numbers stay numbers, arrays of one element become one, the rest text."""
    if isinstance(value, (bool, int, str)) or value is None:
        return value
    try:
        number = float(value)
    except (TypeError, ValueError):
        return str(value)
    return number if number == number and abs(number) != float("inf") else str(number)
