"""Promises of ps.trace.summary: shares of time that do not count twice, medians of what belongs together."""

from __future__ import annotations

import json

import pytest

from ps.trace import events
from ps.trace.summary import WAY, summarize
from ps.trace.trace import WORKER

Line = str


def lines() -> list[Line]:
    """A worker and a server, at moments in milliseconds."""
    ms = 1_000_000
    worker, server = 11, 22
    made = [
        *events.names(server, "server", 0),
        events.header(server, "server", "h", 0, "s"),
        *events.row(server, 1, "apply", 0),
        *events.row(server, 2, "apply 2", 1),
        events.header(worker, "worker", "h", 0, "w"),
        *events.names(worker, "worker", 0),
        *[line for tid, lane in enumerate(WORKER, 1) for line in events.row(worker, tid, lane, tid)],
        events.span(worker, 1, "compute", 0, 50 * ms, ""),
        events.span(worker, 1, "part of it", 10 * ms, 20 * ms, ""),
        events.span(worker, 3, "wait", 50 * ms, 90 * ms, '"clock":0'),
        events.span(worker, 1, "compute", 90 * ms, 100 * ms, ""),
        events.span(server, 1, "apply", 60 * ms, 64 * ms, '"chunk":0'),
        events.span(server, 2, "apply", 62 * ms, 70 * ms, '"chunk":1'),
    ]  # fmt: skip
    for clock, (sent, landed) in enumerate([(50, 60), (52, 70), (54, 64)]):
        made.append(events.span(worker, 2, "send", sent * ms, (sent + 1) * ms, '"chunk":0'))
        made.append(events.flow(worker, 2, "s", sent * ms, events.way(0, clock, 0)))
        made.append(events.flow(worker, 4, "f", landed * ms, events.way(0, clock, 0)))
    made.append(events.flow(worker, 2, "s", 99 * ms, events.way(0, 9, 0)))
    return made


def test_shares_are_of_the_time_a_process_was_seen_and_count_nothing_twice() -> None:
    worker, server = summarize(map(json.loads, lines()))[0]
    assert (worker.name, worker.seconds) == ("worker 0", pytest.approx(0.1))
    assert worker.shares == pytest.approx({"compute": 0.6, "send": 0.03, "wait": 0.4})
    assert list(worker.shares) == ["compute", "send", "wait"]
    assert (server.name, server.seconds, server.shares) == ("server 0", pytest.approx(0.01), {"apply": 1.0})


def test_medians_are_of_one_chunk_and_the_first_row_of_all() -> None:
    total, first, second = summarize(map(json.loads, lines()))[1]
    assert (total.chunk, first.chunk, second.chunk) == (None, 0, 1)
    assert first.count == 3
    assert first.medians == pytest.approx({WAY: 10.0, "worker send": 1.0, "server apply": 4.0})
    assert second.medians == pytest.approx({"server apply": 8.0})
    assert total.medians["server apply"] == pytest.approx(6.0)


def test_nothing_is_summed_up_to_nothing() -> None:
    assert summarize([]) == ([], [])
