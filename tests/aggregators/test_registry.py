"""The text of an aggregator: what is read is what was meant, or an error says what to write."""

from __future__ import annotations

import pytest

from ps.aggregators import AGGREGATORS
from ps.aggregators.least import demand
from ps.errors import ConfigError, UsageError


@pytest.mark.parametrize("name", AGGREGATORS)
def test_a_bare_name_is_a_whole_rule(name: str) -> None:
    spec = AGGREGATORS.parse(name)
    assert spec.build().least >= 1
    assert AGGREGATORS.parse(str(spec)) == spec == AGGREGATORS.spec(name)


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("mean", "mean"),
        (" median ", "median"),
        ("clip:10", "clip:norm=10.0,times=1.0"),
        ("clip:times=2", "clip:norm=0.0,times=2.0"),
        ("trimmed:0.2", "trimmed:beta=0.2"),
        ("krum: 3", "krum:f=3"),
        ("krum:f=2", "krum:f=2"),
        ("multikrum:2, m=5", "multikrum:f=2,m=5"),
        ("geomedian:5", "geomedian:iterations=5,eps=1e-06"),
    ],
)
def test_the_first_number_needs_no_key(text: str, canonical: str) -> None:
    spec = AGGREGATORS.parse(text)
    assert str(spec) == canonical
    assert AGGREGATORS.parse(canonical) == spec


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("medain", "unknown aggregator 'medain'; did you mean 'median'? there are clip, geomedian, krum, mean"),
        ("", "unknown aggregator ''; there are"),
        ("mean:1", "mean takes no numbers"),
        ("median:beta=0.1", "median takes no numbers"),
        ("trimmed:0.5", "beta=0.5 must be a finite number at least 0 and below 0.5"),
        ("trimmed:10%", "expected key=number after the colon, not '10%'"),
        ("trimmed:0.1,beta=0.2", "beta is given twice"),
        ("krum:f=1.5", "f=1.5 must be a whole number at least 0"),
        ("krum:-1", "f=-1.0 must be a whole number at least 0"),
        ("krum:m=3", "krum takes no 'm'; it takes f"),
        ("geomedian:0", "iterations=0.0 must be a whole number at least 1"),
        ("geomedian:eps=0", "eps=0.0 must be a finite number at least 1e-07"),
        ("clip:nan", "norm=nan must be a finite number"),
        ("clip:times=0", "times=0.0 must be a finite number above 0"),
    ],
)
def test_a_wrong_one_is_named_with_what_to_write_instead(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        AGGREGATORS.parse(text)
    assert message in str(caught.value)


def test_a_spec_made_by_hand_is_checked_like_one_that_was_read() -> None:
    with pytest.raises(ConfigError, match="must be a finite number at least 0 and below"):
        AGGREGATORS.spec("trimmed", (("beta", 0.7),))
    with pytest.raises(ConfigError, match="weighted takes no numbers"):
        AGGREGATORS.spec("weighted", (("by", 1.0),))


@pytest.mark.parametrize(
    ("text", "least"),
    [
        ("mean", 1),
        ("weighted", 1),
        ("clip", 1),
        ("median", 1),
        ("trimmed:0.4", 1),
        ("geomedian", 1),
        ("krum:f=0", 3),
        ("krum:f=2", 7),
        ("multikrum:f=2", 7),
        ("multikrum:f=2,m=3", 7),
        ("multikrum:f=2,m=6", 10),
    ],
)
def test_fewer_contributions_than_make_sense_are_refused_with_the_numbers(text: str, least: int) -> None:
    spec = AGGREGATORS.parse(text)
    demand(str(spec), spec.build().least, least)
    with pytest.raises(UsageError) as caught:
        demand(str(spec), spec.build().least, least - 1)
    assert f"{spec} needs at least {least} contribution" in str(caught.value)
    assert f"not {least - 1}" in str(caught.value)


@pytest.mark.parametrize("name", AGGREGATORS)
def test_what_is_folded_takes_one_model_and_what_is_held_takes_them_all(name: str) -> None:
    aggregator = AGGREGATORS.parse(name).build()
    folds = name in ("mean", "weighted", "clip")
    assert (aggregator.kind == "fold") is folds
    assert [aggregator.models(n) for n in (1, 7, 1000)] == ([1, 1, 1] if folds else [1, 7, 1000])
