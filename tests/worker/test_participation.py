"""Participation: what a worker says and in which order, with answers that a test makes up. No exchange, no servers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from ps.config import job_from
from ps.protocol.layout import Chunk, Layout
from ps.protocol.messages import (
    Attach,
    Attached,
    BarrierLeave,
    InitGrant,
    Late,
    NormPart,
    Ok,
    Pull,
    Push,
    Pushed,
    Scale,
    Start,
    Weights,
)
from ps.worker.conversation import Calls, Conversation, Interrupted, Question
from ps.worker.participation import MOST_JOINS, MOST_PULLS, Participation

LAYOUT = Layout.of({"w": np.zeros(1024, np.float32)})


def participation(**job: Any) -> Participation:
    made = Participation(job_from({"servers": 2, "chunk_size": 1024, **job}), 7, 1, lambda: 3)
    run(made.claim(LAYOUT), lambda asked: InitGrant(1, False))
    return made


@dataclass
class StepGradients:
    norm: float = 1.0

    def chunk(self, chunk: Chunk) -> np.ndarray:
        return np.ones(chunk.size, np.float32)

    def absent(self, chunk: int) -> tuple[int, ...]:
        return ()

    def lacks(self, chunk: int) -> bool:
        return False

    def norm_squared(self) -> float:
        return self.norm


def kind(asked: Any) -> Any:
    return type(asked.make(1, 7) if isinstance(asked, Question) else asked.calls[0].make(1))


def run(conversation: Conversation[Any], answer: Any) -> tuple[Any, list[Any]]:
    """Have a conversation; ``answer`` may return INTERRUPT. Return what it returns, and the kinds of all messages."""
    said: list[Any] = []
    move: Any = lambda: next(conversation)  # noqa: E731
    while True:
        try:
            asked = move()
        except StopIteration as end:
            return end.value, said
        said.append(kind(asked))
        given = answer(asked)
        interrupted = given is INTERRUPT
        move = (lambda: conversation.throw(Interrupted())) if interrupted else (lambda g=given: conversation.send(g))


INTERRUPT = object()


class Servers:
    """Two servers that take the worker in at some clock, and have weights of some version."""

    def __init__(self, part: Participation, entries: tuple[int, ...] = (4, 9), versions: Any = None) -> None:
        self.part = part
        self.entries = entries
        self.versions = versions or (lambda chunk: part.clock)
        self.starts: list[int] = []
        self.interrupts: list[Any] = []
        """Kinds of messages in whose answers' place the script is interrupted, each once."""
        self.late = False

    def __call__(self, asked: Calls | Question) -> Any:
        if kind(asked) in self.interrupts:
            assert not asked.resumable
            self.interrupts.remove(kind(asked))
            return INTERRUPT
        if isinstance(asked, Question):
            return BarrierLeave(1, 12)
        return [self._answer(call.server, call.make(1)) for call in asked.calls]

    def _answer(self, server: int, message: Any) -> Any:
        match message:
            case Attach():
                assert (message.member, message.epoch) == (7, 3)
                return Attached(1, self.entries[server])
            case Start():
                self.starts.append(message.clock)
                return Ok(1)
            case Pull():
                self.part.versions[message.chunk] = self.versions(message.chunk)
                return Weights(1, message.chunk, self.versions(message.chunk), 0)
            case Push() if self.late:
                return Late(1, message.chunk, 20 + message.chunk)
            case Push() if self.part.two_phases:
                return NormPart(1, message.chunk, 1.0)
            case Push() | Scale():
                return Pushed(1, message.chunk, message.clock + 1, 0)
        return Ok(1)


def test_a_worker_begins_everywhere_with_the_highest_clock_that_a_server_names() -> None:
    part = participation()
    servers = Servers(part)
    _, said = run(part.join(), servers)
    assert said == [Attach, Start, Pull]
    assert (servers.starts, part.clock, part.rejoins) == ([9, 9], 9, 1)


