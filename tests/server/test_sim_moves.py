"""Promises of a job whose servers come and go while it trains, whatever the order of events: the bits of an undisturbed
run, every contribution once, nobody hangs, and one that dies while it is given its first chunk takes none with it."""

from __future__ import annotations

import random
from typing import Any

import pytest

from support.long import cases
from support.sim import Sim
from support.sim_moves import MovingSim
from support.simmail import Faults
from support.simworker import Plan

MODES: dict[str, dict[str, Any]] = {
    "sync": {},
    "sync, clipped": {"clip_norm": 3.0},
    "sync, backup": {"backup_workers": 1},
    "sync, adam": {"optimizer": "adam:lr=0.01"},
    "sync, momentum": {"optimizer": "momentum:lr=0.1,momentum=0.9"},
    "async": {"mode": "async"},
    "ssp": {"mode": "ssp", "staleness": 1},
}
READ_IN_PLACE = ("sync", "sync, clipped", "sync, adam", "sync, momentum")


def faulty(mode: str, seed: int) -> MovingSim:
    """A job in which anything may go wrong; the seed says what."""
    dice = random.Random(f"{mode} {seed}")
    workers = dice.randint(2, 4)
    plans = [
        Plan(dice.randint(6, 14), barrier_at=dice.choice([None, None, 3]), push_then_pull=dice.random() < 0.3)
        for _ in range(workers)
    ]
    faults = Faults(comers=dice.randint(0, 2), drains=dice.randint(0, 2))
    late = []
    if dice.random() < 0.75:
        faults.repeats, faults.losses, faults.interrupts = dice.randint(0, 20), dice.randint(0, 5), dice.randint(0, 3)
        faults.deaths, faults.restarts = dice.randint(0, workers - 1), dice.randint(0, 3)
        faults.server_deaths = dice.randint(0, 2)
        late = [Plan(dice.randint(1, 8)) for _ in range(dice.randint(0, 2))]
        faults.joins = len(late)
    in_place = mode in READ_IN_PLACE and not faults.losses and dice.random() < 0.5
    job = {"servers": dice.randint(1, 3), **MODES[mode]}
    sim = MovingSim(job, plans, seed, faults, dice.choice([1, 9]), in_place=in_place)
    sim.joins = late
    return sim


@pytest.mark.parametrize("mode", MODES)
def test_a_job_whose_servers_come_and_go_comes_to_its_end_whatever_goes_wrong(mode: str) -> None:
    moved = 0
    for seed in range(cases(25, 300)):
        sim = faulty(mode, seed)
        try:
            sim.run()
        except Exception as error:
            raise AssertionError(f"seed {seed} of {mode}: {error}") from error
        moved += sim.moved
    assert moved > 5, "nothing has moved"


def test_who_is_sent_on_to_a_server_that_has_gone_since_finds_the_chunk() -> None:
    faulty("sync, momentum", 801106).run()  # which waited for ever


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("optimizer", ["sgd:lr=0.1", "adam:lr=0.01", "momentum:lr=0.1,momentum=0.9"])
def test_sync_gives_the_bits_of_a_run_in_which_no_chunk_moves(optimizer: str, in_place: bool) -> None:
    job, plans = {"servers": 2, "optimizer": optimizer}, [Plan(12)] * 3
    still, moved = set[tuple[int, bytes]](), 0
    for seed in range(8):
        sim = Sim(job, plans, seed, Faults(), in_place=in_place)
        sim.run()
        still.add((seeder(sim), sim.weights()))
    assert len({rank for rank, _ in still}) == len(still)
    for seed in range(12):
        losses = 0 if in_place else 3
        moving = MovingSim(job, plans, seed, Faults(repeats=10, losses=losses, comers=2, drains=2), in_place=in_place)
        moving.run()
        moved += moving.moved
        assert {(seeder(moving), moving.weights())} <= still or seeder(moving) not in {rank for rank, _ in still}
    assert moved > 10


def seeder(sim: Sim) -> int:
    return next(worker.rank for worker in sim.workers.values() if worker.seeded)


@pytest.mark.parametrize("mode", ["sync", "sync, clipped"])
def test_who_comes_while_a_chunk_is_between_two_servers_is_told_a_clock_that_is_open_there_too(mode: str) -> None:
    came = 0
    for seed in range(cases(4, 200)):
        job = {"servers": 1 + seed % 3, **MODES[mode]}
        sim = MovingSim(job, [Plan(14)] * 2, seed, Faults(comers=3, drains=2))
        sim.between = [Plan(16)] * 3
        sim.run()
        late = [worker for worker in sim.workers.values() if worker.rank > 1]
        assert all(worker.attaches == 1 and not worker.lates for worker in late), f"seed {seed}"
        came += len(late)
    assert came > 6


def test_a_server_that_is_drained_has_nothing_left_and_the_others_have_equal_shares() -> None:
    drained = 0
    for seed in range(12):
        sim = MovingSim({"servers": 3}, [Plan(40)] * 2, seed, Faults(drains=1))
        sim.run()
        drained += len(sim.drained)
        assert all(not sim.chunks_of(server) for server in sim.drained)
        if sim.drained and sim.scheduler.moves.status() is not None:
            held = [len(sim.chunks_of(server)) for server in sim.shards if server not in sim.drained]
            assert max(held) - min(held) <= 1, held
    assert drained > 6
