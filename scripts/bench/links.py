"""What a link costs: steps and rounds between three hosts, over links with latency, a rate and loss. Needs root.

The hosts are network namespaces (scripts/bench/hosts.py): one has the scheduler and the server, others a worker each.
Beside them the same on sockets alone (raw_link.py): sync's bytes, and a quarter of them.
    python scripts/bench/links.py [--parameters 800000] [--steps 12] [--link '100 Mbit/s'] [--way 'sync, int8'] [--json]
    python scripts/bench/links.py --servers 2      # on two hosts
    python scripts/bench/links.py --slow           # the link of the other worker has a quarter of the rate
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from hosts import Hosts, hosts, missing

PSCTL = [sys.executable, "-m", "ps.cli"]
SCRIPT = """\
import sys, time
import numpy as np
import ps

size = int(sys.argv[1])
data = np.zeros((64 * 400, 1), np.float32)
rng = np.random.default_rng(0)
gradient = {"w": rng.standard_normal(size).astype(np.float32)}
with ps.connect(optimizer="sgd:lr=0.001") as kv:
    kv.init({"w": np.zeros(size, np.float32)})
    for number, _ in enumerate(kv.batches(data, batch_size=32, epochs=1000)):
        if number == int(sys.argv[2]):
            break
        print("step", time.monotonic(), flush=True)
        kv.step(gradient)
    print("step", time.monotonic(), flush=True)
