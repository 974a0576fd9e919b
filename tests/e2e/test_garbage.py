"""Tens of thousands of bad messages to a live scheduler and live servers: training beside them does not notice."""

from __future__ import annotations

import json
import random
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import pytest
import zmq

from ps.errors import ProtocolError
from ps.protocol import messages as m
from ps.protocol.codec import MAGIC, MAX_FRAME, VERSION, decode, encode
from ps.protocol.nuisance import BUDGET, MALFORMED
from ps.protocol.sockets import open_socket
from support import zmtp
from support.cluster import Cluster, Process, result
from support.long import cases

HEAD = MAGIC + bytes((VERSION,))

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

TOTAL = cases(30_000, 100_000)
RAW = 400
"""Connections to each process that do not speak ZeroMQ, or speak it badly."""
OUTSTANDING = 200
"""Messages in flight of one sender: none of their answers can be dropped."""
BORNE = BUDGET // MALFORMED
"""Messages that one connection may say wrong at once."""
STRANGER = 0x7A6B5C4D
"""A member id that no three changed bytes make that of a member."""
MB = 1 << 20
WAVES = 4
"""After the first, a process may grow in one of them, as more happens to wait at once; what leaks does in each."""
LEAK = 256
"""Bytes that a process may grow by for each, at most."""

LAYOUT = (("w", "float32", (100, 50)), ("b", "float64", (50,)))
REAL: list[list[bytes]] = [
    [encode(m.Push(5, STRANGER, 0, 3, 3, 8.0, 1.0, True)), bytes(4808)],
    [encode(m.InitChunk(5, STRANGER, 1)), bytes(400)],
    [encode(m.Init(5, STRANGER, 2, 1 << 20, LAYOUT))],
    [encode(m.InitRequest(5, STRANGER, LAYOUT))],
    [encode(m.Pull(5, STRANGER, 0, 3))],
    [encode(m.Scale(5, STRANGER, 0, 3, 0.5))],
    [encode(m.Skip(5, STRANGER, 0, 0, True, 0, ((1, 0, 1e9),)))],
    [encode(m.Suspend(5, STRANGER))],
    [encode(m.Start(5, STRANGER, 0))],
    [encode(m.Inquire(0, STRANGER, (1, 2, 3)))],
    [encode(m.Heartbeat(STRANGER, 1, {"clock": 1 << 60}))],
    [encode(m.Leave(0, STRANGER, {}))],
    [encode(m.BarrierEnter(1, STRANGER, 1 << 60))],
    [encode(m.InitDone(1, STRANGER))],
    [encode(m.View(1 << 60, "ended", "", "", {}, ()))],
    [encode(m.Weights(1, 0, 9, 0)), bytes(4808)],
    [encode(m.Hello(0, 1, "nobody", -1, "h", 1, "", (), {}))],
]
SPOKEN_FOR = (m.FollowRequest, m.Ping, m.StatusRequest, m.Hello, m.Attach, m.Error)
"""Messages that anybody may send, or that are not answered at once; none comes about by mutation here."""


def garbage(seed: int) -> Iterator[list[bytes]]:
    """Yield bad messages without end, each of which is to be answered by an Error."""
    source = random.Random(seed)
    kinds: list[Callable[[], list[bytes]]] = [
        lambda: [source.randbytes(source.randint(0, 300))],
        lambda: [HEAD + bytes((source.choice(list(m.TYPES)),)) + source.randbytes(source.randint(0, 900))],
        lambda: [HEAD + bytes((source.randint(60, 255),)) + b"\x91\x00"],
        lambda: [b"PS" + bytes((source.randint(2, 255),)) + source.choice(REAL[4:])[0][3:]],
        lambda: list(source.choice(REAL)),
        lambda: [source.choice(REAL)[0][: source.randint(0, 12)]],
        lambda: [source.choice(REAL)[0], *[b"x"] * source.randint(2, 20)],
        lambda: [HEAD + b"\x24\x95\x01\x01\x01\x01" + bytes((source.choice(b"\xdd\xdf\xdb\xc6\xc9"),)) + b"\xff" * 4],
        lambda: [HEAD + b"\x24\x95\x01\x01\x01\x01" + struct.pack(">BI", 0xDD, 5000) * 2000],
        lambda: mutated(source),
    ]
    while True:
        frames = source.choice(kinds)()
        try:
            if isinstance(decode(frames[0]), SPOKEN_FOR[:3] + SPOKEN_FOR[4:]) and len(frames) < 3:
                continue
        except ProtocolError:
            pass
        yield frames


def mutated(source: random.Random) -> list[bytes]:
    frames = list(source.choice(REAL[:-1]))
    header = bytearray(frames[0])
    for _ in range(source.randint(1, 3)):
        header[source.randrange(2, len(header))] = source.randrange(256)
    return [bytes(header), *frames[1:]]


