"""Promises of seeding: one worker's values, every other one pulls them, a dead seed is replaced."""

from __future__ import annotations

import json

import numpy as np
import pytest

from ps.errors import LayoutMismatch
from ps.protocol.layout import Layout
from ps.server.scheduler.seeding import Seeding

MODEL = Layout.of({"w": np.zeros((2, 3), np.float32), "b": np.zeros(3, np.float64)})
OTHER = Layout.of({"w": np.zeros((2, 3), np.float32), "c": np.zeros(3, np.float64)})


def test_the_seed_may_ask_again_and_is_still_the_seed() -> None:
    seeding = Seeding()
    assert seeding.request(1, "worker 0", 5, MODEL) == [(1, 5, True)]
    assert seeding.request(1, "worker 0", 5, MODEL) == [(1, 5, True)]
    assert seeding.request(2, "worker 1", 8, MODEL) == seeding.request(2, "worker 1", 8, MODEL) == []
    assert seeding.finish(2) == []
    assert seeding.finish(1) == [(2, 8, False)]
    assert seeding.request(3, "worker 2", 1, MODEL) == [(3, 1, False)]


def test_only_a_model_that_nobody_waits_with_may_be_another() -> None:
    seeding = Seeding()
    seeding.request(1, "worker 0", 5, MODEL)
    with pytest.raises(LayoutMismatch, match=r"worker 1 has c float64\[3\] where worker 0 has b float64\[3\]"):
        seeding.request(2, "worker 1", 5, OTHER)
    seeding.forget(1)
    assert seeding.request(2, "worker 1", 5, OTHER) == [(2, 5, True)]


def test_a_seed_that_dies_after_it_was_done_changes_nothing() -> None:
    seeding = Seeding()
    seeding.request(1, "worker 0", 5, MODEL)
    seeding.finish(1)
    assert seeding.forget(1) == []
    assert seeding.request(2, "worker 1", 5, MODEL) == [(2, 5, False)]


def test_those_that_wait_and_die_are_not_answered() -> None:
    seeding = Seeding()
    seeding.request(1, "worker 0", 5, MODEL)
    seeding.request(2, "worker 1", 6, MODEL)
    assert seeding.forget(2) == []
    assert seeding.forget(1) == []
    assert seeding.request(3, "worker 2", 7, MODEL) == [(3, 7, True)]


@pytest.mark.parametrize("restarts", [False, True])
def test_values_that_a_lost_server_may_have_had_are_asked_for_again_once(restarts: bool) -> None:
    seeding = Seeding()
    seeding.tear()  # before anybody sent anything
    seeding.request(1, "worker 0", 5, MODEL)
    assert not seeding.is_torn(1, 6)
    seeding.tear()
    assert seeding.is_torn(1, 6) and seeding.is_torn(1, 6), "its answer may have been lost"
    if restarts:
        seeding = Seeding.load(json.loads(json.dumps(seeding.dump())))
    assert not seeding.is_torn(1, 7)
    seeding.finish(1)
    seeding.tear()
    assert not seeding.is_torn(1, 8), "the servers have the values, and keep them"


@pytest.mark.parametrize("done", [False, True])
def test_a_restart_keeps_the_model_and_who_seeds(done: bool) -> None:
    seeding = Seeding()
    seeding.request(1, "worker 0", 5, MODEL)
    if done:
        seeding.finish(1)
    again = Seeding.load(json.loads(json.dumps(seeding.dump())))
    assert again.request(1, "worker 0", 5, MODEL) == [(1, 5, not done)]
    assert again.request(2, "worker 1", 5, MODEL) == ([(2, 5, False)] if done else [])
    assert again.layout == MODEL


def test_the_same_tensors_in_another_order_are_told_from_another_model() -> None:
    seeding = Seeding()
    ways = [Layout.of({name: np.zeros(3) for name in names}) for names in ("ab", "ba")]
    seeding.request(1, "worker 0", 5, ways[0])
    with pytest.raises(
        LayoutMismatch, match=r"has b .* where worker 0 has a .*: they have the same tensors in another"
    ):
        seeding.request(2, "worker 1", 5, ways[1])
