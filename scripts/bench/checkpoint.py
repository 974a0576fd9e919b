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
import statistics
import subprocess
import sys
import tempfile
import time

from timed_job import TimedJob, between

LIMIT = 1.5
FIRST = 5
"""Steps in which memory is touched for the first time."""
BETWEEN = 5
"""Steps between two checkpoints."""


def checkpoint(job: TimedJob) -> tuple[float, float]:
    """Have one made; return when it was asked for, and when it was whole."""
    began = time.monotonic()
    command = [sys.executable, "-m", "ps.cli", "checkpoint", "--scheduler", job.address]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    return began, time.monotonic()


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
        flags = ["-s", str(options.servers), "--optimizer", options.optimizer, "--transport", options.transport]
        flags += ["--checkpoint-dir", folder, "--keep", "1"]
        flags += ["--checkpoint-every", "1000s"]  # with a cadence memory is taken beforehand
        job, windows = TimedJob(flags, options.workers, options.mb, work=options.work), []
        try:
            job.wait(FIRST)
            for _ in range(options.times):
                job.wait(BETWEEN)
                windows.append(checkpoint(job))
                job.wait(1)
            steps = job.steps[0][FIRST:]
        finally:
            job.process.kill()  # without a last checkpoint
            job.process.wait(30)
    during = [max(between(steps, lo, hi)) for lo, hi in windows]
    others = [took for _, end, took in steps if not any(end > lo and end - took < hi for lo, hi in windows)]
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
    ratios = ", ".join(f"{each / middle:.2f}" for each in during)
    print(f"median step {middle:.2f} s; the longest without a checkpoint {max(others) / middle:.2f} times that")
    print(f"the longest during each checkpoint: {ratios} times that; median {statistics.median(during) / middle:.2f}")
    print(
        f"from asking to whole: {statistics.median(hi - lo for lo, hi in windows):.1f} s; load {os.getloadavg()[0]:.0f}"
    )
    print(f"the aim is {LIMIT}")


if __name__ == "__main__":
    main()
