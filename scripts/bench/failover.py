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
import re
import signal
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from ps.errors import PSError
from ps.protocol.query import fetch_status

SCRIPT = Path(__file__).with_name("failover_step.py")
PATIENCE = 60.0
SIGNALS = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}


class Job:
    """A run with standbys, and when its workers did which step."""

    def __init__(self, transport: str, options: argparse.Namespace) -> None:
        command = [
            sys.executable,
            "-m",
            "ps.cli",
            "run",
            "-s",
            "2",
            "-w",
            "2",
            "--replicas",
            "1",
            "--transport",
            transport,
        ]
        command += ["--heartbeat-timeout", str(options.timeout), "--restarts", str(2 * options.times), str(SCRIPT)]
        self._process = subprocess.Popen(
            [*command, str(options.mb), str(options.nap)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self.lines: list[str] = []
        self.steps: dict[int, list[tuple[int, float]]] = {0: [], 1: []}
        """Rank -> clock and the moment, by the system's monotonic clock, of each of its steps."""
        self.address = ""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if found := re.search(r"step (\d+) (\d+) ([\d.]+)", line):
                self.steps[int(found[1])].append((int(found[2]), float(found[3])))
                continue
            self.lines.append(line)
            if found := re.search(r"scheduler at (tcp://\S+)", line):
                self.address = found[1]

    def await_protection(self) -> list[dict[str, Any]]:
        """Return the rows of the servers that have standbys, once all do and training goes on."""
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until and self._process.poll() is None:
            with contextlib.suppress(PSError):
                rows = (
                    [row for row in fetch_status(self.address)["servers"] if row["state"] == "live"]
                    if self.address
                    else []
                )
                backed = [row for row in rows if row.get("replica") == "protected"]
                if len(backed) == 2 and [row.get("replica") for row in rows].count("protecting") == 2 and self.steps[0]:
                    time.sleep(0.3)  # it is said with the next word to the scheduler
                    return backed
            time.sleep(0.05)
        raise SystemExit("servers have no standbys:\n" + "".join(self.lines[-30:]))

    def lose(self, pid: int, fault: str) -> float:
        """Harm a server; return how many seconds that cost."""
        clock = max(steps[-1][0] for steps in self.steps.values())
        began = time.monotonic()
        os.kill(pid, SIGNALS[fault])
        try:
            while not all(steps[-1][0] >= clock + 2 for steps in self.steps.values()):
                if time.monotonic() - began > PATIENCE or self._process.poll() is not None:
                    raise SystemExit("nothing goes on:\n" + "".join(self.lines[-30:]))
                time.sleep(0.01)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        return max(next(at for number, at in steps if number >= clock + 2) for steps in self.steps.values()) - began

    def close(self) -> None:
        """End it."""
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=10)
    parser.add_argument("--transports", default="shm,tcp")
    parser.add_argument("--faults", default="kill,stop")
    parser.add_argument("--timeout", type=float, default=3.0, help="the heartbeat time-out in seconds (3)")
    parser.add_argument("--mb", type=float, default=4.0)
    parser.add_argument("--nap", type=float, default=0.02, help="seconds that a worker computes, or sleeps, in a step")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    draw, rows = random.Random(options.seed), []
    for transport in options.transports.split(","):
        for fault in options.faults.split(","):
            job, took = Job(transport, options), []
            try:
                for _ in range(options.times):
                    backed = job.await_protection()
                    time.sleep(draw.uniform(0.0, 0.5))
                    took.append(job.lose(draw.choice(backed)["pid"], fault))
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
