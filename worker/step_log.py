"""StepLog: a worker's lines in ``metrics.jsonl``, one for each step."""

from __future__ import annotations

import itertools
import json
import logging
import math
import operator
import os
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ps.errors import UsageError
from ps.record_files import EVALUATIONS, METRICS, SHARES, STAGES
from ps.record_lives import FIRST
from ps.regular_file import reason, refuse_pipe, shown
from ps.worker.metric_ranges import MetricRanges
from ps.worker.shares import write_stages
from ps.worker.traffic import Traffic

log = logging.getLogger("ps.worker")

FLUSH = 0.5
"""Seconds after which lines are written; each write appends whole lines, so that workers can share the file."""
RECENT = 10.0
"""Seconds by which the speed of the status is judged."""
LONGEST = 200
"""Characters of a metric that is text, at most."""
MOST = (1 << 63) - 1
"""The largest whole number of the protocol; counts stop there."""
MOST_SHOWN = 32
"""Metrics that go into the status, at most: they travel with every heartbeat."""


class StepLog:
    """Counts a worker's steps and, with a run directory, writes them down."""

    def __init__(self, run_dir: str | None, life: int = FIRST) -> None:
        """``life``: which one of its folder of checkpoints the run is.

        Raises UsageError when there can be no file in the directory.
        """
        self._life = {} if life == FIRST else {"life": life}
        self.rank = 0
        self.after: Callable[[], None] = lambda: None
        """Called when all is written."""
        self.run_dir = run_dir
        self.base_lr: float | None = None
        """What this worker's script has set the learning rate to, if it has; the schedule multiplies it."""
        self.steps = 0
        self.samples = 0
        self.max_staleness = 0
        self._first_batch = ""
        self._metrics: dict[str, Any] = {}
        self._ranges = MetricRanges()
        self._measured: tuple[int, dict[str, Any]] | None = None
        """The clock of the last evaluation, and its results."""
        self._pace: deque[tuple[float, int]] = deque()
        """When there were how many samples, since not too long."""
        self._lines: list[str] = []
        self._began = self._last = self._flushed = time.monotonic()
        self.private = self.alone = False
        """Whether nothing that is this worker's alone is told: of its examples and metrics; of what it measures."""
        self.reads = True
        """Whether the examples of a step come in at this worker, and are counted here."""
        self._counted = (0, 0, 0.0)
        self._passes: dict[str, float] = {}
        self._path: Path | None = None
        self._evaluations: Path | None = None
        """The files; none where there is none, or no room."""
        if run_dir is not None:
            self._path, self._evaluations = Path(run_dir) / METRICS, Path(run_dir) / EVALUATIONS
            try:
                for path in (self._path, self._evaluations, *(Path(run_dir) / name for name in (SHARES, STAGES))):
                    refuse_pipe(path)
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._path.open("ab").close()
            except (OSError, ValueError) as error:
                raise UsageError(f"cannot write to the run directory {shown(run_dir)}: {reason(error)}") from None

    def belong(self, rank: int, *, reads: bool) -> None:
        """Be that of the worker with a rank; ``reads``: the examples of a step come in there."""
        self.rank, self.reads = rank, reads

    def keep_private(self, *, alone: bool) -> None:
        """Tell nothing that is this worker's alone. ``alone``: the data on which it measures is its own as well."""
        self.private, self.alone = True, alone

    def begin(self, traffic: Traffic) -> None:
        """Note where the first step begins: its line counts from here."""
        self._began = self._last = time.monotonic()
        self._counted = (traffic.bytes_up, traffic.bytes_down, traffic.wait_s)
        self._passes = dict(traffic.passes)

    def step(
        self,
        clock: int,
        samples: float,
        metrics: Mapping[str, Any],
        traffic: Traffic,
        *,
        staleness: int,
        skipped: bool = False,
        steps: int | None = None,
        made_of: tuple[int, float] | None = None,
    ) -> None:
        """Note one step: its clock (0-based), its number of examples, the script's metrics and what was counted.

        ``made_of``: how many workers contributed to it, where that is known, and of how many examples it is in all.
        A federated round is noted as a whole, with its number as clock and how many ``steps`` it had.
        Bytes and the time waited are those since the line before. A metric named like one of ours is left out.
        """
        now = time.monotonic()
        took, self._last = now - self._last, now
        up, down, waited = self._counted
        self._counted = (traffic.bytes_up, traffic.bytes_down, traffic.wait_s)
        passes = {name: round(total - self._passes.get(name, 0), 6) for name, total in traffic.passes.items()}
        self._passes = dict(traffic.passes)
        if self.private:
            samples, steps, metrics = 0, 0, {name: metrics[name] for name in metrics if name == "verdict"}
        samples = min(int(samples), MOST) if self.reads else 0
        self.steps += 1 if steps is None else steps
        self.samples = min(self.samples + samples, MOST)
        self.max_staleness = max(self.max_staleness, staleness)
        self._metrics = _noted(metrics)
        self._ranges.note(self._metrics)
        self._keep_pace(now)
        if self._path is None:
            return
        line = {
            **self._metrics,
            **({} if steps is None else {"steps": steps}),
            "t": round(time.time(), 3),
            "rank": self.rank,
            "clock": clock,
            "samples": samples,
            "samples_per_s": _plain(round(samples / took, 1)) if took > 0 else 0.0,
            "bytes_up": traffic.bytes_up - up,
            "bytes_down": traffic.bytes_down - down,
            "wait_s": round(traffic.wait_s - waited, 6),
            "staleness": staleness,
            **passes,
            **({} if self.base_lr is None else {"base_lr": self.base_lr}),
            **({} if made_of is None else {"contributors": made_of[0], "examples": _plain(made_of[1])}),
            **({"skipped": 1} if skipped else {}),
            **self._life,
        }
        self._lines.append(json.dumps(line, allow_nan=False))
        if now - self._flushed > FLUSH:
            self.flush()

    def note_stages(self, layers: Sequence[int], count: int, nbytes: int) -> None:
        """Write down which layers of a pipeline this worker has, of how many, and the bytes of their tensors."""
        if self.run_dir is not None:
            write_stages(self.run_dir, self.rank, layers, count, nbytes)

    def note_first_batch(self, digest: str) -> None:
        """Have the scheduler told of this worker's first batch, so that it can warn of workers that have the same."""
        self._first_batch = "" if self.private else digest

    def evaluation(self, clock: int, metrics: Mapping[str, float]) -> None:
        """Write what the parameters of a clock were measured to be; at once, since others watch it."""
        if self.alone:
            return
        noted = _noted(metrics)
        self._measured = clock, noted  # anew: the thread that reports may be reading the old ones
        if self._evaluations is None:
            return
        line = {**noted, "t": round(time.time(), 3), "rank": self.rank, "clock": clock, **self._life}
        try:
            with self._evaluations.open("a") as file:
                file.write(json.dumps(line) + "\n")
        except OSError as error:
            log.warning("%s is no longer written: %s", self._evaluations, error.strerror)
            self._evaluations = None

    def report(self, traffic: Traffic) -> dict[str, Any]:
        """Return the sums and the latest metrics for the status."""
        shown, ranges = itertools.islice(self._metrics.items(), MOST_SHOWN), self._ranges.take()
        found: dict[str, Any] = {}
        if (last := self._measured) is not None:
            found = {"measured": dict(itertools.islice(last[1].items(), MOST_SHOWN)), "measured_clock": last[0]}
        if self._first_batch:
            found["first_batch"] = self._first_batch
        return {
            **found,
            "metrics": dict(shown),
            **({"ranges": ranges} if ranges else {}),
            "steps": self.steps,
            "samples": self.samples,
            "samples_per_s": self._speed(),
            "max_staleness": self.max_staleness,
            "bytes_up": traffic.bytes_up,
            "bytes_down": traffic.bytes_down,
            "wait_s": round(traffic.wait_s, 3),
        }

    def _keep_pace(self, now: float) -> None:
        marks = self._pace
        if not marks:
            marks.append((self._began, 0))
        if len(marks) < 2 or now - marks[-2][0] > RECENT / 10:
            marks.append((now, self.samples))
        else:
            marks[-1] = now, self.samples
        while len(marks) > 2 and now - marks[1][0] > RECENT:
            marks.popleft()

    def _speed(self) -> float:
        """Return the samples a second of late."""
        try:
            (began, first), (last, samples) = self._pace[0], self._pace[-1]
        except IndexError:
            return 0.0
        return round((samples - first) / (last - began), 1) if last > began else 0.0

    def end(self) -> None:
        """Write what is noted, and say what it came to."""
        self.flush()
        if self.steps:
            measured = self._measured[1].items() if self._measured is not None else ()
            more = "".join(f", {name} {value:.4g}" for name, value in measured if isinstance(value, int | float))
            took = self._last - self._began
            log.info("done after %.1f s: %s steps, %s samples%s", took, f"{self.steps:,}", f"{self.samples:,}", more)
        self.after()

    def flush(self) -> None:
        """Write what is noted. A full disk costs the record, not the training."""
        self._flushed = time.monotonic()
        lines, self._lines = self._lines, []
        if self._path is None or not lines:
            return
        data = ("\n".join(lines) + "\n").encode()
        try:
            file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
            try:
                while data:
                    data = data[os.write(file, data) :]
            finally:
                os.close(file)
        except OSError as error:
            log.warning("%s is no longer written: %s", self._path, error.strerror)
            self._path = None


def _noted(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Return a script's metrics as JSON and the protocol have them, under names that can be written."""
    return {text_of(name): _plain(value) for name, value in metrics.items()}


def _plain(value: Any) -> Any:
    """Return a metric as JSON has it: numbers stay numbers, arrays of one element become one, the rest text.

    Whole numbers that the protocol cannot carry become floating ones.
    """
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, str):
        return text_of(value)
    try:
        if getattr(value, "ndim", 0):  # NumPy is about to refuse float() of anything but a scalar
            value = value.reshape(())
        try:
            whole = operator.index(value)
        except TypeError:
            number = float(value)
        else:
            if -MOST <= whole <= MOST:
                return whole
            number = float(whole)
    except Exception:  # a metric is no reason to end a training, whatever it is
        return text_of(value)
    return number if math.isfinite(number) else str(number)


def text_of(value: Any) -> str:
    """Return anything as text that can be written and travel, not too long."""
    try:
        text = str(value)
    except Exception as error:
        text = f"<{type(value).__name__}: {error}>"
    return text[:LONGEST].encode(errors="replace").decode()
