"""Promises of Seldom: a peer cannot fill the disk with lines, and nothing is left out without being counted."""

from __future__ import annotations

from ps.protocol.seldom import BURST, EVERY, Seldom


def test_a_burst_is_let_through_then_a_line_now_and_then_that_says_how_many_were_not() -> None:
    seldom = Seldom()
    told = [seldom.due(100.0 + n / 1000) for n in range(10_000)]
    written = [more for more in told if more is not None]
    assert len(written) == BURST + 1 or len(written) == BURST
    assert seldom.due(110.0 + EVERY) == 10_000 - len(written)
    assert seldom.due(110.0 + 2 * EVERY) == 0
