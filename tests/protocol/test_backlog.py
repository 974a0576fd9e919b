"""Promises of a Backlog: no peer ends a process by what it sends, or makes it hold more and more."""

from __future__ import annotations

import contextlib
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ps.protocol.backlog import MOST_GROWN, MOST_WAITING, SUSPECT, Backlog, bytes_received, cut
from ps.protocol.codec import decode, encode
from ps.protocol.messages import Ping, Pong
from ps.protocol.unfinished import LONGEST
from support import zmtp

LISTENS = """
import sys, zmq
from pathlib import Path
from ps.protocol.descriptor_guard import DescriptorGuard, resident
from ps.protocol.inbox import Inbox
from ps.protocol.sockets import open_socket
from ps.protocol.transports.tcp import Tcp
sock = open_socket(zmq.Context.instance(), zmq.ROUTER)
sock.setsockopt(zmq.HEARTBEAT_IVL, int(sys.argv[1]))
sock.setsockopt(zmq.HEARTBEAT_TIMEOUT, 5000)
inbox = Inbox(sock, "server", 0)
guard = DescriptorGuard(sock, 1024, inbox=inbox)
print(Tcp().bind(sock, "127.0.0.1", 0, Path()), flush=True)
for line in sys.stdin:
    while line == "take\\n" and sock.poll(200):
        list(inbox.receive(1000))
    if line == "once\\n" and sock.poll(10_000):
        list(inbox.receive(1000))
    print(resident() >> 20, flush=True)
guard.close()
sock.close()
print("ended well", flush=True)
"""
"""Takes what came whenever it is told to, all or what is there at once, and says how many MiB it holds."""
Start = Callable[[int], "tuple[subprocess.Popen[str], str]"]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start a listening process with so many milliseconds between its heartbeats; return it and its address."""
    with contextlib.ExitStack() as ends:

        def begin(interval: int) -> tuple[subprocess.Popen[str], str]:
            process = ends.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", LISTENS, str(interval)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                    cwd=Path(__file__).parents[2],
                )
            )
            ends.callback(process.kill)
            assert process.stdout is not None
            return process, process.stdout.readline().strip()

        yield begin


def told(process: subprocess.Popen[str], word: str) -> str:
    """Tell a process something; return what it says to it."""
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(f"{word}\n")
    process.stdin.flush()
    return process.stdout.readline().strip()


def ended(process: subprocess.Popen[str]) -> str:
    """Return what it says in the end."""
    return process.communicate(timeout=20)[0].strip()


def break_off(sock: socket.socket) -> None:
    """Close with a reset, as the system does for a process that was killed."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


@pytest.mark.parametrize("interval", [0, 100])
def test_a_connection_that_breaks_with_much_unread_ends_nobody(start: Start, interval: int) -> None:
    process, address = start(interval)
    ping = b"\x04\x07\x04PING\0\0"
    sock = zmtp.connect(address)
    sock.sendall((zmtp.frame(b"x") * 10 + ping) * 2000)
    time.sleep(0.3)  # in which it is read, as far as it ever is
    break_off(sock)
    time.sleep(0.5)  # in which a heartbeat is due
    assert told(process, "take").isdigit() and ended(process) == "ended well"


def test_a_peer_that_floods_a_busy_process_is_cut_off_and_others_are_not(start: Start) -> None:
    process, address = start(0)
    frame = zmtp.frame(bytes(16 << 20))
    with zmtp.connect(address) as other, zmtp.connect(address) as sock:
        sent = 0
        with pytest.raises(ConnectionError):
            while sent < 4 * MOST_GROWN:
                sock.sendall(frame)
                sent += len(frame)
        assert int(told(process, "look")) < (MOST_GROWN >> 20) + 400, "of that a part is the process itself"
        told(process, "take")
        other.sendall(zmtp.frame(encode(Ping(3))))
        told(process, "take")
        head = other.recv(2)
        assert isinstance(decode(other.recv(head[1])), Pong)
    assert ended(process) == "ended well"


