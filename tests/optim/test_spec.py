"""The text of optimizers and schedules: what is read is what was meant, or an error says what to write."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ps.errors import ConfigError
from ps.number import LEAST
from ps.optim import OPTIMIZERS, SCHEDULES, apply


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_bare_name_is_a_whole_optimizer(name: str) -> None:
    spec = OPTIMIZERS.parse(name)
    assert spec.build().lr > 0
    assert OPTIMIZERS.parse(str(spec)) == spec == OPTIMIZERS.spec(name)


def test_numbers_may_come_in_any_order_and_spacing() -> None:
    spec = OPTIMIZERS.parse(" adam: beta1=.5 ,lr=1e-2")
    assert spec == OPTIMIZERS.parse("adam:lr=0.01,beta1=0.5")
    assert str(spec) == "adam:lr=0.01,beta1=0.5,beta2=0.999,eps=1e-08,weight_decay=0.0"


@given(st.data())
def test_parsing_the_text_of_a_spec_gives_the_spec(data: st.DataObject) -> None:
    table = data.draw(st.sampled_from([OPTIMIZERS, SCHEDULES]))
    name = data.draw(st.sampled_from(sorted(table)))
    numbers = []
    for field in dataclasses.fields(table[name]):
        allowed = field.metadata["range"]
        values = st.integers(0, 10**9) if allowed.whole else st.floats(allow_nan=False, allow_infinity=False)
        numbers.append(
            (
                field.name,
                data.draw(
                    values.filter(allowed.__contains__)
                    if allowed.whole
                    else st.one_of(values.filter(allowed.__contains__), st.floats(0.001, 0.999))
                ),
            )
        )
    spec = table.spec(name, tuple(numbers))
    assert table.parse(str(spec)) == spec


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("adma", "unknown optimizer 'adma'; did you mean 'adam'? there are adagrad, adam, "),
        ("", "unknown optimizer ''; there are adagrad"),
        ("__import__('os'):lr=1", "unknown optimizer"),
        ("adam:beta_1=0.9", "adam takes no 'beta_1'; did you mean 'beta1'? it takes lr, beta1, beta2, eps"),
        ("sgd:weights=1", "sgd takes no 'weights'; did you mean 'weight_decay'?"),
        ("adam:lr", "expected key=number after the colon, not 'lr'"),
        ("adam:", "expected key=number after the colon, not ''"),
        ("adam:lr=1,", "expected key=number after the colon, not ''"),
        ("adam:=1", "expected key=number after the colon, not '=1'"),
        ("adam:lr=1,lr=2", "lr is given twice"),
        ("adam:lr=fast", "lr='fast' is not a number"),
        ("adam:lr=", "lr='' is not a number"),
        ("adam:lr=1=2", "lr='1=2' is not a number"),
        ("adam:lr=-0.1", "adam: lr=-0.1 must be a finite number at least 0"),
        ("adam:lr=nan", "lr=nan must be a finite number"),
        ("adam:lr=1e999", "lr=inf must be a finite number"),
        ("momentum:momentum=1", "momentum=1.0 must be a finite number at least 0 and below 1"),
        ("adam:eps=0", "eps=0.0 must be a finite number at least 1e-30"),
        ("ftrl:beta=0", "beta=0.0 must be a finite number at least 1e-12"),
        ("ftrl:beta=1e-300", "beta=1e-300 is too small for float32"),
        ("ftrl:lr=0", "lr=0.0 must be a finite number above 0 and at most 1e+06"),
        ("sgd:lr=1e-50", "lr=1e-50 is too small for float32: smaller than 1e-30 there is only 0"),
        ("adagrad:initial=1e39", "initial=1e+39 must be a finite number at least 0 and at most 1e+12"),
        ("adam:eps=1e39", "eps=1e+39 must be a finite number at least 1e-30 and at most 1e+12"),
        ("fedadagrad:tau=1e20", "tau=1e+20 must be"),
        ("ftrl:lr=1e30,l2=1e10", "lr=1e+30 must be"),
    ],
)
def test_a_wrong_optimizer_is_named_with_what_to_write_instead(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        OPTIMIZERS.parse(text)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cosin:steps=3", "unknown schedule 'cosin'; did you mean 'cosine'?"),
        ("cosine", "schedule cosine needs steps=<a whole number at least 1 and at most 1e+09>"),
        ("step:every=1.5", "every=1.5 must be a whole number at least 1"),
        ("step:every=inf", "every=inf must be a whole number"),
        ("step:every=0", "every=0.0 must be a whole number at least 1"),
        ("linear:steps=9,floor=2", "floor=2.0 must be a finite number at least 0 and at most 1"),
        ("constant:warmup=-1", "warmup=-1.0 must be a whole number at least 0"),
    ],
)
def test_a_wrong_schedule_is_named_with_what_to_write_instead(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        SCHEDULES.parse(text).build()
    assert message in str(caught.value)


def test_a_spec_made_by_hand_is_checked_like_one_that_was_read() -> None:
    with pytest.raises(ConfigError, match="lr=-1"):
        OPTIMIZERS.spec("sgd", (("lr", -1.0),))
    with pytest.raises(ConfigError, match="takes no 'pace'"):
        SCHEDULES.spec("constant", (("pace", 1.0),))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_float32_trains_with_the_least_and_the_greatest_of_each_number(name: str) -> None:
    """Each number at the ends of its range, the others as they are: a gradient of zero moves nothing, no NaN comes."""
    for field in dataclasses.fields(OPTIMIZERS[name]):
        allowed = field.metadata["range"]
        ends = [max(allowed.at_least, LEAST), allowed.at_most if allowed.below > 1 else 0.999]
        for value in ends:
            optimizer = OPTIMIZERS.spec(name, ((field.name, value),)).build()
            weights = np.array([1, -2], np.float32)
            state = optimizer.init(weights)
            with np.errstate(all="raise", under="ignore"):
                if field.name not in ("weight_decay", "l1"):  # which are there to move weights
                    apply(optimizer, weights, np.zeros(2, np.float32), state, lr=optimizer.lr, t=1)
                    decayed = optimizer.lr * optimizer.weight_decay
                    np.testing.assert_allclose(weights, np.float32([1, -2]), rtol=1e-6 + decayed)
                for t in range(2, 5):
                    apply(optimizer, weights, np.ones(2, np.float32), state, lr=optimizer.lr, t=t)
            for array in (weights, *state.values()):
                assert np.isfinite(array).all(), (field.name, value)
