"""Promises of a whole job, whatever the order of events: exactly once, one version, no deadlock, SSP's bound."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.long import cases
from support.sim import Sim
from support.simmail import Faults
from support.simworker import LAYOUT, Plan, first_values, gradient

SEEDS = st.integers(0, 2**32)
RUNS = settings(max_examples=cases(50, 500), derandomize=False, deadline=None, suppress_health_check=list(HealthCheck))

MODES: dict[str, dict[str, Any]] = {
    "sync": {},
    "sync, clipped": {"clip_norm": 3.0},
    "sync, backup": {"backup_workers": 1},
    "async": {"mode": "async"},
    "async, clipped": {"mode": "async", "clip_norm": 3.0},
    "ssp 0": {"mode": "ssp", "staleness": 0},
    "ssp 2": {"mode": "ssp", "staleness": 2},
    "pipelines, ssp 1": {"mode": "pipeline-ssp", "staleness": 1, "stages": 2},
}


@st.composite
def plans(draw: st.DrawFn, workers: int) -> list[Plan]:
    barrier = draw(st.none() | st.integers(0, 4))
    return [
        Plan(
            steps=draw(st.integers(1, 6)),
            barrier_at=barrier,
            skips=draw(st.frozensets(st.integers(0, 5), max_size=2)),
            push_then_pull=draw(st.booleans()),
            lr_at=draw(st.none() | st.integers(0, 3)),
        )
        for _ in range(workers)
    ]


@pytest.mark.parametrize("mode", MODES)
@given(data=st.data(), seed=SEEDS, servers=st.integers(1, 2), workers=st.integers(2, 4), window=st.sampled_from([1, 9]))
@RUNS
def test_every_job_comes_to_its_end_whatever_goes_wrong(
    mode: str, data: st.DataObject, seed: int, servers: int, workers: int, window: int
) -> None:
    workers += workers % MODES[mode].get("stages", 1)
    drawn = data.draw(plans(workers))
    count = st.integers(0, 3 if "stages" not in MODES[mode] else 0)  # beyond the places of pipelines nobody comes in
    faults = Faults(
        repeats=data.draw(st.integers(0, 20)),
        losses=data.draw(st.integers(0, 5)),
        deaths=data.draw(st.integers(0, workers - 1)),
        joins=data.draw(count),
        restarts=data.draw(st.integers(0, 3)),
        interrupts=data.draw(st.integers(0, 3)),
    )
    late = data.draw(plans(faults.joins))
    sim = Sim({"servers": servers, **MODES[mode]}, drawn, seed, faults, window)
    sim.joins = late
    sim.run()


@pytest.mark.parametrize(("faults", "late"), [((2, 3, 1, 2, 1, 1), (1, 1)), ((1, 2, 1, 2, 1, 0), (1, 4))])
def test_a_newcomer_that_brings_the_model_is_waited_for_by_those_who_were_there(
    faults: tuple[int, ...], late: tuple[int, ...]
) -> None:
    names = ("repeats", "losses", "deaths", "joins", "restarts", "interrupts")

    def plan(steps: int) -> Plan:
        return Plan(steps=steps, barrier_at=None, skips=frozenset(), push_then_pull=False, lr_at=None)

    given = Faults(**dict(zip(names, faults, strict=True)))
    sim = Sim({"servers": 2, "clip_norm": 3.0}, [plan(1), plan(1), plan(2)], 371581, given, 1)
    sim.joins = [plan(steps) for steps in late]
    sim.run()


@pytest.mark.parametrize("mode", ["sync", "sync, clipped"])
@given(data=st.data(), seed=SEEDS, servers=st.integers(1, 2), workers=st.integers(1, 4), window=st.sampled_from([1, 9]))
@RUNS
def test_weights_read_in_place_never_change_between_a_workers_calls(
    mode: str, data: st.DataObject, seed: int, servers: int, workers: int, window: int
) -> None:
    drawn = data.draw(plans(workers))
    faults = Faults(
        repeats=data.draw(st.integers(0, 20)),
        deaths=data.draw(st.integers(0, workers - 1)),
        joins=data.draw(st.integers(0, 3)),
        restarts=data.draw(st.integers(0, 3)),
    )
    late = data.draw(plans(faults.joins))
    sim = Sim({"servers": servers, **MODES[mode]}, drawn, seed, faults, window, in_place=True)
    sim.joins = late
    sim.run()


def test_sync_gives_the_same_bits_in_place_as_with_weights_sent() -> None:
    for seed in range(6):
        found = set()
        for in_place in (False, True):
            sim = Sim({"servers": 2, "optimizer": "adam:lr=0.01"}, [Plan(5)] * 3, seed, Faults(), in_place=in_place)
            sim.run()
            found.add((next(w.rank for w in sim.workers.values() if w.seeded), sim.weights()))
        assert len({rank for rank, _ in found}) == len(found)


@pytest.mark.parametrize("mode", MODES)
@given(seed=SEEDS)
@settings(max_examples=cases(10, 100), derandomize=False, deadline=None)
def test_repeated_and_lost_messages_change_nothing_that_is_counted(mode: str, seed: int) -> None:
    workers, steps = 4 if "stages" in MODES[mode] else 3, 4
    sim = Sim({"servers": 2, **MODES[mode]}, [Plan(steps)] * workers, seed, Faults(repeats=60, losses=10))
    sim.run()
    applied = sim.applied()
    for member, worker in sim.workers.items():
        assert worker.steps == list(range(steps)) or mode == "sync, backup"
        if not worker.lates:
            expected = {(c.index, member, clock) for c in worker.chunks for clock in worker.steps}
            assert {key for key in applied if key[1] == member} == expected


def reference(workers: int, steps: int, seeder: int, lr: float) -> list[np.ndarray]:
    """Sync SGD by one process in float64, with the mean over all workers."""
    values = []
    for chunk in LAYOUT.chunks(2, 1024):
        w = first_values(chunk, seeder).astype(np.float64)
        for clock in range(steps):
            w -= lr * np.mean([gradient(rank, clock, chunk).astype(np.float64) for rank in range(workers)], axis=0)
        values.append(w)
    return values


@pytest.mark.parametrize("optimizer", ["sgd:lr=0.1", "adam:lr=0.01", "momentum:lr=0.1,momentum=0.9"])
def test_sync_gives_the_same_bits_for_every_order_of_events(optimizer: str) -> None:
    found = set()
    for seed in range(12):
        sim = Sim({"servers": 2, "optimizer": optimizer}, [Plan(5)] * 4, seed, Faults(repeats=10, losses=3))
        sim.run()
        seeder = next(m for m, w in sim.workers.items() if w.seeded)
        found.add((sim.workers[seeder].rank, sim.weights()))
    assert len({rank for rank, _ in found}) == len(found) > 1  # who seeds differs, and is all that does


def test_sync_training_is_that_of_one_process_with_the_mean_of_all_gradients() -> None:
    for seed in range(5):
        sim = Sim({"servers": 2, "optimizer": "sgd:lr=0.1"}, [Plan(6)] * 3, seed, Faults())
        sim.run()
        seeder = next(w.rank for w in sim.workers.values() if w.seeded)
        expected = np.concatenate(reference(3, 6, seeder, 0.1))
        np.testing.assert_allclose(np.frombuffer(sim.weights(), np.float32), expected, rtol=0, atol=3e-6)


def test_a_late_worker_takes_part_in_every_clock_from_the_one_it_was_told() -> None:
    for seed in range(20):
        sim = Sim({"servers": 2}, [Plan(12)] * 2, seed, Faults(joins=1))
        sim.joins = [Plan(12)]
        sim.run()
        if len(sim.workers) < 3:
            continue
        late = max(sim.workers)
        first = sim.workers[late].steps[0]
        for index, entry in sim.log:
            clocks = {clock for _, _, clock, _ in entry}
            assert (late in {member for member, _, _, _ in entry}) == (min(clocks) >= first), (index, entry, first)


@pytest.mark.parametrize("mode", MODES)
@given(seed=SEEDS, at=st.lists(st.integers(1, 4), min_size=4, max_size=4))
@settings(max_examples=cases(10, 100), derandomize=False, deadline=None)
def test_all_of_a_step_is_trained_with_one_rate_though_each_worker_sets_another(
    mode: str, seed: int, at: list[int]
) -> None:
    sim = Sim({"servers": 2, **MODES[mode]}, [Plan(8, lr_at=clock) for clock in at], seed, Faults(repeats=10))
    sim.run()
    assert all(len(rates) == 1 for rates in sim.used.values())
    assert len({rate for rates in sim.used.values() for rate in rates}) > 1, "nobody was heard"


def test_the_tables_of_a_server_do_not_grow_with_the_clocks() -> None:
    sim = Sim({"servers": 1}, [Plan(300)] * 2, 1, Faults())
    sim.run()
    for chunk in sim.shards[1].chunks.values():
        sizes = len(chunk.done), len(chunk.pending), len(chunk.waiters), len(chunk.holds), len(chunk.loans)
        assert max(sizes) <= 64 and chunk.version == 300


@pytest.mark.parametrize(("workers", "backups"), [(4, 1), (8, 2)])
def test_with_backup_workers_a_clock_is_closed_by_all_but_so_many_and_those_come_back(
    workers: int, backups: int
) -> None:
    for seed in range(3):
        sim = Sim({"servers": 2, "backup_workers": backups}, [Plan(40)] * workers, seed, Faults())
        sim.run()
        counts = Counter(len(entry) for _, entry in sim.log if entry[0][2] < 35)  # before the first of them leaves
        assert counts[workers - backups] > 0.97 * counts.total(), counts
        assert min(counts) >= workers - 2 * backups
        for worker in sim.workers.values():
            assert worker.steps[-1] > 30
