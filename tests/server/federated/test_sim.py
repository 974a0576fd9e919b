"""Promises of federated rounds as a whole, whatever gets lost, repeated, killed, restarted, or lied about."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ps.server.scheduler.rounds import assignments
from support.faults import Faults
from support.long import cases
from support.roundsim import RoundSim
from support.simclient import FADER, HONEST, LIARS, SHIRKER, honest

KINDS: dict[str, dict[str, Any]] = {
    "fedavg": {},
    "few": {"clients_per_round": 3, "over_select": 1.5},
    "quorum": {"min_clients": 3, "round_deadline": 20.0},
    "fedbuff": {"algorithm": "fedbuff:3", "aggregator": "mean"},
    "scaffold": {"algorithm": "scaffold"},
    "fednova": {"algorithm": "fednova"},
    "diloco": {"algorithm": "diloco"},
    "carry": {"late": "carry", "clients_per_round": 3, "over_select": 2.0},
    "discount": {"late": "discount", "clients_per_round": 3, "over_select": 2.0, "max_staleness": 2},
    "median": {"aggregator": "median"},
    "clip": {"aggregator": "clip:times=1"},
    "krum": {"aggregator": "krum:f=1", "min_clients": 5},
    "geomedian": {"aggregator": "geomedian", "clients_per_round": 4},
    "narrow": {"upload_room": 1 << 20, "servers": 5},
}


def simulate(kind: str, characters: list[str], seed: int, faults: Faults, folder: Path) -> RoundSim:
    sim = RoundSim(KINDS[kind], characters, seed, faults, folder)
    sim.run()
    return sim


@pytest.mark.parametrize("kind", KINDS)
def test_without_faults_every_round_is_what_its_contributions_make_it(kind: str, tmp_path: Path) -> None:
    sim = simulate(kind, honest(6), 1, Faults(), tmp_path)
    assert sim.scheduler.rounds is not None and sim.scheduler.rounds.abandoned == 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(3))
def test_whatever_fails_all_servers_publish_the_same_and_nobody_hangs(kind: str, seed: int, tmp_path: Path) -> None:
    faults = Faults(losses=40, repeats=20, restarts=4, kills=4)
    simulate(kind, [*honest(5), SHIRKER, FADER], seed, faults, tmp_path)


@pytest.mark.parametrize("kind", ["few", "quorum", "fedbuff", "carry"])
def test_nobody_hangs_in_a_job_of_so_many_clients_that_all_who_are_not_drawn_stay(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assignments, "MANY", 6)
    faults = Faults(losses=40, repeats=20, restarts=4, kills=4)
    simulate(kind, [*honest(5), SHIRKER, FADER], 1, faults, tmp_path)


@pytest.mark.parametrize("kind", ["fedavg", "median", "fednova", "fedbuff", "carry", "scaffold"])
def test_liars_are_refused_or_bounded_and_every_round_closes(kind: str, tmp_path: Path) -> None:
    faults = Faults(losses=20, repeats=10, restarts=2, kills=2)
    explicit = {**KINDS[kind], "clients_per_round": 13, "rounds": 6}
    sim = RoundSim(explicit, [*honest(7), *LIARS], 5, faults, tmp_path)
    sim.run()
    rounds = sim.scheduler.rounds
    assert rounds is not None
    refused = rounds.status()["refused"]
    assert all(refused.get(reason) for reason in ("nan", "malformed", "norm", "claim")), refused
    counted = {sim.characters[sim.works[task].rank] for tasks in sim.expected.published.values() for task in tasks}
    assert counted <= {HONEST, "greedy", "tireless"}
    assert not np.isnan(np.frombuffer(sim.weights(), np.float64)).any()


@pytest.mark.parametrize("kind", ["fedavg", "fedbuff", "carry", "krum"])
def test_the_same_seed_gives_the_same_history_and_the_same_bits(kind: str, tmp_path: Path) -> None:
    def play(name: str) -> tuple[list[dict[str, Any]], bytes]:
        faults = Faults(losses=20, repeats=20, restarts=2, kills=2)
        sim = simulate(kind, [*honest(5), SHIRKER, FADER], 9, faults, tmp_path / name)
        return sim.history, sim.weights()

    assert play("one") == play("another")


@settings(max_examples=cases(25, 250), derandomize=False, deadline=None)
@given(
    kind=st.sampled_from(sorted(KINDS)),
    seed=st.integers(0, 1 << 30),
    faults=st.builds(
        Faults,
        losses=st.integers(0, 60),
        repeats=st.integers(0, 40),
        restarts=st.integers(0, 6),
        kills=st.integers(0, 6),
        rate=st.sampled_from([0.005, 0.02, 0.1]),
    ),
    others=st.lists(st.sampled_from([HONEST, SHIRKER, FADER, *LIARS]), max_size=4),
)
def test_no_mix_of_faults_and_clients_breaks_a_promise(
    tmp_path_factory: pytest.TempPathFactory, kind: str, seed: int, faults: Faults, others: list[str]
) -> None:
    simulate(kind, [*honest(6), *others], seed, faults, tmp_path_factory.mktemp("sim"))
