"""A message of the model's bytes to a pyzmq ROUTER and back, unchanged: what a small exchange costs at least."""

from __future__ import annotations

from collections.abc import Callable

import zmq
from race.case import Case, Launch, Options, Setup

MODULE = __name__
LACKS = "nothing is applied"


def absent(options: Options) -> str:
    return ""


def cases(setup: Setup) -> list[Case]:
    if setup.workers > 1 or setup.servers > 1:
        return []
    return [
        Case(
            f"pyzmq echo, {kind}",
            MODULE,
            "limit",
            "DEALER and ROUTER, header and body, copies as pyzmq does best for small messages",
            LACKS,
            {"transport": kind},
        )
        for kind in ("tcp", "ipc")
    ]


def start(setup: Setup, options: Options, launch: Launch) -> str:
    return launch.server(0)


def serve(setup: Setup, options: Options, index: int, announce: Callable[[str], None]) -> None:
    with zmq.Context() as context, context.socket(zmq.ROUTER) as sock:
        sock.bind("tcp://127.0.0.1:*" if options["transport"] == "tcp" else "ipc://*")
        announce(sock.getsockopt_string(zmq.LAST_ENDPOINT))
        while True:
            sock.send_multipart(sock.recv_multipart())


class Worker:
    """Sends and waits."""

    def __init__(self, setup: Setup, rank: int, meeting: str) -> None:
        self._context = zmq.Context()
        self._sock = self._context.socket(zmq.DEALER)
        self._sock.connect(meeting)
        self._gradient = setup.gradient(rank)

    def steps(self, count: int) -> None:
        for _ in range(count):
            self._sock.send_multipart([b"header", self._gradient])
            self._sock.recv_multipart()

    def weights(self) -> None:
        return None

    def close(self) -> None:
        self._sock.close(0)
        self._context.term()


def join(setup: Setup, options: Options, rank: int, meeting: str) -> Worker:
    return Worker(setup, rank, meeting)
