"""Promises of a simulation's numbers: none that keeps virtual time from passing, or lets it pass for ever, is taken."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from ps.errors import ConfigError, DataError, StateError
from ps.protocol.layout import Layout
from ps.simulate import examples
from ps.simulate.availability import Span, parse_availability
from ps.simulate.engine import Engine
from ps.simulate.in_process_cluster import InProcessCluster
from ps.simulate.local_work import LocalWork
from ps.simulate.model import fresh, model_named
from ps.simulate.speed import parse_speed
from ps.simulate.task import TrainingResult, TrainingTask
from ps.simulate.traces import ClientRates, Recorded
from ps.xp import HostArray


@pytest.mark.parametrize("text", ["exponential:on=1e-300,off=1e-300", "onoff:on=1e-9", "diurnal:day=1e-300"])
def test_spans_have_a_least_length(text: str) -> None:
    with pytest.raises(ConfigError, match=r"at least 0\.01"):
        parse_availability(text)


def test_a_step_has_a_longest_time() -> None:
    with pytest.raises(ConfigError, match="at most 1e"):
        parse_speed("constant:step=1e308")


@pytest.mark.parametrize(
    "rows",
    [
        '[{"seconds_per_step": 1e999}]',
        '[{"on": 1e-300, "off": 1e-300}]',
        '[{"up": 1e-99}]',
        "[" * 100_000,
        '[{"up": ' + "9" * 400 + "}]",
    ],
    ids=["infinite step", "short spans", "no line", "deep", "400 digits"],
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


class Nobody:
    """A trainer that nobody gets as far as to ask."""

    def publish(self, version: int, weights: HostArray) -> None:
        pass

    def give(self, task: TrainingTask, due: float) -> None:
        pass

    def take(self, ticket: int) -> TrainingResult:
        raise AssertionError

    def settle(self, ticket: int, accepted: bool) -> None:
        pass


class Odd:
    """Traces with numbers that none of ours have."""

    def __init__(self, step: float, span: float) -> None:
        self._step, self._span = step, span

    def rates(self, client: int) -> ClientRates:
        return ClientRates(self._step, math.inf, math.inf)

    def span(self, client: int, now: float) -> Span:
        return Span(False, now + self._span)

    def gives_up(self, client: int, ticket: int) -> float | None:
        return None


class OddButThere(Odd):
    def span(self, client: int, now: float) -> Span:
        return Span(True, math.inf)


@pytest.mark.parametrize(
    ("traces", "words"),
    [
        (Odd(0.01, 1e-300), "virtual time stands still"),
        (Odd(0.01, 1e-9), "virtual time stands still"),
        (Odd(0.01, math.inf), "no client is there"),
        (OddButThere(math.inf, 1.0), "client . needs inf s"),
        (OddButThere(math.nan, 1.0), "client . needs nan s"),
    ],
)
def test_a_simulation_ends_by_name_where_time_stands_still_or_is_infinite(traces: Odd, words: str) -> None:
    layout = Layout.of({"w": np.zeros(4, np.float32)})
    settings = {"mode": "federated", "workers": 3, "rounds": 1, "start_timeout": 1e9, "idle_timeout": 1e9}
    cluster = InProcessCluster(settings, layout, np.zeros(layout.nbytes, np.uint8))
    with pytest.raises(StateError, match=words):
        Engine(cluster, Nobody(), traces, LocalWork(10), [10] * 3).run()


def test_what_no_machine_has_memory_for_is_refused_before_it_is_asked_for() -> None:
    with pytest.raises(ConfigError, match=r"71,000,000,000,010 parameters \(--hidden, --features\) need .* GB"):
        fresh("mlp", (60,), 10, (10**12,))
    with pytest.raises(ConfigError, match=r"examples .* need .* GB"):
        examples.load("synthetic", size=10**13)
