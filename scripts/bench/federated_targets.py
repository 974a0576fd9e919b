"""Measure what the federated mode is to reach: DiLoCo's bytes, FedBuff's time, the simulation's speed and memory.

python scripts/bench/federated_targets.py --data DIR            all three, some minutes
python scripts/bench/federated_targets.py --only simulation     no data needed

DiLoCo: real processes, MNIST, four workers, against sync with the same examples and batches. FedBuff: 100 clients of
which half are ten times slower, virtual time to 95 % of the 2NN, against synchronous rounds of as many contributions;
the median of three seeds. Simulation: a softmax client of 7,850 parameters with 100 examples in 10 steps, updates per
second of real time, beside what NumPy's arithmetic alone allows two processes; and 10,000 clients for 100 rounds, with
the memory of all processes together.
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
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from limits import machine

ROOT = Path(__file__).parents[2]
PSCTL = (sys.executable, "-m", "ps.cli")
SPEED = "classes:slow=0.5,factor=10,step=0.1"


def diloco(data: str, epochs: int) -> dict[str, Any]:
    """Return accuracy and bytes up of sync and of DiLoCo with 50 local steps."""
    found = {}
    steps = epochs * 60_000 // (4 * 32)
    federated = ["--mode", "federated", "--algorithm", "diloco", "--local-steps", "50", "--rounds", str(steps // 50)]
    for name, flags in {"sync": ["--transport", "ipc"], "diloco": federated}.items():
        with tempfile.TemporaryDirectory() as folder:
            script = [
                str(ROOT / "ps/examples/mnist.py"),
                "--model",
                "mlp",
                "--epochs",
                str(epochs),
                "--data",
                data,
            ]
            command = [*PSCTL, "run", "-s", "1", "-w", "4", "--run-dir", folder, *flags, *script]
            done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=600)
            accuracy = re.search(r"test accuracy ([\d.]+)", done.stdout)
            assert accuracy is not None
            summary = json.loads((Path(folder) / "summary.json").read_text())
            found[name] = {"accuracy": float(accuracy[1]), "bytes_up": summary["bytes_up"]}
    found["bytes"] = found["sync"]["bytes_up"] / found["diloco"]["bytes_up"]
    found["behind"] = found["sync"]["accuracy"] - found["diloco"]["accuracy"]
    return found


def fedbuff(data: str, seeds: int) -> dict[str, Any]:
    """Return the virtual seconds to 95 % with synchronous rounds of 10 clients, and asynchronous with 10 at once."""
    found: dict[str, Any] = {}
    flags = ["--clients", "100", "--clients-per-round", "10", "--model", "mlp", "--hidden", "200,200", "--data", data]
    flags += ["--rounds", "500", "--eval-every", "1", "--target", "0.95", "--speed", SPEED]
    ways = {
        "sync": ["--algorithm", "fedavg", "--over-select", "1"],
        "sync, 1.3 x selected": ["--algorithm", "fedavg"],
        "fedbuff:10": ["--algorithm", "fedbuff:10"],
        "fedbuff:10, 20 at once": ["--algorithm", "fedbuff:10", "--clients-per-round", "20"],
        "fedbuff:5": ["--algorithm", "fedbuff:5"],
    }
    for name, way in ways.items():
        runs = [_simulate([*flags, *way, "--seed", str(seed)])["target"] for seed in range(seeds)]
        found[name] = statistics.median(run["virtual_s"] for run in runs)
    found["ratios"] = {name: round(seconds / found["sync"], 2) for name, seconds in found.items()}
    return found


def simulation(repeats: int) -> dict[str, Any]:
    """Return updates per second, and what 10,000 clients take."""
    flags = ["--dataset", "synthetic", "--features", "784", "--eval-every", "1000", "--over-select", "1"]
    each = [*flags, "--clients", "600", "--examples", "72000", "--clients-per-round", "600", "--rounds", "40"]
    turns = [(_simulate(each)["real"]["updates_per_s"], _bare()) for _ in range(repeats)]
    rate, bare = (statistics.median(rates) for rates in zip(*turns, strict=True))
    large = [*flags, "--clients", "10000", "--examples", "72000", "--clients-per-round", "100", "--rounds", "100"]
    began, peak = time.monotonic(), [0]
    _simulate(large, peak)
    found = {"updates_per_s": rate, "bare_per_s": bare, "of_bare": rate / bare}
    return {**found, "seconds": time.monotonic() - began, "peak_mb": peak[0] / 1e6}


def _bare() -> float:
    """Return the updates a second of two processes that do nothing but the arithmetic."""
    command = [sys.executable, str(Path(__file__).with_name("federated_bare.py"))]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    return sum(float(each.communicate(timeout=120)[0]) for each in both)


def _simulate(flags: list[str], peak: list[int] | None = None) -> Any:
    command = [*PSCTL, "simulate", *flags, "--json", "-"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        watcher = threading.Thread(target=_watch, args=(process, peak), daemon=True)
        if peak is not None:
            watcher.start()
        out, _ = process.communicate(timeout=900)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    return json.loads(out)


def _watch(process: subprocess.Popen[str], peak: list[int]) -> None:
    """Note the most memory that the process and its children have had, what they share counted once."""
    while process.poll() is None:
        pids = [process.pid, *_children(process.pid)]
        peak[0] = max(peak[0], sum(map(_proportional, pids)))
        time.sleep(0.1)


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _proportional(pid: int) -> int:
    try:
        found = re.search(r"^Pss:\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
    except OSError:
        return 0
    return int(found[1]) * 1024 if found else 0


def main() -> None:
    """Print what was aimed at and what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=os.environ.get("PS_DATA"), help="folder with MNIST's files (PS_DATA)")
    parser.add_argument("--only", choices=("diloco", "fedbuff", "simulation"), help="one of the three")
    parser.add_argument("--epochs", type=int, default=5, help="DiLoCo: passes over the data (5)")
    parser.add_argument("--seeds", type=int, default=3, help="FedBuff: seeds (3)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    args = parser.parse_args()
    cases: dict[str, Callable[[], dict[str, Any]]] = {
        "diloco": lambda: diloco(args.data, args.epochs),
        "fedbuff": lambda: fedbuff(args.data, args.seeds),
        "simulation": lambda: simulation(3),
    }
    aims = {
        "diloco": "within 1 % of sync with 1/50 of the bytes",
        "fedbuff": "at most 0.5 of the time of synchronous rounds",
        "simulation": "10,000 updates/s; 10,000 clients and 100 rounds under 2,000 MB",
    }
    results = {}
    for name, case in cases.items():
        if args.only in (None, name) and (args.data or name == "simulation"):
            results[name] = case()
            if not args.json:
                print(f"{name} (aim: {aims[name]}): {results[name]}", flush=True)
    if args.json:
        print(json.dumps({"machine": machine(), **results}, indent=2))


if __name__ == "__main__":
    main()
