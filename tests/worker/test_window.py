"""The window: what is on its way is bounded, and nothing is held back that other workers wait for."""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby
from typing import Any

import numpy as np
import pytest

from ps.protocol.messages import Inquire, Push, Waiting
from ps.testing import LocalCluster
from ps.worker import KV
from ps.worker.batch import Batch
from support.fakeserver import KB, MEMBER, Setup, pushed


def test_a_full_window_opens_when_other_workers_wait_for_this_one(setup: Callable[..., Setup]) -> None:
    job = setup(window=4 * KB)
    server = job.servers[0]
    server.script = lambda message: [Waiting(0, (), 418, (1,), wanted=True)] if isinstance(message, Inquire) else []

    def answer_only_all_of_them_at_once() -> None:
        if len(server.of(Push)) == 10:
            for message in server.of(Push):
                server.say(*pushed(message))

    job.during = answer_only_all_of_them_at_once
    batch = Batch()
    for chunk in range(10):
        job.push(batch, chunk)
    job.exchange.wait(batch)
    asked = [message for message, _ in groupby(server.heard) if isinstance(message, Inquire)]  # again on a busy machine
    assert asked[0] == Inquire(0, MEMBER, (1, 2, 3, 4))
    assert asked[1] == Inquire(0, MEMBER, (5, 6, 7, 8))  # what is known to be there is not asked about again


def test_a_full_window_stays_shut_while_nobody_waits_for_this_worker(setup: Callable[..., Setup]) -> None:
    job = setup(window=4 * KB)
    server = job.servers[0]
    there: list[int] = []

    def script(message: object) -> list[object]:
        if isinstance(message, Inquire):
            there.append(len(server.of(Push)))
            if len(there) == 5:
                server.script = pushed
                return [answer for push in server.of(Push) for answer in pushed(push)]
            return [Waiting(0, (), 418, (1,))]
        return []

    server.script = script
    batch = Batch()
    for chunk in range(8):
        job.push(batch, chunk)
    job.exchange.wait(batch)
    assert there == [4] * 5


def test_what_was_lost_counts_again_until_it_is_there(setup: Callable[..., Setup]) -> None:
    job = setup(window=2 * KB)
    server, asked = job.servers[0], 0

    def script(message: object) -> list[object]:
        nonlocal asked
        if isinstance(message, Inquire):
            asked += 1
            return [Waiting(0, message.requests[:1] if asked == 1 else (), 418, (1,), wanted=True)]
        return [answer for push in server.of(Push) for answer in pushed(push)] if message_is_last(message) else []

    def message_is_last(message: object) -> bool:
        return isinstance(message, Push) and message.chunk == 5

    server.script = script
    batch = Batch()
    for chunk in range(6):
        job.push(batch, chunk)
    job.exchange.wait(batch)
    assert [message.chunk for message in server.of(Push)] == [0, 1, 0, 2, 3, 4, 5]


@pytest.mark.parametrize("job", [{}, {"mode": "ssp", "staleness": 0}, {"servers": 2}, {"overlap": True}])
def test_workers_that_announce_in_different_orders_all_come_to_the_end(
    loopback: Callable[..., LocalCluster], job: dict[str, object]
) -> None:
    names, size = [f"layer {number}" for number in range(8)], KB // 4

    def script(kv: KV) -> bytes:
        params = kv.init({name: np.zeros(size, np.float32) for name in names})
        for clock in range(3):
            order = names[::-1] if (kv.rank + clock) % 2 else names
            for name in order:
                kv.ready(name, np.full(size, clock + 1, np.float32))
            kv.step()
        kv.barrier()
        return b"".join(params[name].tobytes() for name in names)

    setup = {"workers": 2, "chunk_size": KB, "window": KB, "optimizer": "sgd:lr=1.0", **job}
    first, second = loopback(**setup).run(script, script)
    assert first == second
    if not job.get("mode"):
        assert set(np.frombuffer(first, np.float32)) == {-6.0}


def test_what_is_due_is_told_to_who_watches_the_connections_and_what_came_is_taken_to_the_byte(
    loopback: Callable[..., LocalCluster],
) -> None:
    with loopback(servers=2, transport="tcp", chunk_size=1024, optimizer="sgd:lr=1").connect() as kv:
        params = kv.init({"w": np.zeros(20_000, "float32"), "b": np.zeros(3, "float32")})
        for _ in range(20):
            kv.step({name: np.ones_like(value) for name, value in params.items()})
        store: Any = kv._store
        queues, watched = store._session._exchange._queues, store._session._scheduler._watched
        assert [queue.channel.incoming for queue in queues] == watched and len(watched) == 2
        for incoming in watched:
            incoming._looked = 0.0
            incoming.look()
            waiting = incoming._unasked._waiting
            assert incoming.due == 0 and 0 < waiting < 1000, "the handshake alone"
            assert incoming._taken > 20 * 20_000
