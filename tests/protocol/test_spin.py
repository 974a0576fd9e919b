"""Spin: waits that look without sleeping, for a moment, as long as nobody pays for it."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from ps.protocol.membership import HostCrowd
from ps.protocol.messages import View
from ps.protocol.spin import FIRST_PAUSE, LONGEST, LONGEST_PAUSE, LOOK, LOST, PROBATION, Spin


@dataclass
class Table:
    """A Spin with a clock that goes on by a tenth of the longest look each time that it is asked."""

    here: socket.socket
    there: socket.socket
    time: float = 100.0
    crowd: int = 2
    own: float = 1.0
    """The part of the time in which it has the processor."""
    had: float = 0.0
    spin: Spin = field(init=False)

    def __post_init__(self) -> None:
        self.spin = Spin(lambda: self.crowd, processors=2, now=self.now, spent=self.spent)
        self.spin.add(self.here.fileno())

    def now(self) -> float:
        self.time += LONGEST / 10
        self.had += LONGEST / 10 * self.own
        return self.time

    def spent(self) -> float:
        return self.had

    def wait(self, seconds: float = 0.0) -> list[int] | None:
        """Wait for so long; return what a look has found, None where there was none."""
        found = self.spin.look() if self.spin.begin() else None
        self.time += seconds
        self.spin.end()
        return found

    def pass_probation(self) -> None:
        for _ in range(PROBATION):
            assert self.wait() is None


@pytest.fixture
def table() -> Iterator[Table]:
    here, there = socket.socketpair()
    with here, there:
        yield Table(here, there)


def test_what_comes_is_found_without_sleeping_once_a_few_waits_were_short(table: Table) -> None:
    table.there.send(b"x")
    table.pass_probation()
    assert table.wait() == [table.here.fileno()]


def test_a_look_in_vain_ends_after_a_moment_and_the_next_probation_takes_twice_as_long(table: Table) -> None:
    table.pass_probation()
    for turn in range(3):
        before = table.time
        assert table.wait(LONGEST) == []
        assert table.time - before < 3 * LONGEST
        for _ in range(2 << turn):
            table.pass_probation()
    table.there.send(b"x")
    assert table.wait() == [table.here.fileno()]
    table.spin.begin()
    table.time += LONGEST
    table.spin.end()
    for _ in range(4):
        table.pass_probation()
    assert table.wait() == [table.here.fileno()]


def test_a_line_that_is_closed_is_found_too_and_one_that_is_removed_is_not(table: Table) -> None:
    table.pass_probation()
    table.there.close()
    assert table.wait() == [table.here.fileno()]
    table.spin.remove(table.here.fileno())
    table.spin.remove(table.here.fileno())
    assert table.wait() is None


@pytest.mark.parametrize("crowd", [0, 3])
def test_where_there_are_more_processes_than_processors_or_nobody_knows_none_looks(table: Table, crowd: int) -> None:
    table.there.send(b"x")
    table.crowd = crowd
    table.pass_probation()
    assert table.wait() == []
    assert table.wait() is None


def test_who_loses_the_processor_to_others_lets_it_be_for_longer_and_longer_until_they_are_gone(table: Table) -> None:
    table.there.send(b"x")
    table.pass_probation()
    assert table.wait()
    pauses, table.own = [], 0.6
    for turn in range(6):
        assert sum(1 for _ in iter(table.wait, [])) <= LOOK * (1 if turn else LOST)
        stopped = table.time
        while table.wait() is None:
            table.time += 0.01
        pauses.append(table.time - stopped)
    assert pauses[0] == pytest.approx(FIRST_PAUSE, abs=0.05)
    assert pauses == sorted(pauses)
    assert pauses[-1] == pytest.approx(LONGEST_PAUSE, abs=0.05)
    table.own = 1.0
    for _ in range(20 * LOOK):
        assert table.wait()
    table.own = 0.6
    assert LOOK * (LOST - 1) < sum(1 for _ in iter(table.wait, [])) <= LOOK * LOST
    stopped = table.time
    while table.wait() is None:
        table.time += 0.01
    assert table.time - stopped == pytest.approx(FIRST_PAUSE, abs=0.05)


def test_who_loses_it_now_and_then_goes_on(table: Table) -> None:
    table.there.send(b"x")
    table.pass_probation()
    for turn in range(30):
        table.own = 0.3 if turn % 2 else 1.0
        for _ in range(LOOK):
            assert table.wait()


def test_a_crowd_is_who_computes_on_this_host() -> None:
    here = socket.gethostname()
    rows = (
        (1, "server", 0, True, f"{here}, pid 1", ()),
        (2, "worker", 0, True, f"{here}, pid 2", ()),
        (3, "worker", 1, True, "elsewhere, pid 2", ()),
    )
    view: View | None = None
    crowd = HostCrowd(lambda: view)
    assert crowd() == 0
    view = View(1, "running", "", "", {}, rows)
    assert crowd() == 2
