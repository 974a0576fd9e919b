"""Promises of vetoed clocks: nothing of them is applied, nobody parts, and everybody is told."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ps.protocol.messages import NormPart, Pull, Push, Veto
from support.lone import SIZE, Lone, told


def veto(lone: Lone, member: int, clock: int, *, pull: bool = True, version: int | None = None) -> list[Any]:
    return lone.ask(Veto(lone.number(), member, 0, clock, pull, clock if version is None else version))


@pytest.mark.parametrize("first", [1, 2], ids=["veto first", "veto last"])
@pytest.mark.parametrize("job", [{}, {"aggregator": "median"}, {"aggregator": "weighted"}], ids=str)
def test_a_vetoed_clock_changes_neither_weights_nor_state_and_all_go_on(job: dict[str, Any], first: int) -> None:
    lone, straight = (Lone(3, optimizer="adam:lr=0.1", **job) for _ in range(2))
    for member in (1, 2, 3):
        lone.push(member, 0, 1.0)
        straight.push(member, 0, 1.0)
    before = lone.chunk.weights.tobytes()
    said: dict[int, Any] = {1: lambda: veto(lone, 1, 1), 2: lambda: lone.push(2, 1, 9.0, version=1)}
    for member in (first, 3 - first):
        assert told(said[member]()) == []
    answers = lone.push(3, 1, 5.0, version=1)
    assert sorted(told(answers)) == ["1 Vetoed", "2 Vetoed", "3 Vetoed"]
    assert {answer.message.version for answer in answers} == {2}  # type: ignore[attr-defined]
    assert all(answer.loan is None for answer in answers)
    assert lone.chunk.weights.tobytes() == before
    for member in (1, 2, 3):
        lone.push(member, 2, 2.0, version=2)
        straight.push(member, 1, 2.0, version=1)
    assert lone.chunk.weights.tobytes() == straight.chunk.weights.tobytes()


def test_who_has_no_weights_of_the_clocks_beginning_gets_them_all_the_same() -> None:
    lone = Lone(2)
    lone.push(1, 0, 1.0)
    lone.push(2, 0, 1.0)
    veto(lone, 1, 1)
    answers = lone.push(2, 1, 1.0, version=0)
    assert sorted(told(answers)) == ["1 Vetoed", "2 Weights"]
    assert told(lone.pull(1, 2)) == ["1 Weights"]
    assert told(lone.ask(Pull(lone.number(), 2, 0, 2))) == ["2 Weights"]


def test_one_that_asks_again_is_told_the_same() -> None:
    lone = Lone(2)
    veto(lone, 1, 0)
    message = Push(77, 2, 0, 0, 0, 1.0, 1.0, True)
    assert sorted(told(lone.ask(message, np.ones(SIZE, np.float32)))) == ["1 Vetoed", "2 Vetoed"]
    assert told(lone.ask(message, np.ones(SIZE, np.float32))) == ["2 Vetoed"]
    assert lone.value == 0.0


def test_a_veto_holds_when_its_worker_has_gone() -> None:
    lone = Lone(3)
    veto(lone, 1, 0)
    lone.push(2, 0, 1.0)
    lone.lose(1)
    assert sorted(told(lone.push(3, 0, 1.0))) == ["2 Vetoed", "3 Vetoed"]
    assert lone.value == 0.0


def test_the_clock_after_a_vetoed_one_is_an_ordinary_one() -> None:
    lone = Lone(2)
    veto(lone, 1, 0)
    lone.push(2, 0, 1.0)
    lone.push(1, 1, 1.0, version=1)
    assert sorted(told(lone.push(2, 1, 1.0, version=1))) == ["1 Weights", "2 Weights"]
    assert lone.value == -1.0


def test_with_clipping_in_two_phases_the_norm_is_nothing_and_the_second_answer_tells() -> None:
    lone = Lone(2, clip_norm=1.0)
    veto(lone, 1, 0, pull=False)
    answers = lone.push(2, 0, 5.0, pull=False)
    assert sorted(told(answers)) == ["1 NormPart", "2 NormPart"]
    assert {answer.message.value for answer in answers if isinstance(answer.message, NormPart)} == {0.0}
    assert told(lone.scale(2, 0, 1.0)) == ["2 Weights"]  # it does not say which weights it has
    assert lone.value == 0.0 and lone.chunk.version == 1


@pytest.mark.parametrize("mode", ["async", "ssp"])
def test_where_gradients_are_applied_alone_a_veto_is_a_skip(mode: str) -> None:
    lone = Lone(2, mode=mode)
    assert told(veto(lone, 1, 0)) == ["1 Weights"]
    lone.push(2, 0, 1.0)
    assert lone.value == -1.0
