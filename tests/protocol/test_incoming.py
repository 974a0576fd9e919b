"""Promises of Incoming: whoever a process of ours connects to cannot make it hold more than it asked for."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ps.protocol.unasked import MOST_UNASKED
from support import zmtp

SCRIPTS = {
    "a question": """
from ps.protocol.messages import Ping, Pong
from ps.protocol.query import ask
ask(address, Ping(0), Pong, 60)
""",
    "a worker that joins": """
import os, ps
os.environ.update(PS_SCHEDULER=address, PS_CONNECT_TIMEOUT="60")
ps.connect()
""",
    "a server that joins": """
from ps.config.process import ProcessConfig
from ps.server.shard.service import serve
serve(ProcessConfig(scheduler=address, host="127.0.0.1", port=0, connect_timeout=60))
""",
    "a follower": """
from ps.following.servers import Servers
from ps.protocol.security import Security
from ps.protocol.membership import Peer
servers = Servers(Security())
servers.connect([Peer(1, "server", 0, True, "h, pid 1", (address,))], 1 << 20)
while True:
    list(servers.receive(0.1))
""",
    "a worker whose script computes": """
import time, zmq
from ps.protocol.membership import Membership
from ps.protocol.messages import Identify
from ps.protocol.transports.tcp import Tcp
from ps.protocol.transports.transport import Sharing
from ps.worker.scheduler_client import SchedulerClient
context = zmq.Context()
nobody = Membership("worker", "tcp://127.0.0.1:9", connect_timeout=60, now=time.monotonic(), rank=None,
                    suggested=None, addresses=(), script={})
client = SchedulerClient(context, nobody, dict)
channel = Tcp().open(context, address, Identify(0, 1, 1, 0, 1, 1), Sharing())
client.watch([channel.incoming])
time.sleep(60)
""",
}
CALM = 300
"""MiB that a process holds before anybody says anything, at most."""


class Flood:
    """Somebody who listens, and says the same again and again to whoever connects, as fast as it goes."""

    def __init__(self, said: bytes) -> None:
        self.said = said
        self.cuts = 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"tcp://127.0.0.1:{self.listener.getsockname()[1]}"
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                self.flood(self.listener.accept()[0])

    def flood(self, sock: socket.socket) -> None:
        sock.settimeout(20)
        with sock, contextlib.suppress(OSError):
            zmtp.greet(sock, b"ROUTER")
            while zmtp.send(sock, self.said, deaf=True):
                pass
            self.cuts += 1

    def close(self) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join(30)


@contextlib.contextmanager
def flooded(who: str, said: bytes) -> Iterator[tuple[Flood, subprocess.Popen[bytes]]]:
    """Start one of the scripts against a flood; yield the flood and the process."""
    with contextlib.closing(Flood(said)) as flood:
        command = [sys.executable, "-c", f"address = {flood.address!r}\n{SCRIPTS[who]}"]
        process = subprocess.Popen(command, cwd=Path(__file__).parents[2])
        try:
            yield flood, process
        finally:
            process.kill()
            process.wait()


def most(pid: int) -> int:
    """The MiB that a process has held at most."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmHWM"))) >> 10


ENDLESS = zmtp.frame(bytes(1 << 20), more=True)
SMALL = zmtp.frame(b"x", more=True) * (1 << 16)
WHOLE = zmtp.frame(bytes(1 << 20))


@pytest.mark.parametrize(
    ("who", "said"),
    [
        *((who, ENDLESS) for who in SCRIPTS if who != "a worker whose script computes"),
        ("a worker whose script computes", SMALL),
        ("a worker whose script computes", WHOLE),
    ],
    ids=lambda value: value if isinstance(value, str) else f"{len(value) >> 10} KiB",
)
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="what a connection has received is known on Linux")
def test_who_says_more_than_was_asked_for_is_cut_off_each_time(who: str, said: bytes) -> None:
    with flooded(who, said) as (flood, process):
        deadline = time.monotonic() + 50
        while flood.cuts < 2:
            assert process.poll() is None, "it has ended"
            assert time.monotonic() < deadline, f"cut off {flood.cuts} times; it holds {most(process.pid)} MiB"
            time.sleep(0.05)
        small = len(said) < len(ENDLESS)
        assert most(process.pid) < CALM + (MOST_UNASKED >> 20) * (21 if small else 1) + 512, (
            "as fast as memory for a glance"
        )
