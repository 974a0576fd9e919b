"""Promises of a server to workers of pipelines: who takes a place goes on for the one before it, what was given counts
once, and whoever asks hears when all gradients of a clock are here."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ps.config.job import JobConfig
from ps.errors import BadMessage
from ps.optim.group import Group
from ps.protocol.layout import Layout
from ps.protocol.messages import (
    Attach,
    Error,
    Held,
    HeldRequest,
    Init,
    InitChunk,
    Inquire,
    Keep,
    Kept,
    Message,
    NormPart,
    Pull,
    Push,
    Recall,
    Scale,
    Skip,
    Start,
    View,
    Waiting,
    Weights,
)
from ps.server.send import Send
from ps.server.shard.gradient_shard import GradientShard

LAYOUT = Layout.of(
    {name: np.zeros(4, np.float32) for name in "ab"},
    groups={"a": str(Group("", (), "0")), "b": str(Group("", (), "1"))},
)


class Stages:
    """A shard with one chunk of each of two stages; member 10 has the first one, 11 the second."""

    def __init__(self, **job: Any) -> None:
        settings = {"mode": "pipeline", "workers": 2, "spares": 1, "optimizer": "sgd:lr=1", **job}
        self.job = JobConfig(**settings)
        self.shard = GradientShard(0)
        self.epoch = 0
        self.numbers = iter(range(1, 10_000))
        self.see({0: 10, 1: 11})
        for member in (10, 11):
            self.ask(Attach(0, member, 1))
            if member == 10:
                self.ask(Init(0, 10, 1, self.job.chunk_bytes, LAYOUT.pack()))
                for chunk in (0, 1):
                    self.ask(InitChunk(0, 10, chunk), np.zeros(4, np.float32))
            self.ask(Start(0, member, 0))

    def see(self, seats: dict[int, int]) -> list[Any]:
        self.epoch += 1
        rows = tuple((member, "worker", rank, True, "host", ()) for rank, member in seats.items())
        return self._said(self.shard.view(View(self.epoch, "running", "", "", self.job.to_dict(), rows), 0.0))

    def ask(self, message: Message, payload: Any = None) -> list[Any]:
        data = payload.tobytes() if isinstance(payload, np.ndarray) else payload
        return self._said(self.shard.receive(b"x", message, data, 0.0))

    @staticmethod
    def _said(sends: list[Send]) -> list[Any]:
        return [send.message for send in sends]

    def give(self, member: int, chunk: int, clock: int, value: float = 1.0, *, pull: bool = True) -> list[Any]:
        message = Push(next(self.numbers), member, chunk, clock, 0, 1.0, 1.0, pull)
        return self.ask(message, np.full(4, value, np.float32))

    def skip(self, member: int, chunk: int, clock: int, *, pull: bool = False) -> list[Any]:
        return self.ask(Skip(next(self.numbers), member, chunk, clock, pull))

    def held(self, member: int, clock: int, *, epoch: int = 0) -> list[Any]:
        return self.ask(HeldRequest(next(self.numbers), member, epoch or self.epoch, clock))

    def weights(self, chunk: int) -> tuple[int, float]:
        state = self.shard.chunks[chunk]
        return state.version, float(state.weights[0])


def test_all_that_asked_hear_when_the_last_gradient_of_a_clock_is_here() -> None:
    table = Stages()
    assert table.held(10, 1) == table.held(11, 1) == []
    assert table.give(10, 0, 0) == []
    heard = table.give(11, 1, 0)
    assert [type(message) for message in heard] == [Held, Held] and {message.clock for message in heard} == {1}
    [at_once] = table.held(10, 1)
    assert at_once.clock == 1 and not at_once.heir


def test_whoever_waits_is_told_for_whom_and_who_is_waited_for_sends_what_its_window_held_back() -> None:
    table = Stages()
    [] = table.held(10, 1)
    [waiting] = table.ask(Inquire(99, 10, (next(table.numbers) - 1,)))
    assert isinstance(waiting, Waiting) and not waiting.unknown and waiting.ranks == (0, 1)
    [waiting] = table.ask(Inquire(99, 11, ()))
    assert waiting.wanted


def test_before_the_words_of_all_nothing_is_applied_and_a_heir_computes_the_clock_again() -> None:
    table = Stages()
    table.give(10, 0, 0, 1.0)
    table.give(11, 1, 0, 2.0)
    table.see({0: 10, 1: 12})  # 11 is gone, and had said nothing of chunk 0
    assert table.weights(0) == table.weights(1) == (0, 0.0)
    [held] = table.held(12, 0)
    assert held.heir and held.clock == 1, "its gradient is here"
    assert table.give(12, 1, 0, 7.0) == [], "so another one does not count"
    table.skip(12, 0, 0)
    assert table.weights(0) == (1, -1.0)
    assert any(isinstance(message, Weights) for message in table.skip(10, 1, 0))
    assert table.weights(1) == (1, -2.0)


def test_what_was_not_given_is_waited_for_from_the_heir() -> None:
    table = Stages()
    table.give(10, 0, 0)
    table.skip(10, 1, 0)
    table.see({0: 10, 1: 12})
    [held] = table.held(12, 0)
    assert held.heir and held.clock == 0
    assert table.weights(0) == table.weights(1) == (0, 0.0)
    table.give(12, 1, 0, 3.0)
    assert table.weights(1) == (1, -3.0)


def test_who_was_replaced_is_refused() -> None:
    table = Stages()
    table.see({0: 10, 1: 12})
    [refused] = table.give(11, 1, 0)
    assert isinstance(refused, Error) and refused.code == "evicted"
    [refused] = table.held(11, 0)
    assert isinstance(refused, Error)


def test_a_heir_comes_before_the_view_that_shows_it() -> None:
    table = Stages()
    assert table.held(12, 0, epoch=table.epoch + 1) == []
    [held] = table.see({0: 10, 1: 12})
    assert held.heir


def test_a_spare_takes_no_part() -> None:
    table = Stages()
    table.see({0: 10, 1: 11, 2: 13})
    assert 13 not in table.shard.participants
    table.give(10, 0, 0)
    table.skip(11, 0, 0)
    assert table.weights(0)[0] == 1


def test_the_heir_scales_what_the_one_before_it_was_to_scale() -> None:
    table = Stages(clip_norm=1.0)
    for chunk, giver, other in ((0, 10, 11), (1, 11, 10)):
        table.give(giver, chunk, 0, 2.0, pull=False)
        table.skip(other, chunk, 0)
    table.see({0: 10, 1: 12})
    parts = [message for chunk in (0, 1) for message in table.skip(12, chunk, 0)]
    assert [(type(part), part.value) for part in parts] == [(NormPart, 16.0)] * 2
    assert table.weights(1)[0] == 0
    [weights] = table.ask(Scale(next(table.numbers), 12, 1, 0, 0.5))
    assert isinstance(weights, Weights) and table.weights(1) == (1, -1.0)


def test_where_nobody_takes_a_place_what_it_gave_counts_and_it_is_not_waited_for() -> None:
    table = Stages()
    table.give(10, 0, 0)
    table.see({0: 10})
    assert table.weights(0) == (1, -1.0)


def test_buffers_are_kept_as_they_were_before_the_clock_under_way_and_after_it() -> None:
    table = Stages()
    for clock in (1, 2, 3):
        table.ask(Keep(next(table.numbers), 11, clock), np.full(8, clock, np.uint8))
    table.see({0: 10, 1: 12})
    for clock in (2, 3):
        [send] = table.shard.receive(b"x", Recall(1, 12, clock), None, 0.0)
        assert send.message == Kept(1, clock) and send.loan is not None
        assert send.loan.weights.tolist() == [clock] * 8
    with pytest.raises(BadMessage, match="no buffers of worker 1 after clock 1 were kept"):
        table.ask(Recall(1, 12, 1))


def test_a_pull_of_the_one_before_it_is_answered_to_nobody() -> None:
    table = Stages()
    table.ask(Pull(next(table.numbers), 11, 1, 1))
    table.see({0: 10, 1: 12})
    table.give(12, 1, 0, pull=False)
    assert not any(isinstance(message, Weights) for message in table.skip(10, 1, 0))
