"""Promises of routes: a word to all servers has one number, also for a server that comes later."""

from __future__ import annotations

from typing import Any

from ps.protocol.messages import Attach, Pull, Start
from ps.worker.batch import Batch, Request
from ps.worker.routes import Routes


class Queue:
    """What would be sent to one server."""

    def __init__(self) -> None:
        self.sent: list[Any] = []

    def add(self, request: Request) -> None:
        self.sent.append(request.message)

    def give_up(self) -> list[Request]:
        return []


def test_servers_hear_a_word_under_one_number_and_the_next_word_under_a_greater_one() -> None:
    queues = {rank: Queue() for rank in range(3)}
    routes = Routes({0: queues[0], 1: queues[1]}, lambda rank: queues[rank])  # type: ignore[dict-item, arg-type, return-value]
    first, second = Batch("leave to begin"), Batch("leave to begin at clock 3")
    for number, rank in enumerate((0, 1), 1):
        routes.add(rank, Request(Attach(number, 9, 4), None, (0, 0), first))
    assert queues[0].sent == queues[1].sent == [Attach(1, 9, 4)]
    for number, rank in enumerate((0, 1), 3):
        routes.add(rank, Request(Start(number, 9, 3), None, (0, 0), second))
    assert queues[0].sent[1:] == queues[1].sent[1:] == [Start(3, 9, 3)]
    routes.follow({0, 1, 2}, {})
    assert queues[2].sent == [Start(3, 9, 3)], "one that comes hears the last"


def test_what_was_sent_on_to_a_server_that_had_gone_by_then_goes_to_whoever_has_the_chunk() -> None:
    queues = {rank: Queue() for rank in (0, 2)}
    known = {0, 2}
    routes = Routes({0: queues[0]}, lambda rank: queues[rank] if rank in known else None)  # type: ignore[dict-item, arg-type, return-value]
    routes.follow({0, 2}, {5: 2})  # chunk 5 was at server 1 for a while, which has gone since
    request = Request(Pull(1, 9, 5, 0), None, (0, 4), Batch("weights"))
    routes.moved(request, 1)  # which server 0 said before
    assert routes.stranded == [request] and not queues[2].sent
    routes.retry()
    assert not routes.stranded and queues[2].sent == [request.message]