"""
LINKS = {
    "no limit": {},
    "100 Mbit/s": {"rate": 12.5e6},
    "100 Mbit/s, 20 ms": {"rate": 12.5e6, "delay": 0.01},
    "100 Mbit/s, 20 ms, 0.1 % lost": {"rate": 12.5e6, "delay": 0.01, "loss": 0.001},
    "100 Mbit/s, 100 ms, 0.1 % lost": {"rate": 12.5e6, "delay": 0.05, "loss": 0.001},
}
SERVERS = (1, 4)
"""The hosts that have servers."""
_ports = itertools.count()
LOCAL = 10
"""Local steps of a round."""
FEDERATED = ["--mode", "federated", "--local-steps", str(LOCAL), "--partition", "own"]
RAW = {"sockets alone": 4, "sockets alone, a quarter": 1}
"""Bytes for each parameter, either way."""
WAYS = {
    "sync": [],
    "async": ["--mode", "async"],
    "sync, int8": ["--compress", "int8"],
    "sync, fp16": ["--compress", "fp16"],
    "sync, topk:0.01": ["--compress", "topk:0.01"],
    f"federated, {LOCAL} local steps": FEDERATED,
    f"DiLoCo, {LOCAL} local steps": [*FEDERATED, "--algorithm", "diloco"],
}


def raw(net: Hosts, nbytes: int, servers: int, steps: int, folder: Path) -> tuple[float, float]:
    """Return the same as ``measured`` of the exchange on sockets alone, of so many bytes either way."""
    program, port = str(Path(__file__).with_name("raw_link.py")), str(7100 + next(_ports))
    at, share = [net.ip(host) for host in SERVERS[:servers]], str(nbytes // servers)
    server = [[*("server", ip, port, share), "2", str(steps)] for ip in at]
    work = ["worker", ",".join(at), port, share, str(steps)]
    roles = [*zip(SERVERS, server, strict=False), (2, work), (3, work)]
    out = folder / "worker-0"
    with out.open("wb") as shown:
        processes = [
            subprocess.Popen(
                net.command(host, [sys.executable, program, *words]), stdout=shown if host == 2 else subprocess.DEVNULL
            )
            for host, words in roles
        ]
        try:
            failed = [process.args for process in processes if process.wait(300)]
        finally:
            for process in processes:
                process.kill()
    if failed:
        raise SystemExit(f"failed: {failed}")
    times = _units(out, is_federated=False)
    return statistics.median(b - a for a, b in itertools.pairwise(times[3:])), 2 * nbytes


def measured(
    net: Hosts, flags: list[str], parameters: int, steps: int, folder: Path, servers: int = 1
) -> tuple[float, float]:
    """Return the median time of a step or round of worker 0 (s), and the bytes between it and server 0 for each."""
    is_federated, first, last = "federated" in flags, 3, steps
    if is_federated:
        rounds = max(4, steps // 4)
        flags, last, first = [*flags, "--rounds", str(rounds)], 10**6, 1
    common = ["--insecure", "--connect-timeout", "60"]
    scheduler = f"{net.ip(1)}:7070"
    roles = [
        (1, ["scheduler", "--host", net.ip(1), "-s", str(servers), "-w", "2", "--transport", "tcp", *common, *flags]),
        *((h, ["server", "--scheduler", scheduler, "--host", net.ip(h), *common]) for h in SERVERS[:servers]),
    ]
    first_worker = len(roles)
    for host in (2, 3):
        words = ["worker", "--scheduler", scheduler, "--rank", str(host - 2), *common, "train.py"]
        roles.append((host, [*words, str(parameters), str(last)]))
    processes, out, log_of = [], folder / "worker-0", folder / f"log-{first_worker}"
    try:
        for number, (host, words) in enumerate(roles):
            with (
                (folder / f"log-{number}").open("wb") as log,
                out.open("wb") if number == first_worker else log as shown,
            ):
                command = net.command(host, [*PSCTL, *words])
                processes.append(subprocess.Popen(command, cwd=folder, stdout=shown, stderr=log))
        before, deadline = -1, time.monotonic() + 300
        trained = processes[first_worker]
        while trained.poll() is None:
            if before < 0 and len(_units(out, is_federated)) > first:
                before, counted = _carried(net), len(_units(out, is_federated))
            if time.monotonic() > deadline:
                raise TimeoutError(f"{' '.join(flags)}: not done after 300 s; {log_of.read_text()[-500:]}")
            time.sleep(0.02)
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait()
    if trained.returncode:
        raise SystemExit(f"{' '.join(flags)}: worker 0 failed: {log_of.read_text()[-800:]}")
    times = _units(out, is_federated)
    taken = [after - at for at, after in zip(times[first:], times[first + 1 :], strict=False)]
    seen = len(times) - counted
    return statistics.median(taken), (_carried(net) - before) / seen if seen > 2 else math.nan  # it was too fast to see


def _carried(net: Hosts) -> int:
    return net.sent(1, 2) + net.sent(2, 1)


def _units(out: Path, is_federated: bool) -> list[float]:
    """Return when each step began, or each round, and when the last one ended."""
    times = [float(line.split()[1]) for line in out.read_text().splitlines() if line.startswith("step ")]
    return times[::LOCAL] if is_federated else times


def _median(values: Iterable[float]) -> float:
    return statistics.median([value for value in values if not math.isnan(value)] or [math.nan])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parameters", type=int, default=800_000)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--link", action="append", choices=LINKS, help="only this one; may be repeated")
    parser.add_argument("--way", action="append", choices=[*RAW, *WAYS], help="only this one; may be repeated")
    parser.add_argument("--servers", type=int, choices=(1, 2), default=1)
    parser.add_argument("--slow", action="store_true")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    if why := missing():
        print(f"there can be no hosts here: {why}", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # hosts are not left
    rows: dict[str, dict[str, tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory(prefix="ps-links-") as place, hosts(4) as net:
        for link in (chosen := asked.link or list(LINKS)):
            for server, worker in itertools.product(SERVERS, (2, 3)):
                slower = 4 if asked.slow and worker == 3 else 1
                limits = {key: value / slower if key == "rate" else value for key, value in LINKS[link].items()}
                net.link(server, worker, **limits)
            for way in asked.way or [*RAW, *WAYS]:
                folder = Path(place) / f"{len(rows.get(way, {}))}-{way}"
                folder.mkdir()
                (folder / "train.py").write_text(SCRIPT)
                about = asked.servers, asked.steps, folder
                if way in RAW:
                    found = raw(net, RAW[way] * asked.parameters, *about)
                else:
                    found = measured(net, WAYS[way], asked.parameters, asked.steps, folder, asked.servers)
                rows.setdefault(way, {})[link] = found
                print(f"{link}: {way}: {found[0] * 1000:.0f} ms, {found[1] / 1e6:.2f} MB", file=sys.stderr, flush=True)
    if asked.json:
        print(json.dumps({"parameters": asked.parameters, "cores": os.cpu_count(), "rows": rows}))
        return 0
    print(
        f"{asked.parameters:,} float32 parameters, 2 workers; {os.cpu_count()} cores, load {os.getloadavg()[1]:.0f}, "
        f"Python {platform.python_version()}"
    )
    print(f"| step or round, ms | {' | '.join(chosen)} | MB of a worker |")
    print(f"| --- |{' --- |' * (len(chosen) + 1)}")
    for way, cells in rows.items():
        times = " | ".join(f"{cells[link][0] * 1000:.0f}" for link in chosen)
        print(f"| {way} | {times} | {_median(size for _, size in cells.values()) / 1e6:.2f} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
