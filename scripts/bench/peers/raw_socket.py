"""The exchange written directly on one socket: chunk by chunk, both directions at once, SGD applied as chunks arrive.

One worker and one server that know each other, over loopback TCP or a Unix socket. Nothing is allocated in a step.
"""

from __future__ import annotations

import queue
import select
import socket
import threading
from collections.abc import Callable

import numpy as np
from race.case import LR, Case, Launch, Options, Setup

MODULE = __name__
BUFFER = 1 << 20
LACKS = "one worker, one server, no message boundaries, no membership, no retry, no check"
WAYS = {
    "threads": (1 << 20, "a thread for each direction"),
    "poll": (1 << 18, "non-blocking in the worker, a thread for each direction in the server"),
}


def absent(options: Options) -> str:
    return ""


def cases(setup: Setup) -> list[Case]:
    if setup.workers > 1 or setup.servers > 1:
        return []
    return [
        Case(
            f"raw {kind}, {way}",
            MODULE,
            "limit",
            f"chunks of {chunk >> 10} KiB, {words}, socket buffers of {BUFFER >> 10} KiB, no Nagle",
            LACKS,
            {"kind": kind, "way": way, "chunk": chunk},
            passes=8 + 3,  # each direction: into the kernel and out of it, both read and written
        )
        for kind in ("tcp", "unix")
        for way, (chunk, words) in WAYS.items()
    ]


def tune(sock: socket.socket) -> socket.socket:
    if sock.family == socket.AF_INET:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
        sock.setsockopt(socket.SOL_SOCKET, option, BUFFER)
    return sock


def receive(sock: socket.socket, into: memoryview) -> None:
    got = 0
    while got < len(into):
        count = sock.recv_into(into[got:])
        if not count:
            raise EOFError("the other side is gone")
        got += count


def start(setup: Setup, options: Options, launch: Launch) -> str:
    return launch.server(0)


def serve(setup: Setup, options: Options, index: int, announce: Callable[[str], None]) -> None:
    weights, chunk = setup.weights(), int(options["chunk"])
    out = memoryview(weights).cast("B")
    ready: queue.SimpleQueue[tuple[int, int]] = queue.SimpleQueue()
    gradient = np.empty(chunk // 4, np.float32)
    into = memoryview(gradient).cast("B")
    with _listen(str(options["kind"])) as listener:
        name = listener.getsockname()
        announce(f"127.0.0.1:{name[1]}" if listener.family == socket.AF_INET else name.decode())
        peer = tune(listener.accept()[0])

    def send() -> None:
        while True:
            lo, hi = ready.get()
            peer.sendall(out[lo:hi])

    threading.Thread(target=send, daemon=True).start()
    while True:
        for lo in range(0, setup.nbytes, chunk):
            hi = min(lo + chunk, setup.nbytes)
            receive(peer, into[: hi - lo])
            g, w = gradient[: (hi - lo) // 4], weights[lo // 4 : hi // 4]
            np.multiply(g, LR, out=g)
            np.subtract(w, g, out=w)
            ready.put((lo, hi))


class Worker:
    """Sends the gradient and takes the weights where they belong, at the same time."""

    def __init__(self, setup: Setup, rank: int, meeting: str, polling: bool) -> None:
        host, _, port = meeting.rpartition(":")
        family = socket.AF_INET if host else socket.AF_UNIX
        self._sock = tune(socket.socket(family))
        self._sock.connect((host, int(port)) if host else meeting.encode())
        self._all, self._gradient = setup.weights(), setup.gradient(rank)
        self._up, self._down = memoryview(self._gradient).cast("B"), memoryview(self._all).cast("B")
        self._go = threading.Semaphore(0)
        self._polling = polling
        if polling:
            self._sock.setblocking(False)
        else:
            threading.Thread(target=self._send, daemon=True).start()

    def steps(self, count: int) -> None:
        for _ in range(count):
            if self._polling:
                self._poll()
            else:
                self._go.release()
                receive(self._sock, self._down)

    def weights(self) -> np.ndarray:
        return self._all

    def close(self) -> None:
        self._sock.close()

    def _send(self) -> None:
        while True:
            self._go.acquire()
            self._sock.sendall(self._up)

    def _poll(self) -> None:
        sent, got, size = 0, 0, len(self._up)
        poll = select.poll()
        poll.register(self._sock, select.POLLIN | select.POLLOUT)
        while got < size:
            event = poll.poll()[0][1]
            if event & (select.POLLIN | select.POLLHUP | select.POLLERR):
                count = self._sock.recv_into(self._down[got : got + BUFFER])
                if not count:
                    raise EOFError("the server is gone")
                got += count
            if event & select.POLLOUT and sent < size:
                sent += self._sock.send(self._up[sent : sent + BUFFER])
                if sent == size:
                    poll.modify(self._sock, select.POLLIN)


def join(setup: Setup, options: Options, rank: int, meeting: str) -> Worker:
    return Worker(setup, rank, meeting, options["way"] == "poll")


def _listen(kind: str) -> socket.socket:
    if kind == "tcp":
        return tune(socket.create_server(("127.0.0.1", 0)))
    listener = tune(socket.socket(socket.AF_UNIX))
    listener.bind("")  # Linux chooses a name that is in no directory
    listener.listen()
    return listener
