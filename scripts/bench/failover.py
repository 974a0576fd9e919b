"""How long a death costs with --replicas 1: from the signal to the next step, for each way to lose a server.

    python scripts/bench/failover.py [--times 10] [--transports shm,tcp] [--faults kill,stop] [--timeout 3]

A job trains; each time all its servers have standbys one of them is killed (SIGKILL) or stopped (SIGSTOP, and
continued once the job goes on without it). It is over when both workers have done two steps more than either had at
the signal: the one under way may have all its answers. Seconds are from the signal to the end of that step, as the
worker reads its clock. The aim is the heartbeat time-out and a second.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import statistics
import time
from typing import Any

from timed_job import TimedJob

SIGNALS = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}
SERVERS = WORKERS = 2


def protected(job: TimedJob) -> list[dict[str, Any]]:
    """Return the rows of the servers, once all have standbys and training goes on."""
    rows: list[dict[str, Any]] = []

    def holds() -> bool:
        rows[:] = job.servers()
        states = [row.get("replica") for row in rows]
        return states.count("protected") == states.count("protecting") == SERVERS and bool(job.steps[0])

    job.wait_until(holds, "a standby for each server")
    time.sleep(0.3)  # it is said with the next word to the scheduler
    return [row for row in rows if row.get("replica") == "protected"]


def lose(job: TimedJob, pid: int, fault: str) -> float:
    """Harm a server; return how many seconds that cost."""
    wanted = max(steps[-1][0] for steps in job.steps.values()) + 2
    began = time.monotonic()
    os.kill(pid, SIGNALS[fault])
    try:
        job.wait_until(lambda: all(steps[-1][0] >= wanted for steps in job.steps.values()), "the next step")
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
    return max(next(end for clock, end, _ in steps if clock >= wanted) for steps in job.steps.values()) - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=10)
    parser.add_argument("--transports", default="shm,tcp")
    parser.add_argument("--faults", default="kill,stop")
    parser.add_argument("--timeout", type=float, default=3.0, help="the heartbeat time-out in seconds (3)")
    parser.add_argument("--mb", type=float, default=4.0)
    parser.add_argument("--nap", type=float, default=0.02, help="seconds that a worker waits in a step")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    draw, rows = random.Random(options.seed), []
    for transport in options.transports.split(","):
        for fault in options.faults.split(","):
            flags = ["-s", str(SERVERS), "--replicas", "1", "--restarts", str(2 * options.times)]
            flags += ["--heartbeat-timeout", str(options.timeout), "--transport", transport]
            flags += ["--optimizer", "momentum:lr=0.001,momentum=0.9"]
            job, took = TimedJob(flags, WORKERS, options.mb, nap=options.nap), []
            try:
                for _ in range(options.times):
                    rows_now = protected(job)
                    time.sleep(draw.uniform(0.0, 0.5))
                    took.append(lose(job, draw.choice(rows_now)["pid"], fault))
            finally:
                job.close()
            middle, worst = statistics.median(took), max(took)
            rows.append({"transport": transport, "fault": fault, "times": len(took), "median": middle, "worst": worst})
            if not options.json:
                said = f"{middle:.2f} s (median), {worst:.2f} s (worst) of {len(took)}; load {os.getloadavg()[0]:.0f}"
                print(f"{transport}, {fault}: {said}", flush=True)
    limit = options.timeout + 1
    if options.json:
        print(json.dumps({"rows": rows, "limit": limit}))
    else:
        print(f"the aim is {limit:g} s")


if __name__ == "__main__":
    main()
