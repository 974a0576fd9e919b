"""A run with each mechanism of privacy: killed in the middle and given again it pays for both lives from one budget,
and ends with a code of its own when that is spent; ``psctl privacy`` says the same as before the job."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from ps.protocol.query import fetch_status
from support.cluster import SCRIPTS, Process, wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

MECHANISMS = {
    "poisson": ("poisson:noise=2,eps=3.6,delta=1e-5,clip=1", 3, ()),
    "skellam": ("skellam:noise=2,eps=4.9,delta=1e-5,clip=1", 3, ("--secure", "pairwise:ring=32", "--secure-min", 3)),
    "ftrl": ("ftrl:noise=2,eps=4.4,delta=1e-5,clip=1,separation=2", 2, ()),
}
"""The budget of four rounds, clients in each, and what else it takes."""


def priced(run: Callable[..., Process], *args: object) -> dict[str, float]:
    """What psctl privacy says."""
    asked = run("privacy", *args, "--json")
    assert asked.wait() == 0, asked.text
    found: dict[str, float] = json.loads(asked.text)
    return found


@pytest.mark.parametrize("name", MECHANISMS)
def test_a_run_that_is_killed_and_given_again_pays_for_both_lives_and_ends_when_the_budget_is_spent(
    forked: Callable[..., Process], tmp_path: Path, name: str
) -> None:
    budget, clients, more = MECHANISMS[name]
    gate, state = tmp_path / "gate", tmp_path / "state"
    how = ("--mode", "federated", "--rounds", 8, "--clients-per-round", clients, "--over-select", 1, *more)
    given = ("run", "-s", 2, "-w", 4, *how, "--dp", budget, "--state", state, SCRIPTS / "gated.py", 2, gate)
    first = forked(*given)
    address = first.wait_for(r"scheduler at (tcp://\S+)")[1]
    wait_until(lambda: (fetch_status(address, 30.0).get("federated") or {}).get("round", 0) >= 2)
    first.signal(signal.SIGKILL)
    gate.touch()
    again = forked(*given)
    assert again.wait(120) == 11, again.text
    assert "the privacy budget is spent" in again.text
    spent = priced(forked, "--state", state)
    assert 0 < spent["spent"] <= spent["eps"]
    (done,) = set(re.findall(r"with (\d+) of 8 rounds done", again.text))
    assert spent["releases"] >= int(done) > 2, "those of the first life, too"
    if name != "ftrl":  # there keys of the noise go with their processes, and what comes after costs more
        about = ("--rounds", 8, "--clients-per-round", clients, "--clients", 4, "--parameters", 704, *more)
        planned = priced(forked, budget, *about)
        assert (planned["rounds"], spent["releases"]) == (4, 4)
        assert spent["spent"] == pytest.approx(planned["after"]["4"])  # type: ignore[index]
