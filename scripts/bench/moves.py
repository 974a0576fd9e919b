"""What it costs that a server comes to a running job: the longest step while chunks move to it, and how long they do.

    python scripts/bench/moves.py [--mb 40] [--times 3] [--transports shm,tcp]

Each time a job of two servers and two workers begins, a third server is started beside it, and training goes on. The
longest step from its start to when it has its share is told over the median of the steps before.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from typing import Any

from timed_job import TimedJob, between

FIRST, BEFORE = 10, 40
"""Steps in which memory is touched for the first time, and steps that are measured before the server comes."""
SERVERS = WORKERS = 2


def is_balanced(job: TimedJob) -> bool:
    """Whether all three servers have their share, and nothing is left to move."""
    status = job.status()
    held = [row.get("bytes", 0) for row in status.get("servers", []) if row["state"] == "live"]
    left = (status.get("moves") or {}).get("left")
    return len(held) == SERVERS + 1 and not left and min(held) > 0.8 * max(held)


def measure(transport: str, mb: float, chunk: str) -> dict[str, Any]:
    """Go through it once."""
    flags = ["-s", str(SERVERS), "--transport", transport, "--chunk-size", chunk]
    flags += ["--optimizer", "momentum:lr=0.001,momentum=0.9"]
    job, server = TimedJob(flags, WORKERS, mb), None
    try:
        job.wait(FIRST + BEFORE)
        before = [took for _, _, took in job.steps[0][FIRST:]]
        began = time.monotonic()
        command = [sys.executable, "-m", "ps.cli", "server", "--scheduler", job.address]
        server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        job.wait_until(lambda: any(row["pid"] == server.pid for row in job.servers()), "the server")
        came = time.monotonic()
        job.wait_until(lambda: is_balanced(job), "its share")
        ended = time.monotonic()
        job.wait(1)
        during = [took for steps in job.steps.values() for took in between(steps, began, ended)]
    finally:
        job.close()
        if server is not None:
            server.kill()
            server.wait(20)
    middle = statistics.median(before)
    return {"step": middle, "longest": max(during) / middle, "before": max(before) / middle, "seconds": ended - came}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mb", type=float, default=40.0)
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--transports", default="shm,tcp")
    parser.add_argument("--chunk-size", default="1MiB")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = {}
    for transport in options.transports.split(","):
        rows = [measure(transport, options.mb, options.chunk_size) for _ in range(options.times)]
        found[transport] = rows
        if not options.json:
            steps, longest, before, seconds = ([row[name] for row in rows] for name in rows[0])
            said = ", ".join(f"{each:.1f}" for each in longest)
            middle = f"{transport}: step {1000 * statistics.median(steps):.0f} ms"
            print(f"{middle}, the longest while chunks move {said} times that (before {max(before):.1f})")
            print(f"  all moved after {statistics.median(seconds):.1f} s; ", end="")
            print(f"load {os.getloadavg()[0]:.0f}", flush=True)
    if options.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
