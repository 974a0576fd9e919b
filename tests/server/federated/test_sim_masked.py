"""Promises of rounds under masks as a whole: sums are right to the rounding, or given up, whatever fails in between."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.faults import Faults
from support.long import cases
from support.roundsim import RoundSim
from support.simclient import FADER, HONEST, SHIRKER, honest

KINDS: dict[str, dict[str, Any]] = {
    "pairwise": {"secure": "pairwise:clip=8,ring=32", "secure_min": 3},
    "few": {"secure": "pairwise:clip=8,ring=32", "secure_min": 3, "clients_per_round": 4, "over_select": 1.5},
    "helper": {"secure": "helper:clip=8,ring=32", "secure_min": 3},
    "helper few": {"secure": "helper:clip=8,ring=32", "secure_min": 3, "clients_per_round": 4, "over_select": 1.5},
    "fedbuff": {"secure": "helper:clip=8,ring=32", "secure_min": 3, "algorithm": "fedbuff:3"},
    "many servers": {"secure": "pairwise:clip=8,ring=32", "secure_min": 3, "servers": 5},
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
@pytest.mark.parametrize("seed", range(4))
def test_whatever_fails_all_servers_publish_the_same_sum_and_nobody_hangs(kind: str, seed: int, tmp_path: Path) -> None:
    faults = Faults(losses=40, repeats=20, restarts=4, kills=4)
    simulate(kind, [*honest(6), SHIRKER, FADER], seed, faults, tmp_path)


@settings(max_examples=cases(10, 150), derandomize=True, deadline=None)
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
    others=st.lists(st.sampled_from([HONEST, SHIRKER, FADER]), max_size=4),
)
def test_no_mix_of_faults_and_clients_breaks_a_promise(
    tmp_path_factory: pytest.TempPathFactory, kind: str, seed: int, faults: Faults, others: list[str]
) -> None:
    simulate(kind, [*honest(6), *others], seed, faults, tmp_path_factory.mktemp("sim"))
