"""The trackers that are there, each with its library where that is installed: what is written can be read."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

import ps
from ps.config import JobConfig, ProcessConfig
from ps.errors import ConfigError, UsageError
from ps.launch.checks import check_files
from ps.track import TRACKERS, TrackedRun, registry


def test_an_unknown_one_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(ConfigError, match="wandb"):
        registry.demand_tracker("wanddb")


@pytest.mark.parametrize("name", TRACKERS)
def test_one_whose_library_is_missing_is_refused_with_what_to_type(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry.importlib.util, "find_spec", lambda module: None)
    with pytest.raises(UsageError, match=rf'pip install "paramserver\[{name}\]"'):
        registry.demand_tracker(name)


def test_tensorboard_reads_the_scalars(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    writer = (
        TRACKERS.parse("tensorboard")
        .build()
        .open(TrackedRun("p", "first", {"mode": "sync", "none": None}, str(tmp_path)))
    )
    writer.log({"train/loss": 0.5}, 1)
    writer.log({"train/loss": math.nan}, 2)
    writer.close()
    events = EventAccumulator(str(tmp_path / "first"))
    events.Reload()
    first, second = events.Scalars("train/loss")
    assert (first.step, first.value, second.step) == (1, 0.5, 2) and math.isnan(second.value)


def test_a_run_with_an_unknown_one_is_refused_before_anything_starts() -> None:
    with pytest.raises(ConfigError, match="unknown tracker 'wanddb'; did you mean 'wandb'"):
        check_files(JobConfig(), ProcessConfig(track="wanddb"))


def test_a_process_alone_with_an_unknown_one_is_refused_before_it_trains(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PS_TRACK", "wanddb")
    with pytest.raises(ConfigError, match="unknown tracker 'wanddb'"):
        ps.connect()
