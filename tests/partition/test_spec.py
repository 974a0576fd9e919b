"""The text of a partition: what is read is what was meant, or an error says what to write."""

from __future__ import annotations

import numpy as np
import pytest

from ps.errors import ConfigError
from ps.partition import PARTITIONERS


@pytest.mark.parametrize("name", PARTITIONERS)
def test_a_bare_name_is_a_whole_partition(name: str) -> None:
    spec = PARTITIONERS.parse(name)
    assert len(spec.build().divide(np.arange(20) % 2, 3, np.random.default_rng(0))) == 3
    assert PARTITIONERS.parse(str(spec)) == spec == PARTITIONERS.spec(name)


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("own", "own"),
        (" iid ", "iid"),
        ("shards:3", "shards:count=3"),
        ("dirichlet:0.1", "dirichlet:alpha=0.1,least=1,balance=0"),
        ("dirichlet: 1e-1, least=10", "dirichlet:alpha=0.1,least=10,balance=0"),
        ("dirichlet:least=10", "dirichlet:alpha=0.5,least=10,balance=0"),
        ("quantity:2", "quantity:alpha=2.0,least=1"),
        ("labels:k=3", "labels:k=3"),
        ("features:0", "features:sigma=0.0"),
    ],
)
def test_the_first_number_needs_no_key(text: str, canonical: str) -> None:
    spec = PARTITIONERS.parse(text)
    assert str(spec) == canonical
    assert PARTITIONERS.parse(canonical) == spec


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dirichlt", "unknown partition 'dirichlt'; did you mean 'dirichlet'? there are dirichlet, features, iid"),
        ("", "unknown partition ''; there are"),
        ("shards:two", "expected key=number after the colon, not 'two'"),
        ("shards:2,3", "expected key=number after the colon, not '3'"),
        ("shards:2.5", "shards: count=2.5 must be a whole number at least 1"),
        ("shards:0", "count=0.0 must be"),
        ("dirichlet:0", "dirichlet: alpha=0.0 must be a finite number above 0"),
        ("dirichlet:inf", "alpha=inf must be a finite number"),
        ("dirichlet:1,alpha=2", "alpha is given twice"),
        ("quantity:1,lest=3", "quantity takes no 'lest'; did you mean 'least'?"),
        ("features:-1", "sigma=-1.0 must be"),
        ("iid:2", "iid takes no numbers"),
        ("own:clients=2", "own takes no numbers"),
    ],
)
def test_a_wrong_one_is_named_with_what_to_write_instead(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        PARTITIONERS.parse(text)
    assert message in str(caught.value)


def test_a_spec_made_by_hand_is_checked_like_one_that_was_read() -> None:
    with pytest.raises(ConfigError, match="k=0"):
        PARTITIONERS.spec("labels", (("k", 0.0),))
    with pytest.raises(ConfigError, match="iid takes no numbers"):
        PARTITIONERS.spec("iid", (("least", 4.0),))