def bombard(address: str, count: int, seed: int, answers: Counter[str]) -> None:
    """Send bad messages and count what comes back by the answer's code; on no connection so many that it is cut."""
    bad = garbage(seed)
    with zmq.Context() as context:
        for begun in range(0, count, BORNE):
            bombard_once(context, address, min(BORNE, count - begun), bad, answers)


def bombard_once(
    context: zmq.Context[Any], address: str, count: int, bad: Iterator[list[bytes]], answers: Counter[str]
) -> None:
    """Do so on one connection."""
    with open_socket(context, zmq.DEALER) as sock:
        sock.connect(address)
        waiting = 0
        for left in range(count, -1, -1):
            while waiting > (OUTSTANDING if left else 0):
                assert sock.poll(20_000), f"{waiting} messages to {address} were never answered"
                answer = decode(sock.recv_multipart()[0])
                answers[answer.code if isinstance(answer, m.Error) else type(answer).__name__] += 1
                waiting -= 1
            if left:
                sock.send_multipart(next(bad))
                waiting += 1


def bombard_below(address: str, seed: int) -> None:
    """Open connections that are no ZeroMQ, or ask it for more memory than there is."""
    source = random.Random(seed)
    host, _, port = address.removeprefix("tcp://").rpartition(":")
    for number in range(RAW):
        if number % 4:
            with socket.create_connection((host, int(port)), timeout=10) as sock:
                sock.sendall(b"\xff" * (number % 2) + source.randbytes(source.randint(1, 2000)))
        else:
            with zmtp.connect(address) as sock:
                declared = source.choice([MAX_FRAME, MAX_FRAME + 1, 1 << 40, 1 << 62, (1 << 64) - 1])
                sock.sendall(zmtp.frame(REAL[0][0], more=True) + zmtp.frame(b"x" * 100, declared=declared))


def in_parallel(jobs: list[tuple[Callable[..., None], tuple[Any, ...]]]) -> None:
    """Run functions on threads of their own and raise what one of them raised."""
    failures: list[BaseException] = []

    def run(function: Callable[..., None], args: tuple[Any, ...]) -> None:
        try:
            function(*args)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=job) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def digests(workers: list[Process]) -> set[str]:
    for worker in workers:
        assert worker.wait() == 0, worker.text
    return {result(worker)["digest"] for worker in workers}


def test_garbage_is_counted_and_answered_and_the_training_beside_it_is_the_same_bit_for_bit(
    start: Callable[..., Cluster], command: Callable[..., Process]
) -> None:
    job = {"servers": 2, "workers": 2, "chunk_size": 1024, "heartbeat_timeout": 20, "optimizer": "adam:lr=0.01"}
    calm = digests(start(**job).train(2, "--steps", 150))
    assert len(calm) == 1

    cluster = start(**job)
    over = cluster.path("over")
    workers = cluster.train(2, "--steps", 150, "--nap", "0.02", "--gate", f"149:{over}")
    cluster.wait_clock(5)
    rows = cluster.status()["servers"]
    targets = [cluster.address, *(row["addresses"][-1] for row in rows)]
    assert all(target.startswith("tcp://") for target in targets)
    victims = [cluster.scheduler, *cluster.servers]
    share = TOTAL // len(targets)
    answers: Counter[str] = Counter()

    def wave(part: int, seed: int) -> None:
        in_parallel([(bombard, (address, part, seed + i, answers)) for i, address in enumerate(targets)])

    part = share // WAVES
    wave(share - (WAVES - 1) * part, 1)
    sizes = [[victim.rss() for victim in victims]]
    for number in range(1, WAVES):
        if number == 1:
            in_parallel([(bombard_below, (address, i)) for i, address in enumerate(targets)])
        wave(part, 100 * number)
        sizes.append([victim.rss() for victim in victims])
    grown = [[(now - was) / MB for was, now in pairwise(each)] for each in zip(*sizes, strict=True)]
    assert max(map(min, grown)) < LEAK * part / MB, f"scheduler and servers have grown by {grown} MB"
    assert answers.total() == share * len(targets)
    assert set(answers) == {"bad-message", "version", "stranger"}, answers

    def counted(status: dict[str, Any]) -> list[int]:
        everyone = [status["scheduler"], *status["servers"]]
        return [sum(one["rejected"].values()) for one in everyone]

    cluster.wait_status(lambda status: min(counted(status)) >= share)
    asked = command("status", "--json", "--scheduler", cluster.address)
    assert asked.wait() == 0, asked.text
    status = json.loads(asked.text)
    assert min(counted(status)) >= share
    assert {row["state"] for row in status["servers"] + status["workers"]} == {"live"}
    assert not status["deaths"]

    over.touch()
    assert digests(workers) == calm
    assert [victim.wait() for victim in victims] == [0, 0, 0]
