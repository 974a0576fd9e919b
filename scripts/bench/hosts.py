"""Hosts: network namespaces of this machine as hosts, joined by a router in user space with latency, loss and a rate.

Needs root, iproute2 and /dev/net/tun. Nothing of the kernel's own is used for the links: many have no netem. Each host
has an address of either kind, and names by a file of its own (/etc/netns) where it is given any.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import heapq
import json
import os
import random
import select
import shutil
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

TUN, WITHOUT_HEADER, SET_DEVICE, NEW_NETWORK = 1, 0x1000, 0x400454CA, 0x40000000
QUEUE = 256 * 1024
"""Bytes that a link holds back, before it drops what comes more."""
CONFIG = Path("/etc/netns")


def missing() -> str:
    """Return why there can be no such hosts here; nothing if there can."""
    if os.geteuid() != 0:
        return "only root can make network namespaces"
    if shutil.which("ip") is None:
        return "not installed: ip (iproute2)"
    if not Path("/dev/net/tun").exists():
        return "there is no /dev/net/tun"
    made = subprocess.run(["ip", "netns", "add", f"psx{os.getpid()}"], capture_output=True, text=True, check=False)
    subprocess.run(["ip", "netns", "del", f"psx{os.getpid()}"], capture_output=True, check=False)
    return made.stderr.strip()


@dataclass
class Hosts:
    """Running hosts, by number from 1. ``rate`` of a link is in bytes a second, ``delay`` in seconds one way."""

    prefix: str
    count: int
    router: subprocess.Popen[str] = field(repr=False)

    def ip(self, host: int) -> str:
        """A host's IPv4 address."""
        return f"10.98.0.{host}"

    def ip6(self, host: int) -> str:
        """A host's IPv6 address."""
        return f"fd98::{host}"

    def command(self, host: int, words: Sequence[str]) -> list[str]:
        """Return the command that runs another one on a host."""
        return ["ip", "netns", "exec", f"{self.prefix}{host}", *words]

    def link(self, one: int, other: int, **link: float) -> None:
        """Say how two hosts are joined, in both directions: delay, loss (0 to 1), rate, down."""
        self._ask({"set": [[one, other, link], [other, one, link]]})

    def sent(self, source: int, target: int) -> int:
        """Return how many bytes went from one host to another so far."""
        return int(self._ask({}).get(f"{source}>{target}", 0))

    def _ask(self, command: Mapping[str, object]) -> dict[str, int]:
        assert self.router.stdin is not None and self.router.stdout is not None
        self.router.stdin.write(json.dumps(command) + "\n")
        self.router.stdin.flush()
        found: dict[str, int] = json.loads(self.router.stdout.readline())
        return found


@contextlib.contextmanager
def hosts(count: int, names: Mapping[int, str] | None = None) -> Iterator[Hosts]:
    """Have so many hosts for a while; ``names`` are the texts of their /etc/hosts, by number."""
    prefix = f"ps{os.getpid() % 100_000}-"
    made = [f"{prefix}{host}" for host in range(1, count + 1)]
    router: subprocess.Popen[str] | None = None
    try:
        for host, name in enumerate(made, 1):
            subprocess.run(["ip", "netns", "add", name], check=True)
            if names and host in names:
                (CONFIG / name).mkdir(parents=True)
                (CONFIG / name / "hosts").write_text(names[host])
        router = subprocess.Popen(
            [sys.executable, __file__, prefix, str(count)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert router.stdout is not None
        if router.stdout.readline() != "up\n":
            raise OSError("the router between the hosts did not start")
        yield Hosts(prefix, count, router)
    finally:
        if router is not None:
            for pipe in filter(None, (router.stdin, router.stdout)):
                pipe.close()
            router.wait(10)
        for name in made:
            subprocess.run(["ip", "netns", "del", name], check=False)
            shutil.rmtree(CONFIG / name, ignore_errors=True)


class _Router:
    """Reads what hosts send, and writes it to whom it is for when its link has carried it."""

    def __init__(self, prefix: str, count: int) -> None:
        self._devices = {host: _device(f"{prefix}{host}", host) for host in range(1, count + 1)}
        self._hosts = {device: host for host, device in self._devices.items()}
        self._links: dict[tuple[int, int], dict[str, float]] = {}
        self._free: dict[tuple[int, int], float] = {}
        self._bytes: dict[tuple[int, int], int] = {}
        self._waiting: list[tuple[float, int, int, bytes]] = []
        self._count = 0
        self._random = random.Random(1)

    def run(self, commands: IO[bytes]) -> None:
        """Work until there are no more commands."""
        poll = select.poll()
        for device in (*self._hosts, commands.fileno()):
            poll.register(device, select.POLLIN)
        print("up", flush=True)
        while True:
            now = time.monotonic()
            while self._waiting and self._waiting[0][0] <= now:
                _, _, target, packet = heapq.heappop(self._waiting)
                self._write(target, packet)
            wait = (self._waiting[0][0] - time.monotonic()) * 1000 if self._waiting else 1000.0
            for ready, _ in poll.poll(max(0.0, wait)):
                if ready != commands.fileno():
                    self._read(ready)
                elif not (line := commands.readline()):
                    return
                else:
                    for source, target, link in json.loads(line).get("set", ()):
                        self._links[source, target] = link
                    print(json.dumps({f"{a}>{b}": size for (a, b), size in self._bytes.items()}), flush=True)

    def _read(self, device: int) -> None:
        for _ in range(64):
            try:
                packet = os.read(device, 65536)
            except OSError:
                return
            target = packet[19] if packet[0] >> 4 == 4 else packet[39]
            if target in self._devices:
                self._carry(self._hosts[device], target, packet)

    def _carry(self, source: int, target: int, packet: bytes) -> None:
        way, now = (source, target), time.monotonic()
        link = self._links.get(way, {})
        if link.get("down") or self._random.random() < link.get("loss", 0.0):
            return
        at = now
        if rate := link.get("rate"):
            at = max(now, self._free.get(way, 0.0))
            if at - now > QUEUE / rate:
                return
            at = self._free[way] = at + len(packet) / rate
        self._bytes[way] = self._bytes.get(way, 0) + len(packet)
        self._count += 1
        heapq.heappush(self._waiting, (at + link.get("delay", 0.0), self._count, target, packet))

    def _write(self, target: int, packet: bytes) -> None:
        with contextlib.suppress(OSError):  # the device has no room: lost, as on a link
            os.write(self._devices[target], packet)


def _device(namespace: str, host: int) -> int:
    """Return a device that lies in a namespace, with a host's addresses."""
    library = ctypes.CDLL(None, use_errno=True)
    mine, other = os.open("/proc/self/ns/net", os.O_RDONLY), os.open(f"/var/run/netns/{namespace}", os.O_RDONLY)
    if library.setns(other, NEW_NETWORK):
        raise OSError(ctypes.get_errno(), "setns")
    try:
        device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(device, SET_DEVICE, struct.pack("16sH", b"link0", TUN | WITHOUT_HEADER))
    finally:
        library.setns(mine, NEW_NETWORK)
        os.close(mine)
        os.close(other)
    for words in (
        f"addr add 10.98.0.{host}/24 dev link0",
        f"-6 addr add fd98::{host}/64 dev link0 nodad",
        "link set link0 mtu 1500 txqueuelen 2000 up",
        "link set lo up",
    ):
        subprocess.run(["ip", "-n", namespace, *words.split()], check=True)
    return device


if __name__ == "__main__":
    os.set_blocking(0, True)
    _Router(sys.argv[1], int(sys.argv[2])).run(os.fdopen(0, "rb", buffering=0))
