"""Promises of who writes a part: hardly any of the processor's time while training goes on, and haste at the end."""

from __future__ import annotations

import threading
import time

import pytest

from ps.server.shard import part_writer as module
from ps.server.shard.part_writer import SHARE, Throttle


class Clocks:
    """The processor time that a thread and its process have taken, and the time of day, which goes on in naps."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, others: float) -> None:
        """``others``: of each second, what the other threads take."""
        self.own = self.whole = self.now = 0.0
        self.others = others
        monkeypatch.setattr(module, "time", self)

    def thread_time(self) -> float:
        return self.own

    def process_time(self) -> float:
        return self.whole

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.whole += seconds * self.others

    def work(self, seconds: float) -> None:
        self.now, self.own = self.now + seconds, self.own + seconds
        self.whole += seconds * (1 + self.others)


@pytest.mark.parametrize("others", [0.8, 0.0])
def test_while_the_server_is_busy_it_takes_its_share_and_no_more(
    others: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    clocks = Clocks(monkeypatch, others)
    throttle = Throttle(lambda: True)
    for _ in range(400):
        clocks.work(0.002)
        throttle.rest()
    assert clocks.own - module.CREDIT == pytest.approx(max(SHARE * others, module.LEAST) * clocks.now, rel=0.05)


def test_it_does_not_wait_for_a_server_that_does_nothing_nor_with_what_is_small(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clocks = Clocks(monkeypatch, others=0.0)
    busy = threading.Event()
    throttle = Throttle(busy.is_set)
    for _ in range(100):
        clocks.work(0.002)
        throttle.rest()
    assert clocks.now == pytest.approx(0.2)
    busy.set()
    throttle = Throttle(busy.is_set)
    for _ in range(10):
        clocks.work(0.002)
        throttle.rest()
    assert clocks.now == pytest.approx(0.22)


def test_who_is_asked_to_end_makes_haste(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ps.sigterm.status", lambda: 143)
    throttle, began = Throttle(lambda: True), time.monotonic()
    while time.thread_time() - throttle._own < 0.05:
        pass
    took = time.monotonic() - began
    throttle.rest()
    assert time.monotonic() - began < took + 0.1
