"""Promises of links: what is sent arrives whole, however large and however many the pieces, and an end is noticed."""

from __future__ import annotations

import socket
import threading

import numpy as np
import pytest

from ps.simulate.link import Link
from ps.simulate.result_memory import ResultMemory, ResultPlaces
from ps.simulate.task import TrainingResult, pack, unpack


def pair() -> tuple[Link, Link]:
    one, other = socket.socketpair()
    one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4608)  # so that nothing goes through in one piece
    return Link(one), Link(other)


@pytest.mark.parametrize("sizes", [(), (0,), (1, 0, 300_000, 7), (0, *(3,) * 1500, 100_000)], ids=len)
def test_what_is_sent_arrives_whole(sizes: tuple[int, ...]) -> None:
    ours, theirs = pair()
    rng = np.random.default_rng(len(sizes))
    frames = [rng.integers(0, 256, size, np.uint8) for size in sizes]
    for attempt in range(2):
        sender = threading.Thread(target=ours.send, args=("kind", attempt, "word"), kwargs={"frames": frames})
        sender.start()
        kind, values, found = theirs.receive()
        sender.join(20)
        assert (kind, values) == ("kind", [attempt, "word"])
        assert [frame.tobytes() for frame in found] == [frame.tobytes() for frame in frames]
    for link in (ours, theirs):
        link.close()


def test_an_end_in_the_middle_of_a_message_is_an_end() -> None:
    one, other = socket.socketpair()
    reader = Link(other)
    one.sendall((1000).to_bytes(8, "little") + b"x" * 10)
    one.close()
    with pytest.raises(EOFError):
        reader.receive()
    reader.close()


@pytest.mark.parametrize("nbytes", [0, 63, 128, 1000])
def test_results_are_what_they_were_wherever_their_frames_lie(nbytes: int) -> None:
    frames = [np.full(n, n, np.uint8) for n in (0, 1, 2, 65)]
    results = [
        TrainingResult(1, 10.0, 3, {"loss": 0.5}, (frames[1], frames[3])),
        TrainingResult(2, 0, 0, {}, (), "no time"),
        TrainingResult(3, 7.0, 1, {}, (frames[0],)),
        TrainingResult(4, 7.0, 1, {}, (frames[2], frames[0], frames[3])),
    ]
    memory = ResultMemory(3, nbytes)
    places = {result.ticket: memory.take() for result in results}
    assert sorted(places.values()) == [-1, 0, 1, 2]
    rows, sent = pack(results, places, ResultPlaces(memory.fd, memory.nbytes))
    memory.close()
    found = unpack(rows, sent, memory)
    assert [result[:4] for result in found] == [result[:4] for result in results]
    assert [[f.tobytes() for f in r.frames] for r in found] == [[f.tobytes() for f in r.frames] for r in results]
    assert found[1].declined == "no time"
    there = [row[-1] for row in rows]
    assert there == [nbytes >= 192, True, True, False]
    del found
    assert sorted(memory.take() for _ in range(3)) == [0, 1, 2]
