"""Crowding: a running job, and very many who connect to its scheduler and server and take, or say, too much.

Each attack goes on for some seconds. What honest workers notice of it is the longest time without a step beside that
before it; what it costs is the most memory that scheduler and server ever had. By hand: ``scripts/crowd --seconds 20``.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

from ps.protocol import messages as m
from ps.protocol.codec import encode
from support import zmtp
from support.cluster import SCRIPTS, Cluster, Process

STEADY = str(SCRIPTS / "steady.py")
MB = 1 << 20
ASKS = 1000
"""Answers that one who never reads asks for."""


@dataclass
class Seen:
    """What one attack came to; ``longest`` and ``before``: seconds between two steps of an honest worker, at most."""

    attack: str
    connections: int
    cut: int
    steps: int
    longest: float
    before: float
    most_mb: float
    grown_mb: float


def connected(address: str) -> socket.socket:
    host, _, port = address.removeprefix("tcp://").rpartition(":")
    return socket.create_connection((host, int(port)), timeout=20)


class Crowding:
    """One job under attack. ``count``: connections of an attack to each process; ``rest``: what it is told."""

    def __init__(self, count: int, seconds: float, **job: object) -> None:
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        self.count, self.seconds = count, seconds
        self.cluster = Cluster(servers=1, workers=2, **{"heartbeat_timeout": 10, "transport": "tcp", **job})
        self.stop = self.cluster.path("stop")
        self.workers = [self.cluster.worker(STEADY, self.stop, "--nap", 0.02, rank=rank) for rank in range(2)]
        for worker in self.workers:
            worker.wait_for("^clock 5$")
        server = next(a for a in self.cluster.status()["servers"][0]["addresses"] if a.startswith("tcp"))
        self.targets = [self.cluster.address, server]
        self.victims = [self.cluster.scheduler, *self.cluster.servers]

    def run(self, attack: str) -> Seen:
        """Make one attack, from its first connection until all of them are closed again."""
        before, _ = self._longest(min(3.0, self.seconds))
        was = [victim.rss() for victim in self.victims]
        held: list[socket.socket] = []
        over, counted = threading.Event(), [0, 0]
        thread = threading.Thread(target=self._attack, args=(ATTACKS[attack], held, over, counted), daemon=True)
        thread.start()
        longest, most = self._longest(self.seconds)
        steps = sum(worker.count("clock") for worker in self.workers)
        over.set()
        thread.join(60)
        assert not thread.is_alive(), f"the attackers of {attack} hang"
        cut = counted[1] + sum(gone(sock) for sock in held)
        for sock in held:
            sock.close()
        grown = max(now - then for now, then in zip(most, was, strict=True)) / MB
        return Seen(attack, counted[0], cut, steps, longest, before, max(most) / MB, grown)

    def _attack(self, attack: Attack, held: list[socket.socket], over: threading.Event, counted: list[int]) -> None:
        for waits in attack(self, held, counted):
            if over.wait(waits):
                return
        over.wait()

    def _longest(self, seconds: float) -> tuple[float, list[int]]:
        """Return the longest time without a step of a worker, and the most memory of each victim, for some time."""
        end = time.monotonic() + seconds
        counts = [worker.count("clock") for worker in self.workers]
        since, longest, looks = [time.monotonic()] * len(counts), 0.0, 0
        most = [victim.rss() for victim in self.victims]
        while (now := time.monotonic()) < end:
            for number, worker in enumerate(self.workers):
                assert worker.code is None, f"{worker.name} ended:\n{worker.text[-2000:]}"
                if len(worker.lines) != counts[number]:
                    longest, since[number] = max(longest, now - since[number]), now
                    counts[number] = len(worker.lines)
            looks += 1
            if looks % 10 == 0:
                most = [max(known, self._rss(victim)) for known, victim in zip(most, self.victims, strict=True)]
            time.sleep(0.005)
        return max([longest, *(end - each for each in since)]), most

    @staticmethod
    def _rss(victim: Process) -> int:
        assert victim.code is None, f"{victim.name} ended with {victim.code}:\n{victim.text[-3000:]}"
        return victim.rss()

    def close(self) -> None:
        """End the job as its workers would; raise AssertionError where anybody ends otherwise."""
        self.stop.touch()
        try:
            for process in (*self.workers, *self.victims):
                assert process.wait(60) == 0, f"{process.name} ended with {process.code}:\n{process.text[-3000:]}"
                assert "Traceback" not in process.text, process.text[-3000:]
        finally:
            self.cluster.close()


Attack = Callable[[Crowding, list[socket.socket], list[int]], Iterator[float]]
"""Connects to each target as often as it is to; yields the seconds to wait; keeps who is to be counted, and counts."""


def gone(sock: socket.socket) -> bool:
    """Whether the other end has closed a connection."""
    sock.settimeout(0)
    with contextlib.suppress(BlockingIOError):
        try:
            while sock.recv(1 << 20):
                pass
        except ConnectionError:
            pass
        return True
    return False


def silent(job: Crowding, held: list[socket.socket], counted: list[int]) -> Iterator[float]:
    """Connect and say nothing."""
    for target in job.targets:
        for _ in range(job.count):
            held.append(connected(target))
            counted[0] += 1
            yield 0


def slow(job: Crowding, held: list[socket.socket], counted: list[int]) -> Iterator[float]:
    """Say the handshake a byte at a time."""
    yield from silent(job, held, counted)
    greeting = b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32)
    for at in range(len(greeting)):
        for sock in held:
            with contextlib.suppress(OSError):
                sock.send(greeting[at : at + 1])
        yield 0.5


def idle(job: Crowding, held: list[socket.socket], counted: list[int]) -> Iterator[float]:
    """Do the handshake, and say nothing."""
    for target in job.targets:
        for _ in range(job.count):
            held.append(zmtp.connect(target))
            counted[0] += 1
            yield 0


def unread(job: Crowding, held: list[socket.socket], counted: list[int]) -> Iterator[float]:
    """Ask for as much as one is answered, and never read."""
    asked = [zmtp.frame(encode(m.StatusRequest(1))) * 10, zmtp.frame(encode(m.Ping(1))) * 10]
    for target in job.targets:
        for _ in range(job.count):
            sock = zmtp.connect(target)
            held.append(sock)
            counted[0] += 1
            sock.settimeout(0)
            yield 0
    for _ in range(ASKS // 10):
        for number, sock in enumerate(held):
            with contextlib.suppress(OSError):
                sock.send(asked[number >= job.count])
        yield 0.05


def endless(job: Crowding, held: list[socket.socket], counted: list[int]) -> Iterator[float]:
    """Send frames of messages that never end, on a hundredth of the connections, and again when one is cut."""
    several = [zmtp.frame(b"x", more=True) * 50_000, zmtp.frame(bytes(1 << 16), more=True) * 8]
    yield from flooding(job, several, counted)


def nonsense(job: Crowding, held: list[socket.socket], counted: list[int]) -> Iterator[float]:
    """Say what breaks the protocol as fast as it is taken, and connect again when one is cut."""
    yield from flooding(job, [zmtp.frame(b"PS" + bytes(40)) * 500], counted)


def flooding(job: Crowding, several: list[bytes], counted: list[int]) -> Iterator[float]:
    floods: dict[int, Flood] = {}
    try:
        while True:
            for number in range(max(2, job.count // 100)):
                if number not in floods:
                    with contextlib.suppress(OSError):
                        sock = zmtp.connect(job.targets[number % 2])
                        floods[number] = Flood(sock, several[number // 2 % len(several)])
                        counted[0] += 1
                elif floods[number].is_cut():
                    floods.pop(number).sock.close()
                    counted[1] += 1
            yield 0.001
    finally:
        for flood in floods.values():
            flood.sock.close()


class Flood:
    """A connection on which the same is said again and again, as fast as it is read."""

    def __init__(self, sock: socket.socket, data: bytes) -> None:
        sock.settimeout(0)
        self.sock, self._data, self._left = sock, data, memoryview(data)

    def is_cut(self) -> bool:
        """Send what goes; return whether the connection is no more."""
        try:
            with contextlib.suppress(BlockingIOError):
                while self.sock.recv(1 << 20):
                    pass
                return True
            with contextlib.suppress(BlockingIOError):
                self._left = self._left[self.sock.send(self._left) :] or memoryview(self._data)
        except OSError:
            return True
        return False


def churning(job: Crowding, held: list[socket.socket], counted: list[int]) -> Iterator[float]:
    """Connect and close, as fast as it goes."""
    while True:
        for target in job.targets:
            with contextlib.suppress(OSError), connected(target):
                counted[0] += 1
        yield 0


ATTACKS: dict[str, Attack] = {
    "silent": silent,
    "slow": slow,
    "idle": idle,
    "unread": unread,
    "endless": endless,
    "nonsense": nonsense,
    "churning": churning,
}


def main() -> int:
    """Make all attacks, and say what they came to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--connections", type=int, default=1000, help="to each of both processes (1000)")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each attack (20)")
    parser.add_argument("--attacks", default=",".join(ATTACKS), help="which (all)")
    parser.add_argument("--json", action="store_true", help="a line of JSON for each attack")
    asked = parser.parse_args()
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    job = Crowding(asked.connections, asked.seconds)
    try:
        for attack in asked.attacks.split(","):
            seen = job.run(attack)
            if asked.json:
                print(json.dumps(asdict(seen)), flush=True)
                continue
            print(
                f"{attack:9s} {seen.connections:6d} connections, {seen.cut:5d} cut; a step took at most "
                f"{seen.longest:.2f} s ({seen.before:.2f} before); at most {seen.most_mb:.0f} MiB, "
                f"{seen.grown_mb:.0f} more",
                flush=True,
            )
    finally:
        job.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
