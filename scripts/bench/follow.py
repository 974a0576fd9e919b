"""What a follower costs: turns of steps with and without a snapshot in each, interleaved, of one worker in sync mode.

python scripts/bench/follow.py [--parameters 10000000] [--turns 15] [--steps 100] [--servers 1]
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from local_cluster import cluster

import ps

FOLLOWER = """
import sys, ps
with ps.follow(sys.argv[1], every=0) as snapshots:
    for line in sys.stdin:
        print(next(snapshots).clock, flush=True)
"""
"""A process that takes a snapshot for each line that it is sent."""
EVERY = 10.0
"""Seconds between two snapshots by default."""


def main() -> None:
    """Print how much longer a turn takes with a snapshot in it, and what that is with one every 10 s."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parameters", type=int, default=10_000_000)
    parser.add_argument("--turns", type=int, default=15)
    parser.add_argument("--steps", type=int, default=100, help="of one turn")
    parser.add_argument("--servers", type=int, default=1)
    args = parser.parse_args()
    took: dict[bool, list[float]] = {False: [], True: []}
    worked: dict[bool, list[float]] = {False: [], True: []}
    with cluster("--optimizer", "sgd:lr=1e-3", servers=args.servers) as address:
        os.environ["PS_SCHEDULER"] = address
        with ps.connect() as kv:
            kv.init({"w": np.ones(args.parameters, np.float32)})
            command = [sys.executable, "-c", FOLLOWER, address]
            with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as follower:
                assert follower.stdin and follower.stdout
                turn(kv, args.steps)
                for _ in range(args.turns):
                    for followed in (False, True):
                        before = processor_time(but=follower.pid)
                        took[followed].append(turn(kv, args.steps, follower if followed else None))
                        worked[followed].append(processor_time(but=follower.pid) - before)
                follower.stdin.close()
    without, with_one = (statistics.median(took[followed]) for followed in (False, True))
    extra, work = with_one - without, statistics.median(worked[True]) - statistics.median(worked[False])
    print(
        f"{args.parameters * 4 / 1e6:.0f} MB, {args.servers} servers: {1e3 * without / args.steps:.2f} ms a step; "
        f"a turn {without:.3f} s, with a snapshot {with_one:.3f} s (x {with_one / without:.3f}); a snapshot costs "
        f"{1e3 * extra:.1f} ms, which is {extra / EVERY:.2%} with one every {EVERY:g} s; of processor time, worker, "
        f"servers and scheduler need {1e3 * work:.1f} ms more, {work / EVERY:.2%}"
    )


def processor_time(but: int) -> float:
    """Return the seconds of a core that this process and its children have used, except for one."""
    ticks = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            if os.getpid() in (int(stat.parent.name), int(fields[1])) and int(stat.parent.name) != but:
                ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def turn(kv: ps.KV, steps: int, follower: subprocess.Popen[str] | None = None) -> float:
    """Return the seconds that some steps take; the snapshot that is asked for is there by then."""
    if follower is not None and follower.stdin:
        follower.stdin.write("\n")
        follower.stdin.flush()
    kv.grads["w"][...] = 1e-3
    began = time.perf_counter()
    for _ in range(steps):
        kv.step(kv.grads)
    took = time.perf_counter() - began
    if follower is not None and follower.stdout:
        assert int(follower.stdout.readline()) <= kv.clock
    return took


if __name__ == "__main__":
    main()
