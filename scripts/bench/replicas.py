"""What --replicas 1 costs on one host: the step with standbys over the step without, in alternation.

    python scripts/bench/replicas.py --mb 40 --workers 2 --rounds 3 [--optimizer adam:lr=0.001] [--work 20]

Both run the same script, whose workers push a gradient of so many MB and have new weights; with ``--work`` each
computes for about so many milliseconds in a step besides. Printed are the medians of the workers' steps of each run,
and the median of the ratios of neighbouring runs. What a standby does is paid for with the same cores.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).with_name("replicas_step.py")
LIMIT = 1.35


def step(options: argparse.Namespace, replicas: int) -> float:
    """Return the median step in milliseconds of a run."""
    command = [sys.executable, "-m", "ps.cli", "run", "-s", str(options.servers), "-w", str(options.workers)]
    command += ["--replicas", str(replicas), "--optimizer", options.optimizer, "--transport", options.transport]
    command += [str(SCRIPT), str(options.mb), str(options.steps), str(options.work)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = [float(text) for text in re.findall(r"median step ([\d.]+) ms", done.stdout + done.stderr)]
    if done.returncode or not found:
        raise SystemExit(done.stdout[-2000:] + done.stderr[-2000:])
    return statistics.median(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mb", type=float, default=40.0)
    parser.add_argument("--servers", type=int, default=2)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--work", type=float, default=0.0)
    parser.add_argument("--optimizer", default="momentum:lr=0.001,momentum=0.9")
    parser.add_argument("--transport", default="auto")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    ratios, rows = [], []
    for number in range(options.rounds):
        pair = {replicas: step(options, replicas) for replicas in ((0, 1) if number % 2 else (1, 0))}
        ratios.append(pair[1] / pair[0])
        rows.append({"without": pair[0], "with": pair[1], "ratio": ratios[-1]})
        if not options.json:
            print(f"{pair[0]:8.1f} ms without  {pair[1]:8.1f} ms with  {ratios[-1]:.2f}", flush=True)
    ratio = statistics.median(ratios)
    if options.json:
        print(json.dumps({"rows": rows, "ratio": ratio, "limit": LIMIT}))
    else:
        print(f"with standbys a step takes {ratio:.2f} times as long; the aim is {LIMIT}")


if __name__ == "__main__":
    main()
