"""Promises of traces: they are functions of the seed and the client, have the shares they are given, and end."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ps.errors import ConfigError, DataError
from ps.simulate.availability import Span, parse_availability
from ps.simulate.rng import exponential, lognormal, normal, uniform, word
from ps.simulate.speed import parse_bandwidth, parse_speed
from ps.simulate.traces import Drawn, Recorded

TEXTS = ["always", "onoff:on=60,off=30", "exponential:on=60,off=30", "diurnal:day=90,share=0.667,spread=0.2"]


def test_chance_is_uniform_and_depends_on_every_part_of_its_key() -> None:
    draws = np.array([uniform(1, 2, n) for n in range(20_000)])
    assert draws.min() > 0 and draws.max() < 1
    counts = np.histogram(draws, 20, (0, 1))[0]
    assert ((counts - 1000) ** 2 / 1000).sum() < 45, "chi-squared with 19 degrees of freedom"
    assert abs(np.corrcoef(draws[:-1], draws[1:])[0, 1]) < 0.03
    assert len({word(1, 2), word(2, 1), word(1, 2, 0), word(1), word(0, 1, 2), word(1, 3)}) == 6
    assert np.mean([exponential(5.0, 3, n) for n in range(20_000)]) == pytest.approx(5.0, rel=0.03)
    logs = np.log([lognormal(2.0, 0.7, 4, n) for n in range(20_000)])
    assert (logs.mean(), logs.std()) == pytest.approx((math.log(2.0), 0.7), rel=0.03)
    assert np.std([normal(5, n) for n in range(20_000)]) == pytest.approx(1.0, rel=0.03)


@pytest.mark.parametrize("text", TEXTS)
@given(now=st.floats(0, 1e7), client=st.integers(0, 10**6), seed=st.integers(0, 100))
def test_a_span_ends_later_and_is_the_same_within(text: str, now: float, client: int, seed: int) -> None:
    availability = parse_availability(text)
    span = availability.span(seed, client, now)
    assert span.until > now
    if span.until < math.inf:
        within = availability.span(seed, client, (now + span.until) / 2)
        if (now + span.until) / 2 not in (now, span.until):
            assert within.on == span.on
            assert within.until == pytest.approx(span.until, abs=1e-6 * max(1.0, span.until))


@pytest.mark.parametrize("text", TEXTS[1:])
def test_clients_are_there_for_the_share_of_time_that_was_asked_for(text: str) -> None:
    availability = parse_availability(text)
    on = total = 0.0
    for client in range(60):
        now = 0.0
        while now < 9_000:
            span = availability.span(7, client, now)
            on += (span.until - now) * span.on
            total += span.until - now
            now = span.until
    assert on / total == pytest.approx(2 / 3, rel=0.03)


def test_diurnal_clients_are_there_at_the_same_hours_and_others_are_not() -> None:
    def there(text: str) -> list[float]:
        traces = Drawn(availability=parse_availability(text))
        return [np.mean([traces.span(c, hour * 3600.0).on for c in range(200)]) for hour in range(24)]

    together, apart = there("diurnal:share=0.5,spread=0.05"), there("onoff:on=43200,off=43200")
    assert max(together) > 0.95 and min(together) < 0.05
    assert min(apart) > 0.35 and max(apart) < 0.65


def test_speeds_and_lines_follow_their_distributions() -> None:
    speed = parse_speed("classes:slow=0.25,factor=10,step=0.02")
    seconds = [speed.seconds(0, client) for client in range(4000)]
    assert set(seconds) == {0.02, 0.2}
    assert seconds.count(0.2) == pytest.approx(1000, rel=0.1)
    fast = np.array([parse_speed("lognormal:median=0.05,sigma=0.3").seconds(0, c) for c in range(4000)])
    assert np.median(fast) == pytest.approx(0.05, rel=0.03)
    assert parse_speed("constant:step=0.5").seconds(1, 2) == 0.5
    assert parse_bandwidth("unlimited").rates(0, 0) == (math.inf, math.inf)
    assert parse_bandwidth("constant:up=10,down=20").rates(0, 5) == (10.0, 20.0)
    lines = np.array([parse_bandwidth("lognormal:up=100,down=900").rates(0, c) for c in range(4000)])
    assert np.median(lines, axis=0) == pytest.approx([100, 900], rel=0.05)


def test_drawn_traces_are_functions_of_seed_and_client() -> None:
    one = Drawn(3, parse_speed("lognormal"), parse_bandwidth("lognormal"), parse_availability("onoff"), 0.5)
    again = Drawn(3, parse_speed("lognormal"), parse_bandwidth("lognormal"), parse_availability("onoff"), 0.5)
    other = Drawn(4, parse_speed("lognormal"), parse_bandwidth("lognormal"), parse_availability("onoff"), 0.5)
    for client in (0, 999_999):
        assert one.rates(client) == again.rates(client) != other.rates(client)
        assert one.span(client, 5.0) == again.span(client, 5.0)
        assert one.gives_up(client, 8) == again.gives_up(client, 8)
    assert one.rates(0) != one.rates(1)


def test_a_share_of_tasks_is_given_up_somewhere_within() -> None:
    given_up = [Drawn(dropout=0.3).gives_up(client, 5 * client) for client in range(5000)]
    shares = [share for share in given_up if share is not None]
    assert len(shares) == pytest.approx(1500, rel=0.1)
    assert min(shares) > 0 and max(shares) < 1
    assert np.mean(shares) == pytest.approx(0.5, rel=0.05)
    assert all(Drawn().gives_up(client, 1) is None for client in range(100))
    assert all(Drawn(dropout=1.0).gives_up(client, 1) is not None for client in range(100))


def test_a_file_says_what_each_client_is_like(tmp_path: Path) -> None:
    rows = [{"seconds_per_step": 0.5, "up": 100, "down": 200, "dropout": 1, "on": 10, "off": 5}, {}]
    (tmp_path / "t.json").write_text(json.dumps(rows))
    (tmp_path / "t.csv").write_text("seconds_per_step,up,down,dropout,on,off\n0.5,100,200,1,10,5\n,,,,,\n")
    for name in ("t.json", "t.csv"):
        traces = Recorded.read(tmp_path / name)
        for client in (0, 2):  # the rows are taken in turn
            rates = traces.rates(client)
            assert (rates.seconds_per_step, rates.up, rates.down) == (0.5, 100, 200)
            assert traces.gives_up(client, 1) is not None
            assert traces.span(client, 0.0).until <= 15
        assert traces.rates(1).up == math.inf
        assert traces.span(1, 0.0) == Span(True, math.inf)
        assert traces.gives_up(1, 1) is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[]", "a row for each client"),
        ('[{"speed": 1}]', "unknown column 'speed'; there are seconds_per_step"),
        ('[{"up": 0}]', "client 0: up = 0 is out of range"),
        ('[{}, {"dropout": 1.5}]', "client 1: dropout = 1.5 is out of range"),
        ('[{"down": "fast"}]', "'fast' is no number"),
        ('[{"off": 3}]', "off = 3 needs on"),
        ("{", "cannot read the file of traces"),
    ],
)
def test_a_file_that_makes_no_sense_is_refused(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "t.json").write_text(text)
    with pytest.raises(DataError, match=words):
        Recorded.read(tmp_path / "t.json")


def test_texts_that_name_nothing_are_refused() -> None:
    with pytest.raises(ConfigError, match="did you mean 'lognormal'"):
        parse_speed("lognorm")
    with pytest.raises(ConfigError, match=r"bandwidth constant: up=0\.0 must be"):
        parse_bandwidth("constant:up=0")
    with pytest.raises(ConfigError, match="there are always, diurnal, exponential, onoff"):
        parse_availability("never")
    with pytest.raises(ConfigError, match=r"dropout = 1\.5"):
        Drawn(dropout=1.5)
