"""What a checkpoint costs the steps that it is made in: the longest of them over the median of the others.

    python scripts/bench/checkpoint.py [--mb 2000] [--times 6] [--optimizer sgd:lr=0.001] [--work 0] [--folder DIR]

Now and then a checkpoint of a running job is asked for (``psctl checkpoint``), and it is seen which steps fall between
that and its end. The longest of these is told over the median of the others, and so is the longest of the others: what
the machine does by itself. The aim is 1.5 for a model of 2 GB.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

SCRIPT = Path(__file__).with_name("checkpoint_step.py")
LIMIT = 1.5
FIRST = 5
"""Steps in which memory is touched for the first time."""
BETWEEN = 5
"""Steps between two checkpoints."""


class Job:
    """A run, and when its worker with rank 0 did which step."""

    def __init__(self, options: argparse.Namespace, folder: str) -> None:
        command = [sys.executable, "-m", "ps.cli", "run", "-s", str(options.servers), "-w", str(options.workers)]
        command += ["--optimizer", options.optimizer, "--transport", options.transport]
        command += ["--checkpoint-dir", folder, "--keep", "1", str(SCRIPT), str(options.mb), str(options.work)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.lines: list[str] = []
        self.steps: list[tuple[float, float]] = []
        """The end of each step, by the system's monotonic clock, and its seconds."""
        self.address = ""
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if found := re.search(r"step ([\d.]+) ([\d.]+)", line):
                self.steps.append((float(found[1]), float(found[2])))
                continue
            self.lines.append(line)
            if found := re.search(r"scheduler at (tcp://\S+)", line):
                self.address = found[1]

    def wait(self, steps: int) -> None:
        """Wait for so many more steps."""
        wanted = len(self.steps) + steps
        while len(self.steps) < wanted:
            if self._process.poll() is not None:
                raise SystemExit("it has ended:\n" + "".join(self.lines[-30:]))
            time.sleep(0.02)

    def checkpoint(self) -> tuple[float, float]:
        """Have one made; return when it was asked for, and when it was whole."""
        began = time.monotonic()
        command = [sys.executable, "-m", "ps.cli", "checkpoint", "--scheduler", self.address]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(done.stdout + done.stderr)
        return began, time.monotonic()

    def close(self) -> None:
        """End it, without a last checkpoint."""
        self._process.kill()
        self._process.wait(30)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mb", type=float, default=2000.0)
    parser.add_argument("--times", type=int, default=6)
    parser.add_argument("--servers", type=int, default=2)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--work", type=float, default=0.0, help="milliseconds that a worker computes in a step")
    parser.add_argument("--optimizer", default="sgd:lr=0.001")
    parser.add_argument("--transport", default="auto")
    parser.add_argument("--folder", help="where the checkpoints go (a temporary folder)")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="checkpoint-", dir=options.folder) as folder:
        job, windows = Job(options, folder), []
        try:
            job.wait(FIRST)
            for _ in range(options.times):
                job.wait(BETWEEN)
                windows.append(job.checkpoint())
                job.wait(1)
            steps = job.steps[FIRST:]
        finally:
            job.close()
    during = [max(took for at, took in steps if at > lo and at - took < hi) for lo, hi in windows]
    others = [took for at, took in steps if not any(at > lo and at - took < hi for lo, hi in windows)]
    middle = statistics.median(others)
    found = {
        "step": middle,
        "others": max(others) / middle,
        "longest": [each / middle for each in during],
        "seconds": [hi - lo for lo, hi in windows],
        "limit": LIMIT,
    }
    if options.json:
        print(json.dumps(found))
        return
    ratios = ", ".join(f"{ratio:.2f}" for ratio in found["longest"])
    print(f"median step {middle:.2f} s; longest without a checkpoint {found['others']:.2f} × that")
    print(f"longest step during each checkpoint: {ratios} × that; median {statistics.median(found['longest']):.2f}")
    print(f"from asking to whole: {statistics.median(found['seconds']):.1f} s; load {os.getloadavg()[0]:.0f}")
    print(f"the aim is {LIMIT}")


if __name__ == "__main__":
    main()
