"""A dozen deaths of whole runs at random moments; ``python -m support.cut_short --jobs N`` in tests/ tries more."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.cut_short import attack

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(240)]


@pytest.mark.parametrize("seed", [1, 4])
def test_a_job_whose_runs_are_killed_as_a_whole_ends_with_the_bits_of_an_undisturbed_one(
    seed: int, tmp_path: Path
) -> None:
    lives, trouble = attack(seed, seed, tmp_path)
    assert not trouble, trouble
    assert lives > 1
