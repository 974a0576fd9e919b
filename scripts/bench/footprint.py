"""The memory of a whole job, over that of its model: all processes, what they share counted once.

    python scripts/bench/footprint.py [--size 1GB] [--workers 1] [--servers 1] [--transport shm] [--optimizer adam]

Counted is what the system has set aside after some steps: memory of the processes' own, and each piece of shared memory
whole, also where nobody has touched it. A worker's gradients lie in ``kv.grads``. The least is a model's weights, the
optimizer's state, and a gradient for each worker; where nothing is shared each has weights as well. Linux only.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterable
from pathlib import Path

from limits import machine
from peers import paramserver
from race.case import Setup
from race.crew import Crew
from race.process import Failed

from compare import positive, size
from ps.optim import OPTIMIZERS

STEPS = 5


def own(pid: int) -> int:
    """Return the bytes of a process that are not shared memory; those of libraries that others have too in part."""
    found = dict(re.findall(r"^(Pss_\w+): +(\d+) kB$", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE))
    return 1024 * (int(found["Pss_Anon"]) + int(found["Pss_File"]))


def shared(pids: Iterable[int]) -> dict[int, int]:
    """Return the bytes of each piece of shared memory that processes have mapped, by its inode."""
    found: dict[int, int] = {}
    for pid in pids:
        for mapped in Path(f"/proc/{pid}/map_files").iterdir():
            if "/memfd:" in str(mapped.readlink()):
                about = mapped.stat()
                found[about.st_ino] = about.st_blocks * 512
    return found


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=size, default=1_000_000_000, help="bytes of float32 (1GB)")
    parser.add_argument("--workers", type=positive, default=1)
    parser.add_argument("--servers", type=positive, default=1)
    parser.add_argument("--transport", default="shm")
    parser.add_argument("--optimizer", default="adam")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    if not Path("/proc/self/map_files").exists():
        raise SystemExit("footprint.py: memory is read from /proc, which this system does not have")
    given = {"transport": options.transport, "optimizer": options.optimizer}
    setup = Setup(options.workers, options.servers, options.size, checked=False)
    crew = Crew(paramserver.case("ps", given), setup)
    try:
        crew.start()
        crew.turn(STEPS, 0, 300.0)
        members = {process.name: process.pid for process in (*crew.servers, *crew.ranks)}
        alone = {name: own(pid) for name, pid in members.items()}
        pieces = shared(members.values())
    except Failed as error:
        raise SystemExit(f"footprint.py: {error}") from None
    finally:
        crew.close()
    together = sum(pieces.values())
    slots = len(OPTIMIZERS.parse(options.optimizer).build().slots)
    least = 1 + slots + options.workers * (1 if options.transport in ("shm", "auto") else 2)
    whole = (sum(alone.values()) + together) / setup.nbytes
    if options.json:
        print(json.dumps({"machine": machine(), "own": alone, "shared": together, "models": whole, "least": least}))
        return
    print(", ".join(f"{key} {value}" for key, value in machine().items()))
    print(f"{crew.case.settings}; {options.workers} workers, {options.servers} servers, {setup.nbytes / 1e6:g} MB")
    for name, nbytes in alone.items():
        print(f"  {name:20}{nbytes / 1e6:10.1f} MB")
    print(f"  {'shared':20}{together / 1e6:10.1f} MB")
    print(f"in all {whole:.2f} times the model; weights, states and gradients alone are {least}")


if __name__ == "__main__":
    sys.exit(main())
