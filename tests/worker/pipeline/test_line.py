"""Promises of lines between workers: what is sent comes once, in order and whole, whatever is lost and repeated; no
channel has more under way than its window; and a step over such lines has the bits of one process."""

from __future__ import annotations

import os
import random
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ps.errors import BadMessage
from ps.pipeline.arrays import here
from ps.pipeline.local import run
from ps.pipeline.runner import Transfer
from ps.protocol.codec import decode, encode
from ps.protocol.messages import Credit, CreditRequest, SharedTransfer, TransferPart
from ps.protocol.segment import Segment
from ps.worker.pipeline.line import ASK, WINDOW, IncomingLine, OutgoingLine
from ps.worker.pipeline.packed_tree import TreePacker
from ps.worker.pipeline.shared_buffers import AdoptedBuffers, OfferedBuffers
from support.pipeline_step import model, workers

TREES = TreePacker(here())


class Link:
    """One line over a connection that breaks now and then, with all that is on its way in both directions."""

    def __init__(self, luck: random.Random, window: int, part: int, *, shared: bool = False) -> None:
        self.luck = luck
        self.sender = OutgoingLine(1, TREES, window=window, part=part)
        self.adopted = AdoptedBuffers()
        self.handed: list[tuple[int, int, int]] = []
        """Buffers that were handed over and have not come."""
        self.receiver = IncomingLine(TREES, self.adopted.receive, window=window)
        if shared:
            self.sender.share(OfferedBuffers("it", self._hand, most=3))
        self.there: list[Any] = []
        self.beside: list[Any] = []
        """What goes another way, faster or slower."""
        self.back: list[bytes] = []
        self.breaks = 6

    def _hand(self, number: int, size: int, segment: Segment | None) -> bool:
        if segment is None:
            self.adopted.forget(number)
        elif self.luck.random() < 0.3:
            return False
        else:
            self.handed.append((number, size, os.dup(segment.fd)))
        return True

    def turn(self, now: float, unused: Any) -> list[tuple[int, Transfer]]:
        """Send, lose, receive and answer something; return what has come."""
        for number, size, fd in self._some(self.handed):
            self.adopted.adopt(number, size, Segment.adopt(fd, size))
        while (entry := self.sender.next()) is not None:
            message, payload = entry
            queue = self.beside if isinstance(message, SharedTransfer) else self.there
            queue.append((encode(message), None if payload is None else payload.tobytes()))
            self.sender.sent(now)
        if (question := self.sender.ask(now)) is not None:
            self.there.append((encode(question), None))
        if self.breaks and self.luck.random() < 0.2:
            self.breaks -= 1
            self.there, self.back = self.there[: self.luck.randrange(len(self.there) + 1)], []
            self.beside = self.beside[: self.luck.randrange(len(self.beside) + 1)]
            if self.luck.random() < 0.5:
                self.sender.begin_again()
        found = []
        for header, payload in [*self._some(self.beside), *self._some(self.there)]:
            message = decode(header)
            if isinstance(message, CreditRequest):
                credit = self.receiver.credit(2, unused, message.number)
                assert credit is not None
                self.back.append(encode(credit))
            else:
                found += self.receiver.receive(message, payload)
        if (credit := self.receiver.credit(2, unused)) is not None:
            self.back.append(encode(credit))
        for header in self._some(self.back):
            self.sender.credit(decode(header), now)
        return found

    def _some(self, queue: list[Any]) -> list[Any]:
        count = self.luck.randrange(len(queue) + 1)
        taken, queue[:] = queue[:count], queue[count:]
        return taken


@given(
    sizes=st.lists(st.integers(0, 40), max_size=20),
    window=st.integers(1, 5),
    seed=st.integers(0, 1 << 16),
    shared=st.booleans(),
)
def test_all_comes_once_in_order_and_whole_over_a_connection_that_breaks(
    sizes: list[int], window: int, seed: int, *, shared: bool
) -> None:
    link = Link(random.Random(seed), window, part=64, shared=shared)
    sent = [Transfer("activation", 1 + k % 2, k, np.arange(size, dtype=np.int64)) for k, size in enumerate(sizes)]
    for transfer in sent:
        link.sender.put(7, transfer)
    found: list[Transfer] = []
    now = 0.0
    while not link.sender.empty:
        now += ASK / 3
        assert now < 1000
        before = Counter((t.kind, t.stage) for t in found)
        came = link.turn(now, lambda kind, stage: 0)
        found += [transfer for _, transfer in came]
        for stage in (1, 2):
            assert link.sender._begun["activation", stage] - before["activation", stage] <= window + len(came)
    for stage in (1, 2):
        wanted = [t for t in sent if t.stage == stage]
        got = [t for t in found if t.stage == stage]
        assert [t.microbatch for t in got] == [t.microbatch for t in wanted]
        assert all(np.array_equal(a.tree, b.tree) for a, b in zip(got, wanted, strict=True))


