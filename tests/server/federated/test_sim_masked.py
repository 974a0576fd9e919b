"""Promises of rounds under masks as a whole: sums are right to the rounding, or given up, whatever fails in between."""

from __future__ import annotations

import random
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


class OnceTold(RoundSim):
    """At one moment of the first unmasking everything goes wrong at once, and one client is gone for a while."""

    def __init__(self, kind: str, moment: str, folder: Path) -> None:
        self.moment: str | None = moment
        super().__init__(KINDS[kind], honest(6), 3, Faults(), folder)

    def _deliver(self, key: tuple[Any, Any]) -> None:
        super()._deliver(key)
        rounds = self.scheduler.rounds
        assert rounds is not None
        if self.moment is not None and rounds.masking is not None and rounds.masking.phase == self.moment:
            self.moment = None
            self._kill(0, "when something of the sum was told")
            self._vanish(5)
            self._restart()


@pytest.mark.parametrize(
    ("kind", "moment"),
    [("pairwise", "consent"), ("pairwise", "reveal"), ("pairwise", "known"), ("helper", "helping")],
)
def test_a_sum_of_which_something_was_told_comes_about_though_servers_scheduler_and_a_client_die(
    kind: str, moment: str, tmp_path: Path
) -> None:
    sim = OnceTold(kind, moment, tmp_path)
    sim.run()
    assert sim.moment is None and sim.scheduler.rounds is not None and sim.scheduler.rounds.abandoned == 0
    assert sim.history[0]["clients"] == list(range(6))


FORMERLY_STUCK = [38, 47, 58, 118]


@pytest.mark.parametrize("seed", FORMERLY_STUCK)
def test_no_round_hangs_in_which_clients_would_refuse_all_other_sums(seed: int, tmp_path: Path) -> None:
    stress(seed, tmp_path)


@pytest.mark.long("thousands of jobs")
@pytest.mark.parametrize("hundred", range(20))
def test_none_of_thousands_of_jobs_is_stuck(hundred: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    for seed in range(1000 + 100 * hundred, 1100 + 100 * hundred):
        stress(seed, tmp_path_factory.mktemp("sim"))


def stress(seed: int, folder: Path) -> None:
    """One job with faults of all kinds, and often few clients."""
    chance = random.Random(f"mine/{seed}")
    kind = chance.choice(sorted(KINDS))
    counts = {"losses": 60, "repeats": 40, "restarts": 6, "kills": 8}
    faults = Faults(**{name: chance.randint(0, most) for name, most in counts.items()})
    faults.rate = chance.choice([0.005, 0.02, 0.1])
    sizes = [4, 6] if "few" in kind or kind == "fedbuff" else [3, 4, 6]
    characters = honest(chance.choice(sizes))
    others = [chance.choice([HONEST, SHIRKER, FADER]) for _ in range(chance.randint(0, 4))]
    simulate(kind, characters + others, seed, faults, folder)
