"""What holds in a simulated job and at its end, whatever has happened in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ps.config.mode import BOUNDED
from support.simworker import SimWorker, describe

if TYPE_CHECKING:
    from support.sim import Sim


def check_end(sim: Sim) -> None:
    """What holds when all workers of a simulated job are done."""
    applied = sim.applied()
    assert not [key for key, count in applied.items() if count > 1], "counted twice"
    for member, worker in sim.workers.items():
        for index, clock, _ in worker.acknowledged:
            assert applied[index, member, clock] == 1 or member in sim.dead, "acknowledged, not counted"
    for index, entry in sim.log:
        if sim.explicit.get("mode", "sync") == "sync":
            assert len({clock for _, _, clock, _ in entry}) == 1
            ranks = [(rank, member) for member, rank, _, _ in entry]
            assert ranks == sorted(ranks), f"chunk {index} was not added in rank order"
    if not sim.explicit.get("backup_workers") or all(worker.undisturbed for worker in sim.workers.values()):
        torn = {step: rates for step, rates in sim.used.items() if len(rates) > 1}
        assert len(torn) <= len(sim.dead), f"parts of the model were trained with different rates: {torn}"
    for shard in sim.shards.values():
        for chunk in shard.chunks.values():
            gone = set(sim.workers) - set(shard.participants)
            tables = (chunk.done, chunk.holds)
            assert not any(gone & table.keys() for table in tables), "remembers the gone"
            assert not chunk.waiters and not chunk.pending and chunk.combined is None, "somebody was forgotten"
            assert len(chunk.loans) < 100
    assert sim.scheduler.phase == "ended" or sim._is_kept(), (sim.scheduler.phase, sim.scheduler.reason)


def check_bound(sim: Sim, worker: SimWorker) -> None:
    """SSP: whoever begins a clock is at most ``staleness`` ahead of all that take part."""
    if sim.explicit.get("mode") not in BOUNDED or not worker.taking_part or not worker.steps:
        return
    for member, other in sim.workers.items():
        if member not in sim.dead and other.taking_part:
            ahead = worker.steps[-1] - max(other.clock, other.begins, sim._done(member))
            assert ahead <= worker.job.staleness, f"{describe(worker)} is {ahead} ahead of {describe(other)}"
