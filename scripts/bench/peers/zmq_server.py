"""A parameter server as one would write it on plain pyzmq: a ROUTER, and a message per worker and chunk."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

import numpy as np
import zmq
from race.case import LR, Case, Launch, Options, Setup

from ps.memory import keep_freed_memory

MODULE = __name__
CHUNK = 1_000_000
LACKS = "no membership, no retry, no check of what is received; tied to these workers and this model"


def absent(options: Options) -> str:
    return ""


def cases(setup: Setup) -> list[Case]:
    chunks = f"chunks of {chunk_size(setup) / 1e6:g} MB"
    words = f"a ROUTER per server, {chunks}, copy=False, no high-water mark, freed memory kept"
    passes = 8 * setup.workers + setup.workers + 2
    return [
        Case(f"pyzmq server, {kind}", MODULE, "peer", words, LACKS, {"transport": kind}, passes=passes)
        for kind in ("tcp", "ipc")
    ]


def chunk_size(setup: Setup) -> int:
    return setup.chunk or CHUNK


def slices(setup: Setup) -> list[slice]:
    """Return the elements of each chunk; chunk i is on server i modulo the number of servers."""
    count = chunk_size(setup) // 4
    return [slice(lo, min(lo + count, setup.size)) for lo in range(0, setup.size, count)]


def start(setup: Setup, options: Options, launch: Launch) -> str:
    return " ".join(launch.server(index) for index in range(setup.servers))


def serve(setup: Setup, options: Options, index: int, announce: Callable[[str], None]) -> None:
    keep_freed_memory()
    weights, chunks = setup.weights(), slices(setup)
    total = np.empty(chunks[0].stop, np.float32)
    waiting: dict[bytes, list[tuple[bytes, np.ndarray]]] = defaultdict(list)
    with zmq.Context() as context, _socket(context, zmq.ROUTER) as router:
        router.bind("tcp://127.0.0.1:*" if options["transport"] == "tcp" else "ipc://*")
        announce(router.getsockopt_string(zmq.LAST_ENDPOINT))
        while True:
            sender, head, body = router.recv_multipart(copy=False)
            pushed = waiting[head.bytes]
            pushed.append((sender.bytes, np.frombuffer(body.buffer, np.float32)))
            if len(pushed) < setup.workers:
                continue
            del waiting[head.bytes]
            w = weights[chunks[int.from_bytes(head.bytes, "big")]]
            update(w, [gradient for _, gradient in pushed], total[: w.size])
            for worker, _ in pushed:
                router.send_multipart([worker, head.bytes, w], copy=False)


def update(w: np.ndarray, gradients: list[np.ndarray], total: np.ndarray) -> None:
    """Subtract the learning rate times the mean of the gradients."""
    if len(gradients) == 1:
        np.multiply(gradients[0], LR, out=total)
    else:
        np.add(gradients[0], gradients[1], out=total)
        for gradient in gradients[2:]:
            np.add(total, gradient, out=total)
        np.multiply(total, LR / len(gradients), out=total)
    np.subtract(w, total, out=w)


class Worker:
    """Sends all chunks, then takes the new weights as they come."""

    def __init__(self, setup: Setup, rank: int, addresses: list[str]) -> None:
        keep_freed_memory()
        self._context = zmq.Context()
        self._servers = [_socket(self._context, zmq.DEALER) for _ in addresses]
        for server, address in zip(self._servers, addresses, strict=True):
            server.connect(address)
        self._weights, self._gradient = setup.weights(), setup.gradient(rank)
        self._chunks = slices(setup)
        self._heads = [index.to_bytes(4, "big") for index in range(len(self._chunks))]

    def steps(self, count: int) -> None:
        for _ in range(count):
            for index, chunk in enumerate(self._chunks):
                server = self._servers[index % len(self._servers)]
                server.send_multipart([self._heads[index], self._gradient[chunk]], copy=False)
            for index in range(len(self._chunks)):
                head, body = self._servers[index % len(self._servers)].recv_multipart(copy=False)
                chunk = self._chunks[int.from_bytes(head.bytes, "big")]
                self._weights[chunk] = np.frombuffer(body.buffer, np.float32)

    def weights(self) -> np.ndarray:
        return self._weights

    def close(self) -> None:
        for server in self._servers:
            server.close(0)
        self._context.term()


def join(setup: Setup, options: Options, rank: int, meeting: str) -> Worker:
    return Worker(setup, rank, meeting.split())


def _socket(context: zmq.Context[zmq.Socket[bytes]], kind: int) -> zmq.Socket[bytes]:
    sock = context.socket(kind)
    for option in (zmq.SNDHWM, zmq.RCVHWM, zmq.LINGER):
        sock.setsockopt(option, 0)
    return sock
