"""Promises of the table of modes: it is all that the other parts need to know of them."""

from __future__ import annotations

import pytest

from ps.config import DISTRIBUTED, MODES, JobConfig, settings_of
from ps.server.modes import build


@pytest.mark.parametrize("mode", DISTRIBUTED)
def test_each_mode_in_which_gradients_are_pushed_has_its_decisions(mode: str) -> None:
    assert callable(build(JobConfig(mode=mode)).ready)


def test_settings_of_some_modes_name_modes_that_there_are_and_say_so_in_their_help() -> None:
    rows = [row for row in settings_of(JobConfig).values() if row.modes]
    assert {mode for row in rows for mode in row.modes} == set(MODES)
    assert all(row.help.startswith(f"{', '.join(row.modes)}: ") for row in rows)


def test_two_phases_and_weights_in_place_are_for_modes_with_one_clock_for_all() -> None:
    clipped = [mode for mode in MODES if JobConfig(mode=mode, clip_norm=1.0).clips_in_two_phases]
    assert clipped == ["sync", "pipeline"]
    assert [mode for mode in MODES if JobConfig(mode=mode).reads_in_place] == ["sync"], "a part is nowhere in one piece"
    assert not JobConfig(backup_workers=1, workers=3).reads_in_place
    assert not JobConfig(params="private").reads_in_place