def test_a_channel_without_room_holds_up_no_other_one() -> None:
    line = OutgoingLine(1, TREES)
    for k in range(WINDOW + 3):
        line.put(0, Transfer("activation", 1, k, k))
    line.put(0, Transfer("gradient", 0, 0, 0))
    seen = []
    while (entry := line.next()) is not None:
        seen.append((entry[0].kind, entry[0].microbatch))
        line.sent(0.0)
    assert seen == [("activation", k) for k in range(WINDOW)] + [("gradient", 0)]
    line.credit(Credit(2, WINDOW + 1, 0, (("activation", 1, 2),)), 0.0)
    for k in range(WINDOW, WINDOW + 2):
        entry = line.next()
        assert entry is not None
        assert entry[0].microbatch == k
        line.sent(0.0)
    assert line.next() is None


def test_what_was_not_looked_at_is_bounded_and_a_transfer_of_any_size_gets_through() -> None:
    line = OutgoingLine(1, TREES, part=64, flying=100)
    line.put(0, Transfer("activation", 1, 0, np.arange(64, dtype=np.float32)))
    sent = 0
    while not line.empty:
        there = 0
        while (entry := line.next()) is not None:
            assert entry[1] is not None
            there += entry[1].nbytes
            sent += 1
            line.sent(0.0)
        assert 0 < there <= 128
        line.credit(Credit(2, sent, 0, ()), 0.0)
    assert sent == 4


def test_nothing_is_sent_again_because_an_answer_is_old() -> None:
    line, other = OutgoingLine(1, TREES), IncomingLine(TREES)
    line.put(0, Transfer("loss", 0, 0, 1.5))
    line.next()
    line.sent(0.0)
    assert line.ask(ASK / 2) is None
    question = line.ask(2 * ASK)
    assert question == CreditRequest(1, 1)
    line.credit(Credit(2, 0, 0, ()), 2 * ASK)  # said before the question came
    assert line.next() is None
    answer = other.credit(2, lambda kind, stage: 0, question.number)
    assert answer == Credit(2, 0, 1, ())
    line.credit(answer, 2 * ASK)
    assert line.next() is not None


def test_what_comes_on_a_faster_way_waits_for_what_was_sent_before_it() -> None:
    line, other = OutgoingLine(1, TREES, part=64), IncomingLine(TREES)
    for number, tree in enumerate([np.arange(20), 1, 2]):
        line.put(0, Transfer("activation", 1, number, tree))
    sent = []
    while (entry := line.next()) is not None:
        sent.append(entry)
        line.sent(0.0)
    assert [type(message) for message, _ in sent] == 3 * [TransferPart] + 2 * [SharedTransfer]
    came = [list(other.receive(m, p)) for m, p in [sent[k] for k in (4, 0, 3, 1, 3, 2, 4)]]
    assert [[t.microbatch for _, t in each] for each in came] == [[], [], [], [], [], [0, 1, 2], []]


def test_a_worker_tells_what_it_has_worked_with_before_there_is_no_room_and_not_each_time() -> None:
    line, other = OutgoingLine(1, TREES), IncomingLine(TREES)
    told, used = 0, 0
    for number in range(8 * WINDOW):
        line.put(0, Transfer("activation", 1, number, number))
        entry = line.next()
        assert entry is not None, "there was room"
        line.sent(0.0)
        used += len(list(other.receive(*entry)))
        credit = other.credit(2, lambda kind, stage: 0)
        if credit is not None:
            told += 1
            line.credit(credit, 0.0)
    assert used == 8 * WINDOW
    assert told == 8 * WINDOW // (WINDOW // 2)
    line.put(0, Transfer("activation", 1, 0, 0))
    list(other.receive(*line.next()))  # type: ignore[misc]
    assert other.credit(2, lambda kind, stage: 0) is None
    line.sent(0.0)
    line.credit(other.credit(2, lambda kind, stage: 0, last=True), 0.0)  # type: ignore[arg-type]
    assert line.empty


