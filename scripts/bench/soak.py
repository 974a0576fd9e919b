"""Train at full rate for minutes and watch every process's memory: it has to stay within 2 % of what it was at first.

    python scripts/bench/soak.py --minutes 10 --transport shm
    python scripts/bench/soak.py --minutes 1 --transport tcp --workers 4 --servers 2 --mode async

A step is what it is in compare.py: every worker hands over a gradient of --size and has the new weights. Memory is what
is resident, from /proc, about once a second: all of it, and how much of that is shared. Exit status 1 when a process
grew by more than 2 % after the first --settle seconds, and when the job failed.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from limits import machine
from outfile import outfile
from peers import paramserver
from race.case import Setup
from race.crew import Crew
from race.process import Failed

from compare import interrupt, positive, size
from ps.config import JobConfig, settings_of

LIMIT = 1.02
PATIENCE = 60.0
MB = 1e6


@dataclass(slots=True)
class Memory:
    """A process's resident bytes: at first, at last, the most, and how many of the last are shared."""

    first: int
    last: int
    most: int
    shared: int

    @property
    def growth(self) -> float:
        """The most over the first."""
        return self.most / self.first


def resident(pid: int) -> tuple[int, int]:
    """Return a process's resident bytes, and those of them that are shared memory."""
    found = {}
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name in ("VmRSS", "RssShmem"):
            found[name] = int(value.split()[0]) * 1024
    return found["VmRSS"], found["RssShmem"]


def watch(crew: Crew, seconds: float, settle: float) -> tuple[dict[str, Memory], int, float]:
    """Step at full rate; return each process's memory, how many steps were done and in how many seconds."""
    processes = {process.name: process.pid for process in [*crew.servers, *crew.ranks]}
    steps = max(1, round(1 / min(crew.turn(2, 1, PATIENCE), crew.turn(2, 0, PATIENCE))))
    memory: dict[str, Memory] = {}
    done, begin = 0, time.monotonic()
    while not memory or time.monotonic() - begin < seconds:
        crew.turn(steps, 0, PATIENCE)
        done += steps
        if time.monotonic() - begin < min(settle, seconds / 2):
            continue
        for name, pid in processes.items():
            now, shared = resident(pid)
            seen = memory.setdefault(name, Memory(now, now, now, shared))
            seen.last, seen.most, seen.shared = now, max(seen.most, now), shared
    return memory, done, time.monotonic() - begin


def lines(memory: Mapping[str, Memory]) -> list[str]:
    """Return a table, a line for each process."""
    head = f"{'':12}" + "".join(f"{word:>12}" for word in ("first MB", "last MB", "most MB", "shared MB", "growth"))
    rows = [
        f"{name:12}{m.first / MB:12.1f}{m.last / MB:12.1f}{m.most / MB:12.1f}{m.shared / MB:12.1f}{m.growth - 1:12.2%}"
        for name, m in memory.items()
    ]
    return [head, *rows]


def main() -> int:
    """Run from the command line."""
    job = settings_of(JobConfig)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--transport", choices=job["transport"].choices, default="shm")
    parser.add_argument("--mode", choices=job["mode"].choices, default="sync")
    parser.add_argument("--optimizer", default="sgd:lr=0.5")
    parser.add_argument("--workers", type=positive, default=2)
    parser.add_argument("--servers", type=positive, default=1)
    parser.add_argument("--size", type=size, default=40_000_000, help="model (40MB)")
    parser.add_argument("--settle", type=float, default=5.0, help="seconds before the first look (5)")
    parser.add_argument("--json", type=outfile, metavar="FILE", help="write the figures here as well")
    options = parser.parse_args()
    if not Path("/proc/self/status").exists():
        raise SystemExit("soak.py: memory is read from /proc, which this system does not have")

    signal.signal(signal.SIGTERM, interrupt)
    here = machine()
    print(", ".join(f"{key} {value}" for key, value in here.items()))
    setup = Setup(options.workers, options.servers, options.size, checked=False)
    given = {key: getattr(options, key) for key in ("transport", "mode", "optimizer")}
    case = paramserver.case(options.transport, given)
    crew = Crew(case, setup)
    try:
        crew.start()
        memory, steps, seconds = watch(crew, options.minutes * 60, options.settle)
    except Failed as error:
        raise SystemExit(f"soak.py: {error}") from None
    except KeyboardInterrupt:
        return 130
    finally:
        crew.close()
    rate = steps / seconds
    print(f"{case.settings}; {options.workers} workers, {options.servers} servers, {options.size / MB:g} MB")
    print(
        f"{steps} steps in {seconds:.0f} s, {1000 / rate:.2f} ms a step, {rate * options.size / 1e9:.2f} GB/s of model"
    )
    print(*lines(memory), sep="\n")
    if options.json:
        figures = {name: dataclasses.asdict(row) for name, row in memory.items()}
        whole = {"machine": here, "setup": dataclasses.asdict(setup), "steps": steps, "seconds": seconds}
        options.json.write_text(json.dumps({**whole, "memory": figures}, indent=2) + "\n")
    grown = [name for name, row in memory.items() if row.growth > LIMIT]
    print(f"grew by more than 2 %: {', '.join(grown)}" if grown else "flat within 2 %")
    return int(bool(grown))


if __name__ == "__main__":
    sys.exit(main())
