"""Promises to a script: whatever its servers and its scheduler say, it goes on, or ends with one named error."""

from __future__ import annotations

import gc
import random
import tracemalloc
from types import SimpleNamespace
from typing import Any

import pytest

from ps.protocol import messages as m
from ps.worker import session
from ps.worker.session import MOST_PAUSE, Session
from support import among_liars
from support.lying import JOBS, Liars

COUNT = 40
SEED = 20261
MOST_GROWN = 2_000_000
"""Bytes by which memory may be more after many lies than after some."""


@pytest.mark.parametrize("name", JOBS)
def test_lies_end_a_worker_by_name_or_not_at_all_and_write_nothing_beside_its_weights(name: str) -> None:
    said = among_liars.run(name, SEED, COUNT)
    assert said["said"] >= COUNT


@pytest.mark.parametrize("name", ["sync", "federated none"])
def test_lies_do_not_make_a_workers_memory_grow(name: str) -> None:
    among_liars.run(name, SEED, 30)
    tracemalloc.start()
    try:
        among_liars.run(name, SEED + 1, 80)
        gc.collect()
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < MOST_GROWN


def honest(name: str) -> Any:
    return Liars(name, random.Random(1), room=0)


@pytest.mark.parametrize("name", JOBS)
def test_among_those_who_do_not_lie_a_worker_comes_to_its_end(name: str) -> None:
    assert among_liars.live(honest(name)) == ""


@pytest.mark.parametrize(("name", "error"), [("sync", "ServerLost"), ("federated none", "ConnectTimeout")])
@pytest.mark.parametrize("ranks", [(), (0,), (0, 0), (1, 2), (0, 1, 1)])
def test_whose_scheduler_does_not_know_the_jobs_servers_by_their_ranks_is_told(
    name: str, error: str, ranks: tuple[int, ...]
) -> None:
    liars = honest(name)
    rows = [(1 + n, "server", rank, True, "h, pid 1", ("tcp://h:1",)) for n, rank in enumerate(ranks)]
    liars.view = lambda: m.View(1, "running", "", "", liars.job.to_dict(), tuple(rows))  # type: ignore[arg-type]
    assert among_liars.live(liars) == error


def test_a_job_that_says_little_of_itself_is_waited_for_and_given_up_by_name() -> None:
    liars = honest("sync")
    liars.view = lambda: m.View(1, "waiting", "", "", {"odd": 1}, ())
    assert among_liars.live(liars) == "ConnectTimeout"


def test_a_client_that_is_evicted_as_the_job_begins_has_its_new_rank() -> None:
    liars, schedule, hellos = honest("federated none"), Liars.schedule, 0

    def twice(asked: Any) -> list[m.Message]:
        nonlocal hellos
        said = schedule(liars, asked)
        hellos += isinstance(asked, m.Hello)
        return [*said, m.Error(0, "evicted", "too late")] if isinstance(asked, m.Hello) and hellos == 1 else said

    liars.schedule = twice
    assert among_liars.live(liars) == ""
    assert hellos == 2


def test_nobody_can_have_a_client_do_nothing_for_longer_than_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    made, now = object.__new__(Session), 0.0
    made._scheduler = SimpleNamespace(check=lambda: None)  # type: ignore[assignment]

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    monkeypatch.setattr(session, "time", SimpleNamespace(monotonic=lambda: now, sleep=sleep))
    made.pause(1e9)
    assert now == pytest.approx(MOST_PAUSE, abs=1)


@pytest.mark.parametrize("name", ["sync", "federated none"])
def test_when_nobody_says_anything_any_more_a_worker_ends_by_name(name: str) -> None:
    liars, answered = honest(name), 0

    def silent(asked: Any) -> Any:
        nonlocal answered
        answered += 1
        if answered > 8:
            liars.alone = 1 << 30
        return Liars._answer(liars, asked)

    liars._answer = silent
    assert among_liars.live(liars) in ("PeerLost", "ServerLost", "ConnectTimeout")
    assert answered > 8