def test_in_lockstep_a_worker_whose_weights_are_of_several_clocks_joins_again_but_not_for_ever() -> None:
    part = participation()
    _, said = run(part.join(), Servers(part, versions=lambda chunk: chunk))
    assert said == [Attach, Start, Pull] * MOST_JOINS
    free = participation(mode="async")
    _, said = run(free.join(), Servers(free, versions=lambda chunk: chunk))
    assert said == [Attach, Start, Pull]


@pytest.mark.parametrize("where", [Attach, Start, Pull])
def test_who_is_interrupted_while_joining_joins_anew(where: Any) -> None:
    part = participation()
    servers = Servers(part)
    servers.interrupts = [where]
    _, said = run(part.join(), servers)
    assert said[-3:] == [Attach, Start, Pull] and said.count(Attach) == 2
    assert (part.clock, part.rejoins) == (9, 1)


def test_a_barrier_suspends_meets_begins_with_the_highest_clock_and_meets_again() -> None:
    part = participation()
    servers = Servers(part)
    _, said = run(part.barrier(), servers)
    assert [kind.__name__ for kind in said] == ["Suspend", "BarrierEnter", "Start", "Pull", "BarrierEnter"]
    assert servers.starts == [12, 12] and part.clock == 12


def test_who_is_interrupted_in_a_barrier_is_waited_for_by_others_and_so_it_goes_on_with_all_of_it() -> None:
    part = participation()
    servers, resumable = Servers(part), list[bool]()
    run(part.barrier(), lambda asked: resumable.append(asked.resumable) or servers(asked))
    assert resumable == [True] * 5


def test_a_step_clipped_by_all_workers_norm_has_two_phases_and_pulls_in_the_second() -> None:
    part = participation(clip_norm=1.0)
    asked: list[Calls] = []
    servers = Servers(part)
    _, said = run(part.step(StepGradients(), 1.0, pull=True), lambda a: asked.append(a) or servers(a))
    assert said == [Push, Scale] and part.clock == 1
    assert [(a.refreshes, a.resumable, a.last) for a in asked] == [(False, True, False), (True, True, True)]
    first: Any = asked[0].calls[0].make(1)
    second: Any = asked[1].calls[0].make(1)
    assert (first.pull, second.pull, second.scale) == (False, True, pytest.approx(0.5))


def test_who_is_late_joins_anew_and_with_backup_workers_catches_up_with_the_latest_clock_instead() -> None:
    part = participation()
    servers = Servers(part)
    servers.late = True
    _, said = run(part.step(StepGradients(), 1.0, pull=True), servers)
    assert said == [Push, Attach, Start, Pull] and part.clock == 9
    spared = participation(workers=3, backup_workers=1)
    servers = Servers(spared)
    servers.late = True
    _, said = run(spared.step(StepGradients(), 1.0, pull=True), servers)
    assert said == [Push, Start, Pull] and spared.clock == 20 + len(spared.chunks) - 1


def test_a_late_worker_that_the_others_outrun_again_and_again_joins_anew_and_trains_on_weights_of_one_clock() -> None:
    part = participation(workers=3, backup_workers=1)
    servers, asked = Servers(part), list[Any]()
    servers.late = True
    servers.versions = lambda chunk: part.clock + (chunk % 2 if Attach not in map(kind, asked) else 0)
    _, said = run(part.step(StepGradients(), 1.0, pull=True), lambda a: asked.append(a) or servers(a))
    assert said == [Push, *[Start, Pull] * MOST_PULLS, Attach, Start, Pull]
    assert set(part.versions.values()) == {part.clock} and part.rejoins == 1


def test_what_was_sent_before_the_step_is_not_sent_with_it_again() -> None:
    part = participation()
    early = part.pushes(StepGradients(), [2], 1.0, pull=True)
    asked: list[Any] = []
    servers = Servers(part)
    run(part.step(StepGradients(), 1.0, pull=True), lambda a: asked.append(a) or servers(a))
    sent: list[Any] = [call.make(1) for call in (*early, *asked[0].calls)]
    assert sorted(push.chunk for push in sent) == [0, 1, 2, 3]
    run(part.step(StepGradients(), 1.0, pull=True), lambda a: asked.append(a) or servers(a))
    assert len(asked[1].calls) == 4
