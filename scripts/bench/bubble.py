"""How idle the workers of a pipeline are: four stages as processes whose passes sleep, against what schedules promise.

    python scripts/bench/bubble.py
    python scripts/bench/bubble.py --schedules 1f1b --microbatches 8 --pass-ms 10 --steps 10 --json bubble.json

Passes take a time and no processor, so that any machine has room for four workers, as four machines would have: what is
measured is the waiting for each other. A forward pass takes --pass-ms, a backward pass twice that, half of it for the
input; the first stage has no such half, and takes as long all the same, since the formula is that of equal stages. The
share of idle time is one minus the time in passes over the workers' time, from when the first stage begins a step until
the last worker is done with it, as ``metrics.jsonl`` has it of every step. The median over the steps counts; the least
is that of the step in which others wanted the processors least.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import textwrap
from collections import defaultdict
from pathlib import Path
from typing import Any

from limits import machine
from outfile import outfile

from ps.record_files import METRICS

STAGES = 4
SCHEDULES = ("fill-drain", "1f1b", "1f1b:1", "zero-bubble", "zero-bubble:1", "interleaved:2")
BEGINNING = 2
"""Steps at the beginning that do not count: connections are new, and memory is touched for the first time."""

SCRIPT = """
import sys, time
import numpy as np
import ps
from ps.models import softmax_cross_entropy

schedule, seconds = sys.argv[1], float(sys.argv[2])
stages, microbatches, steps = map(int, sys.argv[3:])

class Layer:
    def init(self, rng):
        return {"w": np.eye(4, dtype=np.float32)}
    def forward(self, params, x):
        time.sleep(seconds)
        return x @ params["w"], x

class First(Layer):
    def backward(self, params, x, dy):
        time.sleep(2 * seconds)
        return dy, {"w": x.T @ dy}

class Later(Layer):
    def backward_input(self, params, x, dy):
        time.sleep(seconds)
        return dy @ params["w"].T
    def backward_weights(self, params, x, dy):
        time.sleep(seconds)
        return {"w": x.T @ dy}
    def backward(self, params, x, dy):
        return self.backward_input(params, x, dy), self.backward_weights(params, x, dy)

x, y = np.ones((microbatches, 4), np.float32), np.zeros(microbatches, int)
layers = [First(), *(Later() for _ in range(stages - 1))]
pipe = ps.Pipeline(layers, softmax_cross_entropy, schedule=schedule, inexact=True)
with ps.connect() as kv:
    pipe.init(kv)
    for _ in range(steps):
        pipe.step(x, y, microbatches=microbatches)
"""


def measure(schedule: str, microbatches: int, seconds: float, steps: int) -> dict[str, float]:
    """Return the shares of idle time: measured, by the schedule, and by the formula of 1F1B."""
    name, _, number = schedule.partition(":")
    each = int(number) if name == "interleaved" else 1
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "passes.py"
        script.write_text(SCRIPT)
        arguments = [schedule, seconds / each, each * STAGES, microbatches, steps + BEGINNING]
        run = subprocess.run(
            [
                *(sys.executable, "-m", "ps.cli", "run", "-s", "1", "-w", str(STAGES), "--mode", "pipeline"),
                *("--stages", str(each * STAGES), "--pipeline-workers", str(STAGES), "--run-dir", folder),
                *(str(script), *map(str, arguments)),
            ],
            capture_output=True,
            text=True,
        )
        if run.returncode:
            sys.exit(f"{schedule} with {microbatches} micro-batches:\n{run.stdout}{run.stderr}")
        lines = [json.loads(line) for line in (Path(folder) / METRICS).read_text().splitlines()]
    measured, least, by_schedule = idle(lines)
    return {
        "measured": measured,
        "least": least,
        "schedule": by_schedule,
        "formula": (STAGES - 1) / (microbatches + STAGES - 1),
    }


def idle(lines: list[dict[str, Any]]) -> tuple[float, float, float]:
    """Return the median and the least share of idle time over a record's steps, and what the schedule makes of it."""
    steps: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for line in lines:
        steps[line["clock"]].append(line)
    measured, by_schedule = [], []
    for _, of in sorted(steps.items())[BEGINNING:]:
        longest = max(of, key=lambda line: line["pipeline_s"])
        measured.append(1 - sum(line["busy_s"] for line in of) / len(of) / longest["pipeline_s"])
        by_schedule.append(longest["bubble_s"] / longest["pipeline_s"])
    return statistics.median(measured), min(measured), statistics.median(by_schedule)


def arguments() -> argparse.ArgumentParser:
    """Return the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--schedules", nargs="+", default=SCHEDULES, metavar="NAME", help=" ".join(SCHEDULES))
    parser.add_argument("--microbatches", nargs="+", type=int, default=(4, 8, 16), metavar="M", help="4 8 16")
    parser.add_argument("--pass-ms", type=float, default=20.0, metavar="MS", help="what a forward pass takes (20)")
    parser.add_argument("--steps", type=int, default=5, metavar="N", help="steps that are measured (5)")
    parser.add_argument("--json", type=outfile, metavar="FILE", help="write the figures there too")
    return parser


def main() -> None:
    """Print a table."""
    options = arguments().parse_args()
    found = {"machine": machine(), "pass_ms": options.pass_ms, "rows": []}
    print(textwrap.fill(str(found["machine"]), 80))
    print(f"{'schedule':16} {'m':>3}  measured  least  schedule  (p-1)/(m+p-1)  measured/formula")
    for schedule in options.schedules:
        for microbatches in options.microbatches:
            row = measure(schedule, microbatches, options.pass_ms / 1e3, options.steps)
            ratio = row["measured"] / row["formula"]
            found["rows"].append({"schedule": schedule, "microbatches": microbatches, **row})
            print(
                f"{schedule:16} {microbatches:3}  {row['measured']:8.1%}  {row['least']:5.1%}  {row['schedule']:8.1%}"
                f"  {row['formula']:13.1%}  {ratio:16.2f}",
                flush=True,
            )
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
