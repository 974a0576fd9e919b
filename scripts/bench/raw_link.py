"""The sync exchange of two or more workers on sockets alone: what a link takes, and nothing else.

Each worker sends so many bytes in pieces; once one has come from all, the server sends one as long to each, while more
come. There is no arithmetic, nothing is checked, nobody may fail.
    python scripts/bench/raw_link.py server HOST PORT BYTES WORKERS STEPS
    python scripts/bench/raw_link.py worker HOST,... PORT BYTES STEPS      # prints when each step begins
"""

from __future__ import annotations

import socket
import sys
import threading
import time

PIECE = 64 << 10
"""Bytes of a piece."""


class Progress:
    """How many bytes have come from each worker."""

    def __init__(self, workers: int) -> None:
        self._come = [0] * workers
        self._changed = threading.Condition()

    def add(self, worker: int, count: int) -> None:
        with self._changed:
            self._come[worker] += count
            self._changed.notify_all()

    def wait(self, count: int) -> None:
        """Return when so many have come from all."""
        with self._changed:
            self._changed.wait_for(lambda: min(self._come) >= count)


def serve(host: str, port: int, nbytes: int, workers: int, steps: int) -> None:
    """Answer until all steps are done."""
    with socket.create_server((host, port)) as listener:
        peers = [_tuned(listener.accept()[0]) for _ in range(workers)]
    progress, room = Progress(workers), bytes(PIECE)

    def take(worker: int) -> None:
        into, left = memoryview(bytearray(PIECE)), nbytes * steps
        while left:
            count = peers[worker].recv_into(into[: min(left, PIECE)])
            if not count:
                raise EOFError("a worker is gone")
            progress.add(worker, count)
            left -= count

    def answer(worker: int) -> None:
        for step in range(steps):
            for start in range(0, nbytes, PIECE):
                size = min(PIECE, nbytes - start)
                progress.wait(step * nbytes + start + size)
                peers[worker].sendall(memoryview(room)[:size])

    threads = [threading.Thread(target=run, args=(w,)) for run in (take, answer) for w in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def work(host: str, port: int, nbytes: int, steps: int) -> None:
    """Take the steps with each of some servers, and say when each begins, and when the last one has ended."""
    socks, out = [_tuned(_connected(each, port)) for each in host.split(",")], bytes(nbytes)

    def take(sock: socket.socket) -> None:
        into, left = memoryview(bytearray(PIECE)), nbytes
        while left:
            count = sock.recv_into(into[: min(left, PIECE)])
            if not count:
                raise EOFError("a server is gone")
            left -= count

    for _ in range(steps):
        print("step", time.monotonic(), flush=True)
        runs = [(run, args) for sock in socks for run, args in ((sock.sendall, (out,)), (take, (sock,)))]
        threads = [threading.Thread(target=run, args=args) for run, args in runs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    print("step", time.monotonic(), flush=True)


def _connected(host: str, port: int, patience: float = 10.0) -> socket.socket:
    until = time.monotonic() + patience
    while True:
        try:
            return socket.create_connection((host, port))
        except ConnectionRefusedError:
            if time.monotonic() > until:
                raise
            time.sleep(0.1)


def _tuned(sock: socket.socket) -> socket.socket:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


if __name__ == "__main__":
    role, at, number, *counts = sys.argv[1:]
    {"server": serve, "worker": work}[role](at, int(number), *map(int, counts))
