"""Promises of the versions with which waves compute: each has the one that its delay says, whatever came after that."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ps.errors import StateError
from ps.pipeline.weight_stash import WeightStash


@given(waves=st.integers(2, 5), first=st.integers(0, 3), ahead=st.lists(st.integers(0, 4), max_size=12))
def test_a_wave_has_the_weights_of_its_delay_however_many_updates_have_come_when_it_begins(
    waves: int, first: int, ahead: list[int]
) -> None:
    stash = WeightStash(waves)
    stash.begin(first)
    weights, version = np.full(3, float(first)), first
    for wave, more in enumerate(ahead, first):
        due = max(first, wave - waves + 1)
        while version < min(wave, due + more):  # a wave is updated with after those before it have begun
            stash.keep(version, {"w": weights})
            version += 1
            weights += 1.0
        stash.keep(version, {"w": weights})
        assert stash.version(wave) == due
        assert (stash.of(wave)["w"] == due).all()
        assert len(stash) <= waves


def test_with_a_look_ahead_weights_are_some_more_of_the_last_update_further_on() -> None:
    stash = WeightStash(2, lookahead=2.0)
    stash.begin(0)
    for version, value in enumerate([1.0, 4.0, 5.0]):
        stash.keep(version, {"w": np.full(1, value, np.float32)})
    assert [stash.of(wave)["w"].item() for wave in range(4)] == [1, 1, 4 + 2 * 3, 5 + 2 * 1]
    assert stash.of(3)["w"].dtype == np.float32


def test_a_version_that_is_gone_is_refused() -> None:
    stash = WeightStash(3)
    stash.begin(4)
    with pytest.raises(StateError, match="wave 9 computes with the weights after 7 steps"):
        stash.of(9)
