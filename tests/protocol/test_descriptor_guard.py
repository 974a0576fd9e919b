"""Promises of a DescriptorGuard: nobody who connects can end a process that is short of open files."""

from __future__ import annotations

import resource
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from ps.protocol.descriptor_guard import DescriptorGuard
from ps.protocol.sockets import Socket, open_socket
from ps.protocol.transports.registry import connect
from ps.protocol.transports.tcp import Tcp

LIMIT = 1024

SERVES = f"""
import resource, sys, zmq
from pathlib import Path
from ps.protocol.descriptor_guard import DescriptorGuard
from ps.protocol.sockets import open_socket
from ps.protocol.transports.ipc import Ipc
from ps.protocol.transports.tcp import Tcp
import logging
logging.basicConfig(format="%(message)s", stream=sys.stdout)
resource.setrlimit(resource.RLIMIT_NOFILE, ({LIMIT}, {LIMIT}))
sock = open_socket(zmq.Context.instance(), zmq.ROUTER)
guard = DescriptorGuard(sock, {LIMIT})
ipc = Ipc().bind(sock, "127.0.0.1", 0, Path(sys.argv[1]))
guard.guard_file(ipc)
tcp = Tcp().bind(sock, "127.0.0.1", 0, Path(sys.argv[1]))
print(ipc, tcp, flush=True)
while (frames := sock.recv_multipart())[1] != b"end":
    sock.send_multipart(frames)
guard.close()
sock.close()
print("ended well", flush=True)
"""


@pytest.fixture
def room() -> Iterator[None]:
    """Let this process open more connections than the one that it tries to fill."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(4 * LIMIT, hard)), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class Peer:
    """Says one thing to a process that answers with it."""

    def __init__(self, context: zmq.Context[Socket], address: str) -> None:
        self.sock = open_socket(context, zmq.DEALER)
        connect(self.sock, address)

    def hears(self, seconds: float = 20.0) -> bool:
        self.sock.send(b"hello")
        return bool(self.sock.poll(int(1000 * seconds))) and self.sock.recv() == b"hello"


def fill(kind: socket.AddressFamily, place: object, most: int) -> list[socket.socket]:
    """Connect as fast as it goes until nobody listens, or ``most`` times."""
    found = []
    while len(found) < most:
        sock = socket.socket(kind)
        sock.settimeout(2.0)
        try:
            sock.connect(place)  # type: ignore[call-overload]
        except BlockingIOError:  # it has not accepted those before
            sock.close()
            continue
        except OSError:
            sock.close()
            break
        found.append(sock)
    return found


@pytest.mark.e2e
@pytest.mark.timeout(120)
def test_a_process_without_open_files_left_serves_whom_it_has_and_others_when_there_are_again(
    tmp_path: Path, room: None
) -> None:
    context: zmq.Context[Socket] = zmq.Context()
    sockets: list[socket.socket] = []
    process = subprocess.Popen([sys.executable, "-c", SERVES, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        ipc, tcp = process.stdout.readline().split()
        path = ipc.removeprefix("ipc://")
        old = [Peer(context, ipc), Peer(context, tcp)]
        assert all(peer.hears() for peer in old)

        sockets += fill(socket.AF_UNIX, path, 2 * LIMIT)
        local = len(sockets)
        assert "files that this process may open are open" in process.stdout.readline()
        assert local < LIMIT and not Path(path).exists()
        host, port = tcp.removeprefix("tcp://").split(":")
        sockets += fill(socket.AF_INET, (host, int(port)), LIMIT)
        assert len(sockets) > LIMIT, "more than it can have"
        assert all(peer.hears() for peer in old)

        for sock in sockets:
            sock.close()
        assert "files are open again" in process.stdout.readline()
        new = [Peer(context, ipc), Peer(context, tcp)]
        assert all(peer.hears() for peer in (*old, *new))
        old[0].sock.send(b"end")
        assert process.stdout.readline() == "ended well\n"
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        for sock in sockets:
            sock.close()
        context.destroy(0)


def test_a_socket_is_guarded_before_anybody_can_have_come() -> None:
    with zmq.Context() as context, open_socket(context, zmq.ROUTER) as sock:
        Tcp().bind(sock, "127.0.0.1", 0, Path())
        with pytest.raises(ValueError, match="before it is bound"):
            DescriptorGuard(sock, LIMIT)
