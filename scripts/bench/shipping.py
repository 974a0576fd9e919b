"""What a standby costs, fed by combined gradients that it replays, and by weights and optimizer states.

    python scripts/bench/shipping.py --mb 40 --rounds 3 [--optimizers sgd:lr=0.01 adam:lr=0.001]

One server with its standby and one worker on this host, over shared memory, in turns without a standby, with gradients
and with states (``shipping_variant.py``). Printed are the medians over the rounds: the worker's median step, the CPU
time of server and standby in a step, and what the server has written for its standby in it.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
OPTIMIZERS = ("sgd:lr=0.001", "momentum:lr=0.001,momentum=0.9", "adam:lr=0.001")
WAYS = ("none", "gradient", "state")


def run(options: argparse.Namespace, optimizer: str, way: str) -> dict[str, float]:
    """Return the figures of one run."""
    command = [sys.executable, "-m", "ps.cli", "run", "-s", "1", "-w", "1", "--replicas", str(int(way != "none"))]
    command += ["--plugin", "shipping_variant", "--optimizer", optimizer, "--transport", options.transport]
    command += [str(HERE / "replicas_step.py"), str(options.mb), str(options.steps), "0"]
    path = os.pathsep.join(filter(None, (str(HERE), os.environ.get("PYTHONPATH", ""))))
    environment = {**os.environ, "SHIP": way, "PYTHONPATH": path}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    text = done.stdout + done.stderr
    step = re.search(r"median step ([\d.]+) ms", text)
    costs = [(float(cpu), float(mb)) for cpu, mb in re.findall(r"COST ([\d.]+) ms ([\d.]+) MB", text)]
    if done.returncode or step is None or len(costs) != 2 * (way != "none"):
        raise SystemExit(text[-3000:])
    cpu = {"cpu": sum(cost[0] for cost in costs), "mb": max(cost[1] for cost in costs)} if costs else {}
    return {"step": float(step[1]), **cpu}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mb", type=float, default=40.0)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--optimizers", nargs="+", default=OPTIMIZERS)
    parser.add_argument("--transport", default="auto")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows = []
    for optimizer in options.optimizers:
        found: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
        for number in range(options.rounds):
            for way in WAYS if number % 2 else reversed(WAYS):
                found[way].append(run(options, optimizer, way))
        for way, each in found.items():
            row = {name: statistics.median(one[name] for one in each) for name in each[0]}
            rows.append({"optimizer": optimizer, "way": way, **row})
            if not options.json:
                cost = f"{row['cpu']:8.1f} ms of CPU  {row['mb']:6.1f} MB" if "cpu" in row else ""
                print(f"{optimizer:34} {way:9} {row['step']:8.1f} ms a step {cost}", flush=True)
    if options.json:
        print(json.dumps(rows))


if __name__ == "__main__":
    main()
