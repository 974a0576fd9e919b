"""Every job comes to its end, whatever the order in which its parts move, and counts each contribution once."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from ps.worker import KV
from support.simjob import SimJob, SimWorker

SIZES = {"a": 256, "b": 300, "c": 700, "d": 10, "e": 40, "f": 512, "g": 206}
"""Elements of each tensor: chunks of 256 hold one tensor, a part of one, or several."""
MOST_MOVES = 10_000
"""Five times what the longest of these jobs takes."""
PHASES = (Phase.explicit, Phase.reuse, Phase.generate)
"""All but shrinking: with another draw the seed stands for another order of events."""

MODES: dict[str, dict[str, Any]] = {
    "sync": {},
    "sync, clipped": {"clip_norm": 3.0},
    "sync, backup": {"backup_workers": 1},
    "async": {"mode": "async"},
    "async, clipped": {"mode": "async", "clip_norm": 3.0},
    **{f"ssp {bound}": {"mode": "ssp", "staleness": bound} for bound in range(4)},
}


@dataclass
class Plan:
    """What a worker's script does: a verb for each step, and the clocks in which a gradient is bad."""

    verbs: list[str]
    bad: set[int]
    in_place: bool
    seed: int
    stepped: list[int] = field(default_factory=list)
    """The clocks of its steps, in order."""
    read: dict[int, bytes] = field(default_factory=dict)
    """Clock -> the weights that it saw then."""
    last: bytes = b""

    def __call__(self, kv: KV, worker: SimWorker) -> None:
        dice = random.Random(self.seed)
        kv.init({name: np.zeros(size, np.float32) for name, size in SIZES.items()})
        own = {name: np.empty(size, np.float32) for name, size in SIZES.items()}
        for at, verb in enumerate(self.verbs):
            worker.pause()
            self.stepped.append(kv.clock)
            grads = kv.grads if self.in_place and verb != "push" else own  # what is pushed may be read for longer
            for gradient in grads.values():
                gradient.fill(value(kv.rank, at))
            if at in self.bad:
                grads[dice.choice(list(grads))][0] = np.nan
            self._step(kv, verb, grads, dice, worker)
            if verb != "push" and dice.random() < 0.7:
                self.read[kv.clock] = seen(kv)
        kv.barrier()
        self.last = seen(kv)

    def _step(self, kv: KV, verb: str, grads: dict[str, np.ndarray], dice: random.Random, worker: SimWorker) -> None:
        if verb == "ready":
            order = dice.sample(list(grads), dice.choice([len(grads), dice.randint(1, len(grads))]))
            for name in order:
                kv.ready(name, grads[name])
                if dice.random() < 0.3:
                    worker.pause()
            kv.step({name: gradient for name, gradient in grads.items() if name not in order})
        elif verb == "step":
            kv.step(grads)
        elif verb == "push":
            kv.push(grads)
        else:
            pushed = kv.push(grads)
            kv.wait(kv.pull())
            kv.wait(pushed)


def value(rank: int, at: int) -> float:
    """What a worker's gradient is made of in its step number ``at``."""
    return 100.0 * (rank + 1) + at


def seen(kv: KV) -> bytes:
    return b"".join(kv.params[name].tobytes() for name in SIZES)


@st.composite
def plans(draw: st.DrawFn, skips: bool) -> Plan:
    verbs = draw(st.lists(st.sampled_from(["ready", "ready", "step", "push", "push and pull"]), min_size=1, max_size=4))
    bad = draw(st.sets(st.integers(0, 3), max_size=1 + skips)) if skips else set()
    return Plan(verbs, bad, draw(st.booleans()), draw(st.integers(0, 2**32)))


@given(data=st.data(), mode=st.sampled_from(sorted(MODES)), workers=st.integers(1, 5), seed=st.integers(0, 2**32))
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), phases=PHASES)
def test_every_job_comes_to_its_end_and_counts_each_contribution_once(
    data: st.DataObject, mode: str, workers: int, seed: int
) -> None:
    skips, overlap = data.draw(st.booleans(), "skips"), data.draw(st.booleans(), "overlap")
    job: dict[str, Any] = {
        "servers": data.draw(st.integers(1, 3), "servers"),
        "chunk_size": 1024,
        "window": 1024 * data.draw(st.sampled_from([1, 1, 2, 3, 100]), "window"),
        "optimizer": "sgd:lr=1.0",
        "on_nan": "skip" if skips else "fail",
        "overlap": overlap,
        "compress": data.draw(st.sampled_from(["none", "none", "int8"]), "compress"),
        **MODES[mode],
    }
    job["backup_workers"] = min(job.get("backup_workers", 0), workers - 1)
    scripts = [data.draw(plans(skips), "plan") for _ in range(workers)]
    room, losses = data.draw(st.sampled_from([1, 3, 1000]), "room"), data.draw(st.integers(0, 3), "losses")
    sim = SimJob(job, scripts, seed, losses, room)
    sim.run(MOST_MOVES)
    check_counts(sim, scripts)
    check_bits(sim, scripts)


def check_counts(sim: SimJob, scripts: list[Plan]) -> None:
    counted = sim.counted()
    assert not [key for key, count in counted.items() if count > 1], "counted twice"
    if sim.job.backup_workers:  # whoever comes too late learns only inside a step which clock it is of
        said = Counter((chunk, what) for chunk, _, _, what in sim.witness.seen if what is not None)
        assert sim.job.compress != "none" or not [key for key, count in said.items() if count > 1], "counted twice"
    else:
        chunks = [chunk for shard in sim.shards for chunk in shard.chunks]
        steps = [(rank, clock) for rank, plan in enumerate(scripts) for clock in plan.stepped]
        assert counted.keys() == {(chunk, *step) for chunk in chunks for step in steps}, "not counted"
        for chunk, rank, clock, what in sim.witness.seen:
            at = scripts[rank].stepped.index(clock)
            assert (what is None) == (at in scripts[rank].bad), (chunk, rank, clock, what)
            if what is not None and sim.job.compress == "none":
                assert what == value(rank, at), (chunk, rank, clock, what)
    if sim.job.clip_norm is not None and sim.job.mode == "sync":
        given_at = {(chunk, clock) for chunk, _, clock, what in sim.witness.seen if what is not None}
        assert sorted(sim.witness.applied) == sorted(given_at), "scaled twice, or not at all"


def check_bits(sim: SimJob, scripts: list[Plan]) -> None:
    """After a barrier all workers have the same weights; in sync mode those of a clock are the same for all."""
    assert len({plan.last for plan in scripts}) == 1
    if sim.job.mode == "sync" and not sim.job.backup_workers:
        found = defaultdict(set)
        for plan in scripts:
            for clock, weights in plan.read.items():
                found[clock].add(weights)
        assert all(len(weights) == 1 for weights in found.values()), "one clock with several contents"
