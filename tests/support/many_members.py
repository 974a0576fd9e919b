"""A scheduler with many members that are only heartbeats, and how soon it, its page and its metrics answer meanwhile.

python -m support.many_members --members 1000 --seconds 10        in tests/
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

import zmq

from ps import descriptors
from ps.errors import ConnectTimeout
from ps.monitor.job_watcher import JobWatcher
from ps.monitor.page_server import PageServer
from ps.protocol.codec import decode, encode
from ps.protocol.messages import Heartbeat, Hello, Welcome
from ps.protocol.query import fetch_status

BOUND = 60.0


class ManyMembers:
    """So many connections, each of a member that says a heartbeat a second, in one thread."""

    def __init__(self, address: str, count: int) -> None:
        self._context = zmq.Context()
        self._context.set(zmq.MAX_SOCKETS, count + 100)
        self._sockets = []
        self._members: dict[int, int] = {}
        for number in range(count):
            sock = self._context.socket(zmq.DEALER)
            sock.setsockopt(zmq.LINGER, 0)
            sock.connect(address)
            role = "server" if number == 0 else "worker"
            addresses = ("tcp://127.0.0.1:1",) if number == 0 else ()
            sock.send(encode(Hello(1, number + 1, role, -1, "host", 4_000_000 + number, "", addresses, {})))
            self._sockets.append(sock)
        deadline = time.monotonic() + BOUND
        for number, sock in enumerate(self._sockets):
            while number not in self._members:
                if not sock.poll(max(1, int(1000 * (deadline - time.monotonic())))):
                    raise TimeoutError(f"member {number} of {count} was not seated")
                message = decode(sock.recv_multipart()[0])
                if isinstance(message, Welcome):
                    self._members[number] = message.member
        self._stop = threading.Event()
        self.late = 0.0
        """Seconds by which a round of heartbeats was late, at most."""
        self._thread = threading.Thread(target=self._beat, daemon=True)
        self._thread.start()

    def _beat(self) -> None:
        clock, due = 0, time.monotonic()
        metrics = {"loss": 0.5, **{f"metric {number}": 0.25 for number in range(5)}}
        while not self._stop.wait(max(0.0, due - time.monotonic())):
            self.late = max(self.late, time.monotonic() - due)
            clock, due = clock + 1, due + 1.0
            report = {"clock": clock, "steps": clock, "metrics": metrics, "bytes_up": 1000 * clock}
            for number, sock in enumerate(self._sockets):
                sock.send(encode(Heartbeat(self._members[number], 0, report)), zmq.NOBLOCK)
                while sock.getsockopt(zmq.EVENTS) & zmq.POLLIN:
                    sock.recv_multipart()

    def close(self) -> None:
        """Say nothing any more."""
        self._stop.set()
        self._thread.join()
        self._context.destroy(linger=0)


def cpu_of(pid: int) -> float:
    """Return the seconds of processors' time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def watch(members: int, seconds: float) -> dict[str, Any]:
    """Return how long status, page and metrics took to answer, and how many members were taken for dead."""
    command = [sys.executable, "-m", "ps.cli", "scheduler", "-s", "1", "-w", str(members - 1), "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        assert process.stdout is not None
        address = (
            next(line for line in process.stdout if "scheduler at " in line).split("scheduler at ")[1].split(";")[0]
        )
        threading.Thread(target=process.stdout.read, daemon=True).start()
        crowd = ManyMembers(address, members)
        watcher = JobWatcher(lambda: fetch_status(address, 5.0))
        deadline = time.monotonic() + 2 * BOUND
        while watcher.seen is None:  # the members have still to read what they were told while they joined
            try:
                watcher.look()
            except ConnectTimeout:
                if time.monotonic() > deadline:
                    raise
        sock = socket.create_server(("127.0.0.1", 0))
        port = sock.getsockname()[1]
        server = PageServer(sock, watcher, lambda: "", "")
        server.start()
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        took: dict[str, list[float]] = {"status": [], "snapshot.json": [], "metrics": []}
        until, used = time.monotonic() + seconds, cpu_of(process.pid)
        while time.monotonic() < until:
            began = time.monotonic()
            watcher.look()
            took["status"].append(time.monotonic() - began)
            for path in ("snapshot.json", "metrics"):
                at = time.monotonic()
                with opener.open(f"http://127.0.0.1:{port}/{path}", timeout=30) as answer:
                    answer.read()
                took[path].append(time.monotonic() - at)
            time.sleep(max(0.0, 1.0 - (time.monotonic() - began)))
        seen = watcher.seen
        assert seen is not None
        server.close()
        crowd.close()
        return {
            **{name: {"median_s": statistics.median(each), "max_s": max(each)} for name, each in took.items()},
            "live": sum(totals.get("live", 0) for totals in seen.snapshot["totals"].values()),
            "died": seen.snapshot["died"],
            "late_s": crowd.late,
            "scheduler_cpu": (cpu_of(process.pid) - used) / seconds,
        }
    finally:
        process.kill()
        process.communicate()


def main() -> None:
    """Print what was measured."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--members", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=10.0)
    given = parser.parse_args()
    descriptors.claim("many members")
    print(json.dumps(watch(given.members, given.seconds), indent=2))


if __name__ == "__main__":
    main()