def test_who_has_no_room_for_long_asks_also_where_all_that_was_sent_has_come() -> None:
    line = OutgoingLine(1, TREES, window=1)
    for number in range(2):
        line.put(0, Transfer("activation", 1, number, number))
    assert line.next() is not None
    line.sent(0.0)
    line.credit(Credit(2, 1, 0, ()), 0.0)  # and the next one is lost
    assert line.next() is None
    assert line.ask(0.0) is None
    question = line.ask(2 * ASK)
    assert question == CreditRequest(1, 1)
    line.credit(Credit(2, 1, 1, (("activation", 1, 1),)), 2 * ASK)
    assert line.next() is not None


def test_parts_that_do_not_belong_together_are_refused() -> None:
    what = {"tree": ("a", "float32", (32,))}
    first = TransferPart(1, 1, 0, "activation", 1, 0, 0, 128, what)
    for bad, size in [
        (TransferPart(1, 1, 0, "activation", 1, 0, 0, 192, what), 128),
        (TransferPart(1, 1, 0, "activation", 1, 0, 64, 128, {}), 64),
        (TransferPart(1, 1, 0, "activation", 1, 0, 0, 128, {"tree": 3}), 64),
        (first, 129),
    ]:
        with pytest.raises(BadMessage):
            list(IncomingLine(TREES).receive(bad, bytes(size)))
    for bad, size in [
        (TransferPart(1, 2, 0, "activation", 1, 0, 0, 128, what), 64),
        (TransferPart(1, 2, 0, "activation", 1, 0, 64, 192, {}), 64),
        (TransferPart(1, 2, 0, "activation", 1, 0, 64, 128, {}), 0),
    ]:
        line = IncomingLine(TREES)
        assert list(line.receive(first, bytes(64))) == []
        with pytest.raises(BadMessage):
            list(line.receive(bad, bytes(size)))


def test_what_lies_in_no_buffer_is_refused() -> None:
    what = {"tree": ("a", "float32", (32,))}
    adopted = AdoptedBuffers()
    for message, shared in [
        (SharedTransfer(1, 1, 0, "activation", 1, 0, 128, what, 1, 2), None),
        (SharedTransfer(1, 1, 0, "activation", 1, 0, 128, what, 1, 2), adopted.receive),
        (SharedTransfer(1, 1, 0, "activation", 1, 0, 64, what, 1, 2), adopted.receive),
    ]:
        with pytest.raises(BadMessage):
            list(IncomingLine(TREES, shared).receive(message, None))
    line = IncomingLine(TREES, adopted.receive)
    list(line.receive(TransferPart(1, 1, 0, "activation", 1, 0, 0, 128, what), bytes(64)))
    with pytest.raises(BadMessage, match="in the midst"):
        list(line.receive(SharedTransfer(1, 2, 0, "activation", 1, 0, 128, what, 1, 2), None))


def test_a_credit_for_what_was_never_sent_is_refused() -> None:
    with pytest.raises(BadMessage):
        OutgoingLine(1, TREES).credit(Credit(2, 1, 0, ()), 0.0)


@settings(max_examples=25)
@given(
    stages=st.integers(2, 4),
    schedule=st.sampled_from(["1f1b", "fill-drain", "zero-bubble", "interleaved"]),
    microbatches=st.integers(1, 7),
    window=st.integers(1, 3),
    seed=st.integers(0, 1 << 16),
    shared=st.booleans(),
)
def test_a_step_over_lines_that_lose_has_the_bits_of_one_process(
    stages: int, schedule: str, microbatches: int, window: int, seed: int, *, shared: bool
) -> None:
    luck = random.Random(seed)
    runners, home, fed = workers(model(stages, schedule, tied=False), microbatches)
    count = len(runners)
    links = {(a, b): Link(luck, window, part=64, shared=shared) for a in range(count) for b in range(count) if a != b}

    def send(worker: int, transfers: list[Transfer]) -> None:
        for transfer in transfers:
            links[worker, home[transfer.stage]].sender.put(0, transfer)

    send(0, fed)
    now = 0.0
    while any(not runner.done for runner in runners):
        now += ASK / 3
        assert now < 3000, [(runner.next, runner.waiting_for) for runner in runners]
        for (_, to), link in links.items():
            for _, transfer in link.turn(now, runners[to].unused):
                runners[to].receive(transfer)
        for worker, runner in enumerate(runners):
            if not runner.done and runner.waiting_for is None and luck.random() < 0.7:
                send(worker, runner.run())
    found = {name: gradient for runner in runners for name, gradient in runner.gradients().items()}
    whole, at, none = workers(model(1, "1f1b", tied=False), microbatches)
    expected = run(whole, at, none)
    assert found.keys() == expected.keys()
    assert all(np.array_equal(found[name], expected[name]) for name in found)
    assert {runner.loss for runner in runners} == {whole[0].loss}