@pytest.mark.parametrize("size", [1, 1 << 20])
def test_a_message_without_an_end_is_cut_off_while_others_are_answered(start: Start, size: int) -> None:
    process, address = start(0)
    frames = zmtp.frame(bytes(size), more=True) * ((1 << 20) // size)
    with zmtp.connect(address) as other, zmtp.connect(address) as sock:
        sent, most = 0, 0
        while zmtp.send(sock, frames):
            sent += len(frames)
            assert sent < 16 * LONGEST, "it was never cut off"
            if sent % (4 << 20) < len(frames):
                other.sendall(zmtp.frame(encode(Ping(3))))
                most = max(most, int(told(process, "once")))
                head = other.recv(2)
                assert isinstance(decode(other.recv(head[1])), Pong)
        other.sendall(zmtp.frame(encode(Ping(3))))
        most = max(most, int(told(process, "once")))
        assert most < (MOST_GROWN >> 20) + 400, "of that a part is the process itself"
    assert ended(process) == "ended well"


def test_nobody_is_suspected_while_all_is_taken() -> None:
    backlog = Backlog()
    for drained in range(5):
        assert not backlog.suspects(drained, drained * 100 * SUSPECT), "whatever a model takes"


def test_memory_that_grows_by_what_is_taken_accuses_nobody() -> None:
    backlog = Backlog()
    assert not backlog.suspects(1, 0) and backlog.suspects(1, SUSPECT + 1)
    assert backlog.flooding({4: 0, 5: 100}, 0, SUSPECT) == []
    assert backlog.flooding({4: 8 * MOST_GROWN, 5: 100}, 8 * MOST_GROWN, 10 * MOST_GROWN) == []


def test_who_brought_most_of_late_is_cut_again_and_again_until_it_ends() -> None:
    backlog, most = Backlog(), 2 * MOST_GROWN + 1
    backlog.suspects(1, 0)
    assert backlog.flooding({4: 900, 5: 100}, 0, most) == []
    assert backlog.flooding({4: 900 + MOST_WAITING, 5: 101 + MOST_WAITING}, 0, most) == [4, 5]
    assert backlog.flooding({4: 901 + MOST_WAITING, 5: 7}, 0, most) == [5], "it is another connection's number by now"
    assert backlog.flooding({4: 950 + MOST_WAITING, 5: 8}, 0, most) == [4]
    assert backlog.flooding({4: 950 + MOST_WAITING}, 0, most) == [], "nobody brings more"
    assert backlog.flooding({4: 951 + MOST_WAITING}, 3 * MOST_WAITING, most) == [], "all was taken"


def test_who_is_there_while_it_gets_less_is_not_to_blame_and_newcomers_are_turned_away() -> None:
    backlog, most = Backlog(), 2 * MOST_GROWN
    backlog.suspects(1, 0)
    backlog.flooding({4: 0, 5: 0}, 0, most)
    assert not backlog.is_full and backlog.flooding({4: 3 * MOST_WAITING, 5: 100}, 0, most) == [4]
    assert backlog.is_full
    assert backlog.flooding({5: 5000}, MOST_WAITING, most) == [], "more was taken than came"
    assert backlog.is_full
    backlog.suspects(2, most)
    assert not backlog.is_full, "nothing is left"


def test_who_brings_little_is_not_cut_when_those_who_flooded_are_gone_unless_memory_grows_on() -> None:
    backlog = Backlog()
    backlog.suspects(1, 0)
    backlog.flooding({4: 0, 5: 0}, 0, 2 * MOST_GROWN)
    assert backlog.flooding({4: 2 * MOST_WAITING, 5: 9000}, 0, 2 * MOST_GROWN) == [4]
    assert backlog.flooding({5: 18_000}, 0, 2 * MOST_GROWN) == []
    assert backlog.flooding({5: 27_000}, 0, 2 * MOST_GROWN + 1) == [5]


def test_a_tcp_connections_bytes_are_known_and_it_can_be_cut(tmp_path: Path) -> None:
    with contextlib.ExitStack() as ends:
        file = ends.enter_context((tmp_path / "file").open("w"))
        listener = ends.enter_context(socket.create_server(("127.0.0.1", 0)))
        one = ends.enter_context(socket.create_connection(listener.getsockname()))
        with listener.accept()[0] as other:
            one.sendall(b"x" * 12_345)
            deadline = time.monotonic() + 10
            while (found := bytes_received([other.fileno(), file.fileno(), 9999])) != {other.fileno(): 12_345}:
                assert time.monotonic() < deadline, found
            for number in (file.fileno(), 9999, other.fileno()):
                cut(number)
            assert one.recv(1) == b""
