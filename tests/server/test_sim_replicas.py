"""Promises of a job whose servers have standbys, whichever of them dies, or stands still, at whichever message.

What a worker was told outlives the server that has told it: in sync mode the weights are those of a job in which
nothing dies, to the bit; elsewhere every contribution counts once. Who stood still is heard by nobody.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
import pytest

from support.long import cases
from support.simreplicas import ReplicatedSim
from support.simworker import Plan

SEEDS = cases(16, 1500)

LOCKSTEP: dict[str, dict[str, Any]] = {
    "sgd": {},
    "adam": {"optimizer": "adam:lr=0.01"},
    "clipped": {"clip_norm": 3.0, "optimizer": "momentum:lr=0.1,momentum=0.9"},
    "median": {"aggregator": "median"},
    "int8 both ways": {"compress": "int8"},
    "top-k both ways": {"compress": "topk:0.1"},
}
ALONE: dict[str, dict[str, Any]] = {
    "async": {"mode": "async"},
    "async, clipped": {"mode": "async", "clip_norm": 1e6},
    "ssp 0": {"mode": "ssp", "staleness": 0},
    "ssp 2": {"mode": "ssp", "staleness": 2},
}


def run(settings: dict[str, Any], seed: int, kills: int, stops: int, plans: list[Plan] | None = None) -> ReplicatedSim:
    sim = ReplicatedSim({"servers": 2, **settings}, plans or [Plan(6)] * 3, seed, kills, stops)
    sim.run()
    return sim


@pytest.mark.parametrize("mode", LOCKSTEP)
def test_sync_has_the_bits_of_an_undisturbed_run_whichever_servers_die(mode: str) -> None:
    found: dict[int, set[bytes]] = defaultdict(set)
    promoted = 0
    for seed in range(SEEDS):
        disturbed = seed % 4 > 0
        sim = run(LOCKSTEP[mode], seed, kills=2 * disturbed, stops=disturbed)
        promoted += sim.promoted
        found[sim.seeder].add(sim.weights())
    assert [len(weights) for weights in found.values()] == [1] * len(found)  # who seeds differs, and is all that does
    assert promoted >= SEEDS // 4


@pytest.mark.parametrize("mode", ALONE)
def test_every_contribution_counts_once_whichever_servers_die(mode: str) -> None:
    promoted = 0
    for seed in range(SEEDS):
        sim = run({**ALONE[mode], "optimizer": "sgd:lr=0.125"}, seed, kills=2, stops=1)
        promoted += sim.promoted
        assert all(worker.steps == list(range(6)) for worker in sim.workers.values())
        assert sim.counted(0.125) < 0.125 / 16, f"seed {seed}: a gradient differs from another by more than that"
    assert promoted >= SEEDS // 2


def test_with_barriers_pushes_without_pull_and_new_rates_the_bits_are_those_of_an_undisturbed_run() -> None:
    plans = [Plan(7, barrier_at=3, push_then_pull=rank > 0, lr_at=2, skips=frozenset({1})) for rank in range(3)]
    found: dict[int, set[bytes]] = defaultdict(set)
    for seed in range(SEEDS):
        sim = run({}, seed, kills=2 * (seed % 4 > 0), stops=0, plans=plans)
        found[sim.seeder].add(sim.weights())
    assert [len(weights) for weights in found.values()] == [1] * len(found)


def test_with_backup_workers_nobody_hangs_and_nothing_counts_twice() -> None:
    for seed in range(SEEDS):
        sim = run({"backup_workers": 1}, seed, kills=2, stops=1, plans=[Plan(12)] * 3)
        shards = [sim.primaries[member] for member in sim.primaries]
        assert all(chunk.version >= 12 for shard in shards for chunk in shard.chunks.values())


def test_a_standby_has_the_arrays_of_its_server_to_the_bit() -> None:
    compared = 0
    for seed in range(SEEDS):
        sim = run({"optimizer": "adam:lr=0.01", "compress": "topk:0.1"}, seed, kills=1, stops=0)
        for backup in sim.backups.values():
            server = next((m for m in sim.primaries if sim.rank_of[m] == backup.shard.rank), None)
            if server is None or not backup.filled:
                continue
            for index, chunk in sim.primaries[server].chunks.items():
                copy = backup.shard.chunks[index]
                assert (copy.version, copy.updates, copy.done) == (chunk.version, chunk.updates, chunk.done)
                for mine, theirs in zip(_arrays(copy), _arrays(chunk), strict=True):
                    np.testing.assert_array_equal(mine, theirs)
                compared += 1
    assert compared > SEEDS


def _arrays(chunk: Any) -> list[Any]:
    shadows = [each for shadow in chunk.shadows.values() for each in (shadow.weights, *shadow.state.values())]
    return [chunk.weights, *chunk.slots.values(), *shadows]
