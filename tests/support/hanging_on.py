"""Hanging on: very many clients are connected, with CURVE, while the keys that let them in are replaced.

    python -m support.hanging_on --clients 10000 [--json]

All have the key of one cluster. It is revoked, and each of them is to be cut off by then; then it is listed anew under
another one, with which they come back. Somebody with a key of his own asks all the time.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import zmq
from zmq.utils import z85

from ps.errors import PSError
from ps.keys import key_folder
from ps.keys.key_folder import KeyFolder
from ps.keys.public_keys import PublicKeys
from ps.protocol import messages as m
from ps.protocol.codec import encode
from ps.protocol.query import ping
from support.cluster import Process, clean_environment

AT_ONCE, PATIENCE = 50, 20.0
"""Clients of a process that are not in yet, and seconds for which they may be."""
EACH = 2500
"""Clients of one process of theirs: each of them takes two files there."""


@dataclass
class Replaced:
    """What it came to. Seconds; ``longest`` are those for which somebody else was not answered, at most."""

    clients: int
    connected: float
    cut: float
    back: float
    longest: float
    memory_mb: float
    cpu: float


def hang_on(folder: str, address: str, count: int) -> None:
    """Connect so many times, be heard once each, say so, and hold on until standard input ends."""
    keys = KeyFolder.read(folder)
    (expected,) = keys.of_role("scheduler")
    context = zmq.Context()
    context.set(zmq.MAX_SOCKETS, count + 10)
    held = list[zmq.Socket[bytes]]()
    while len(held) < count:
        waiting = {_connect(context, keys, expected, address) for _ in range(min(AT_ONCE, count - len(held)))}
        end = time.monotonic() + PATIENCE
        poller = zmq.Poller()
        for sock in waiting:
            poller.register(sock, zmq.POLLIN)
        while waiting and time.monotonic() < end:
            for sock, _ in poller.poll(1000):
                sock.recv()
                poller.unregister(sock)
                waiting.discard(sock)
                held.append(sock)
        for sock in waiting:  # it was cut in its handshake: there are more at once than may be
            sock.close()
    print("here", flush=True)
    sys.stdin.read()
    os._exit(0)


def _connect(context: zmq.Context[Any], keys: KeyFolder, expected: PublicKeys, address: str) -> zmq.Socket[bytes]:
    sock = context.socket(zmq.DEALER)
    sock.setsockopt(zmq.LINGER, 0)
    sock.setsockopt(zmq.RECONNECT_IVL, -1)
    sock.setsockopt(zmq.CURVE_PUBLICKEY, z85.encode(keys.own.public.curve))
    sock.setsockopt(zmq.CURVE_SECRETKEY, z85.encode(keys.own.curve))
    sock.setsockopt(zmq.CURVE_SERVERKEY, z85.encode(expected.curve))
    sock.connect(address)
    sock.send(encode(m.Ping(1)))
    return sock


class HangingOn:
    """A scheduler with keys, and those who hang on to it."""

    def __init__(self, clients: int) -> None:
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        self.clients = clients
        self._rest = contextlib.ExitStack()
        self.path = Path(self._rest.enter_context(tempfile.TemporaryDirectory(prefix="hang-")))
        for name, role in (("scheduler", "scheduler"), ("cluster", "client"), ("next", "client"), ("me", "operator")):
            key_folder.create(self.path / name, name, role)
            if name != "scheduler":
                key_folder.add(self.path / name, "scheduler", self.path / "scheduler" / "public.key")
            if name not in ("scheduler", "next"):
                key_folder.add(self.path / "scheduler", name, self.path / name / "public.key")
        env = {**clean_environment(), "PS_KEYS": str(self.path / "scheduler")}
        words = [
            "scheduler",
            "-s",
            "1",
            "-w",
            str(clients),
            "--mode",
            "federated",
            "--host",
            "127.0.0.1",
            "--port",
            "0",
            "--start-timeout",
            "3600",
        ]
        command = [sys.executable, "-m", "ps.cli", *words]
        self.scheduler = Process("scheduler", command, env)
        self._rest.callback(self.scheduler.end)
        self.address = self.scheduler.wait_for(r"scheduler at (tcp://\S+?)[?;]")[1]
        self._asked, self.longest = threading.Event(), 0.0

    def connections(self) -> int:
        """How many files the scheduler has open: one for each connection, beside a few."""
        return sum(1 for _ in Path(f"/proc/{self.scheduler.pid}/fd").iterdir())

    @contextlib.contextmanager
    def crowd(self, name: str) -> Iterator[None]:
        """Have all of them come with the keys of a folder, and go at the end."""
        counts = [min(EACH, self.clients - at) for at in range(0, self.clients, EACH)]
        call = [
            sys.executable,
            "-m",
            "support.hanging_on",
            "--folder",
            str(self.path / name),
            "--address",
            self.address,
        ]
        here = Path(__file__).parents[1]
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "cwd": here}
        found = [subprocess.Popen([*call, "--clients", str(each)], **pipes) for each in counts]
        try:
            for process in found:
                assert process.stdout is not None and process.stdout.readline() == "here\n", "they were not let in"
            yield
        finally:
            for process in found:
                with process:
                    process.kill()

    def run(self) -> Replaced:
        """Connect, revoke, list anew."""
        before, asking = self.connections(), threading.Thread(target=self._ask, daemon=True)
        asking.start()
        began = time.monotonic()
        with self.crowd("cluster"):
            connected, memory = time.monotonic() - began, self.scheduler.rss()
            assert self.connections() >= before + self.clients, f"{self.connections()} open, {before} before"
            began = time.monotonic()
            key_folder.revoke(self.path / "scheduler", "cluster")
            self._until(lambda: self.connections() <= before + 10)
            cut = time.monotonic() - began
        key_folder.add(self.path / "scheduler", "next", self.path / "next" / "public.key")
        began = time.monotonic()
        with self.crowd("next"):
            back = time.monotonic() - began
            memory = max(memory, self.scheduler.rss())
        self._asked.set()
        asking.join(30)
        ticks = sum(map(int, Path(f"/proc/{self.scheduler.pid}/stat").read_text().split()[13:15]))
        cpu = ticks / os.sysconf("SC_CLK_TCK")
        return Replaced(self.clients, connected, cut, back, self.longest, memory / (1 << 20), cpu)

    def _until(self, true: Callable[[], bool]) -> None:
        end = time.monotonic() + 60
        while not true():
            assert time.monotonic() < end, f"{self.connections()} files are open still"
            time.sleep(0.01)

    def _ask(self) -> None:
        while not self._asked.wait(0.05):
            began = time.monotonic()
            while not self._asked.is_set():
                with contextlib.suppress(PSError):  # its handshake was cut off, among so many that are not over
                    ping(self.address, 60.0, str(self.path / "me"))
                    break
            self.longest = max(self.longest, time.monotonic() - began)

    def close(self) -> None:
        """End all of it."""
        self._rest.close()


def main() -> None:
    """Do it, or be some of the clients."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=1000)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    parser.add_argument("--address", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.folder:
        hang_on(args.folder, args.address, args.clients)
    job = HangingOn(args.clients)
    try:
        seen = job.run()
    finally:
        job.close()
    if args.json:
        print(json.dumps(asdict(seen)))
    else:
        print(
            f"{seen.clients} clients: in after {seen.connected:.1f} s, cut {seen.cut:.2f} s after they were revoked, "
            f"back with other keys {seen.back:.1f} s later; another one waited {seen.longest:.2f} s at most; the "
            f"scheduler had {seen.memory_mb:.0f} MiB and took {seen.cpu:.1f} s of a core"
        )


if __name__ == "__main__":
    main()
