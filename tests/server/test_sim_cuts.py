"""Promises of checkpoints of a whole job, whatever the order of events and whatever goes wrong: what is called whole is
the state of one clock, or of what it says to be counted; nobody waits for a cut; what is over leaves no mark and no
copy; and no server ever has more than one copy of its part.
"""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ps.config.checkpoint import Every
from support.long import cases
from support.simcuts import CutFaults, CutSim
from support.simworker import Plan

MODES: dict[str, dict[str, Any]] = {
    "sync": {"optimizer": "momentum:lr=0.01"},
    "sync, clipped": {"clip_norm": 3.0},
    "sync, backup": {"backup_workers": 1},
    "async": {"mode": "async"},
    "ssp 0": {"mode": "ssp", "staleness": 0},
    "ssp 2": {"mode": "ssp", "staleness": 2, "optimizer": "adam:lr=0.01"},
}
CADENCES = (Every(1), Every(2), Every(3), Every(seconds=0.05), Every(seconds=5), Every())


def job(mode: str, seed: int) -> CutSim:
    """Return a job with checkpoints, all of which follows from a seed."""
    draw = random.Random(seed)

    def plan() -> Plan:
        barrier = draw.choice((None, None, draw.randint(0, 6)))
        return Plan(draw.randint(1, 12), barrier_at=barrier, push_then_pull=draw.random() < 0.3)

    plans = [plan() for _ in range(draw.randint(2 if "backup" in mode else 1, 4))]
    faults = CutFaults(
        repeats=draw.randint(0, 10),
        losses=draw.randint(0, 4),
        deaths=draw.randint(0, len(plans) - 1),
        joins=draw.randint(0, 2),
        restarts=draw.choice((0, 0, 1, 3)),
        interrupts=draw.randint(0, 2),
        requests=draw.randint(0, 4),
        full_disks=draw.choice((0, 0, 2)),
        hurries=draw.choice((0, 0, 0, 1)),
    )
    settings = {"servers": draw.randint(1, 2), **MODES[mode]}
    sim = CutSim(settings, plans, draw.randrange(1 << 32), faults, draw.choice(CADENCES), draw.choice((1, 9)))
    sim.joins = [plan() for _ in range(faults.joins)]
    return sim


@pytest.mark.parametrize("mode", MODES)
@given(seed=st.integers(0, 2**32))
@settings(max_examples=cases(25, 500), derandomize=False, deadline=None, suppress_health_check=list(HealthCheck))
def test_what_is_called_whole_is_consistent_and_what_is_over_is_let_go(mode: str, seed: int) -> None:
    job(mode, seed).run()


def test_a_step_that_was_told_to_be_late_is_on_neither_side_of_the_clock_where_it_ended() -> None:
    sim = job("sync, clipped", 5000263)  # one stands in a barrier at clock 3 while others go to 10
    sim.run()
    member, worker = next((m, w) for m, w in sim.workers.items() if sim.cutting[m].ends[:4] == [1, 2, 3, 10])
    assert worker.steps[:4] == [0, 1, 2, 3]
    assert sim._due(member, 3) == (3,) and sim._due(member, 9) == (3,)
    assert sim._due(member, 10) == (3, 4)
    sim.applied_to[0].append((member, worker.rank, 3))
    assert sim._due(member, 10) == (4,), "had it been counted"
    with pytest.raises(AssertionError, match="was not through with clocks before 9"):
        sim._due(member, 9)


@pytest.mark.parametrize("mode", MODES)
def test_checkpoints_are_made_in_such_jobs(mode: str) -> None:
    made = held = 0
    for seed in range(12):
        sim = job(mode, seed)
        sim.run()
        made, held = made + len(sim.manifests), held + sim.most_held
    assert made >= 6 and held, "nothing was tried"
