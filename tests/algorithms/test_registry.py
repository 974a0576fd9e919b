"""The text of an algorithm: what is read is what was meant, or an error says what to write."""

from __future__ import annotations

import pytest

import ps.algorithms
from ps.algorithms import ALGORITHMS
from ps.errors import ConfigError
from ps.optim import OPTIMIZERS


@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_bare_name_is_a_whole_algorithm(name: str) -> None:
    spec = ALGORITHMS.parse(name)
    assert isinstance(spec.build(), ps.algorithms.Algorithm)
    assert ALGORITHMS.parse(str(spec)) == spec == ALGORITHMS.spec(name)


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        (" fedavg ", "fedavg"),
        ("scaffold", "scaffold"),
        ("fedprox:0.1", "fedprox:mu=0.1"),
        ("fedprox: mu=1e-2", "fedprox:mu=0.01"),
        ("fedbuff:4", "fedbuff:buffer=4"),
        ("fedavgm:.5", "fedavgm:momentum=0.5,lr=1.0"),
        ("fedadam:0.03, tau=0.1", "fedadam:lr=0.03,beta1=0.9,beta2=0.99,tau=0.1"),
        ("diloco:momentum=0.8", "diloco:lr=0.7,momentum=0.8"),
    ],
)
def test_the_first_number_needs_no_key(text: str, canonical: str) -> None:
    spec = ALGORITHMS.parse(text)
    assert str(spec) == canonical
    assert ALGORITHMS.parse(canonical) == spec


@pytest.mark.parametrize(
    ("text", "server"),
    [
        ("fedavgm:0.5,lr=0.3", "momentum:lr=0.3,momentum=0.5"),
        ("fedadagrad:0.2,beta1=0.5,tau=1e-30", "fedadagrad:lr=0.2,beta1=0.5,tau=1e-30"),
        ("fedadam:0,beta1=0,beta2=0.999999,tau=9", "fedadam:lr=0.0,beta1=0.0,beta2=0.999999,tau=9.0"),
        ("fedyogi:0.2,beta1=0.999999,beta2=0,tau=9", "fedyogi:lr=0.2,beta1=0.999999,beta2=0.0,tau=9.0"),
        ("diloco:1,momentum=0", "nesterov:lr=1.0,momentum=0.0"),
    ],
)
def test_the_numbers_are_those_of_the_server_optimizer(text: str, server: str) -> None:
    found = ALGORITHMS.parse(text).build().server
    assert found == server
    OPTIMIZERS.parse(found).build()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("fedpox", "unknown algorithm 'fedpox'; did you mean 'fedprox'? there are diloco, fedadagrad, "),
        ("", "unknown algorithm ''; there are diloco"),
        ("fedavg:0.1", "algorithm 'fedavg:0.1': fedavg takes no numbers"),
        ("scaffold:lr=1", "scaffold takes no numbers"),
        ("fednova:", "fednova takes no numbers"),
        ("fedprox:", "expected key=number after the colon, not ''"),
        ("fedprox:much", "expected key=number after the colon, not 'much'"),
        ("fedprox:0.1,mu=0.2", "mu is given twice"),
        ("fedprox:-1", "algorithm fedprox: mu=-1.0 must be a finite number at least 0"),
        ("fedprox:nan", "mu=nan must be a finite number"),
        ("fedavgm:momentun=0.5", "fedavgm takes no 'momentun'; did you mean 'momentum'? it takes momentum, lr"),
        ("fedbuff:0", "buffer=0.0 must be a whole number at least 1"),
        ("fedbuff:2.5", "buffer=2.5 must be a whole number"),
        ("fedavgm:1", "momentum=1.0 must be a finite number at least 0 and below 1"),
        ("fedadam:0.1,eps=1", "fedadam takes no 'eps'; it takes lr, beta1, beta2, tau"),
        ("fedyogi:tau=0", "tau=0.0 must be a finite number at least 1e-30"),
    ],
)
def test_a_wrong_one_is_named_with_what_to_write_instead(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        ALGORITHMS.parse(text)
    assert message in str(caught.value)


def test_a_spec_made_by_hand_is_checked_like_one_that_was_read() -> None:
    with pytest.raises(ConfigError, match="mu=-1"):
        ALGORITHMS.spec("fedprox", (("mu", -1.0),))
    with pytest.raises(ConfigError, match="fedavg takes no numbers"):
        ALGORITHMS.spec("fedavg", (("lr", 1.0),))


def test_the_public_names_are_these() -> None:
    assert ps.algorithms.__all__ == [
        "ALGORITHMS",
        "SUMS",
        "Algorithm",
        "Correct",
        "Factor",
        "LocalStep",
        "Renew",
        "Scale",
        "StepArrays",
        "effective_steps",
        "sums_gradients",
    ]
