"""Promises of a simulation's numbers: none that keeps virtual time from passing, or lets it pass for ever, is taken."""

from __future__ import annotations

from pathlib import Path

import pytest

from ps.errors import ConfigError, DataError
from ps.simulate.availability import parse_availability
from ps.simulate.model import model_named
from ps.simulate.speed import parse_speed
from ps.simulate.traces import Recorded


@pytest.mark.parametrize("text", ["exponential:on=1e-300,off=1e-300", "onoff:on=1e-9", "diurnal:day=1e-300"])
def test_spans_have_a_least_length(text: str) -> None:
    with pytest.raises(ConfigError, match=r"at least 0\.01"):
        parse_availability(text)


def test_a_step_has_a_longest_time() -> None:
    with pytest.raises(ConfigError, match="at most 1e"):
        parse_speed("constant:step=1e308")


@pytest.mark.parametrize(
    "rows", ['[{"seconds_per_step": 1e999}]', '[{"on": 1e-300, "off": 1e-300}]', '[{"up": 1e-99}]', "[" * 100_000]
)
def test_traces_of_a_file_have_the_same_bounds(rows: str, tmp_path: Path) -> None:
    place = tmp_path / "traces.json"
    place.write_text(rows)
    with pytest.raises(DataError, match=r"traces\.json"):
        Recorded.read(place)


def test_a_model_file_may_hold_a_dataclass_with_postponed_annotations(tmp_path: Path) -> None:
    place = tmp_path / "postponed.py"
    place.write_text(
        "from __future__ import annotations\nimport dataclasses\nfrom typing import ClassVar\n"
        "@dataclasses.dataclass(slots=True)\nclass Size:\n    name: ClassVar[str] = 'x'\n    width: int = 3\n"
        "def init(seed): return {}\nloss_and_grad = predict = accuracy = init\n"
    )
    assert model_named(str(place)).Size().width == 3
