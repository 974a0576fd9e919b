"""Schedules are what their names say, from the first step to long after the last."""

from __future__ import annotations

import math

import pytest

from ps.optim import SCHEDULES


def factors(text: str, *steps: int) -> list[float]:
    schedule = SCHEDULES.parse(text).build()
    return [schedule(step) for step in steps]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("constant", {0: 1, 10**9: 1}),
        ("step:every=10,gamma=0.5", {0: 1, 9: 1, 10: 0.5, 19: 0.5, 20: 0.25}),
        ("cosine:steps=100", {0: 1, 25: (1 + math.sqrt(0.5)) / 2, 50: 0.5, 100: 0, 999: 0}),
        ("cosine:steps=100,floor=0.2", {0: 1, 50: 0.6, 100: 0.2, 999: 0.2}),
        ("linear:steps=100,floor=0.2", {0: 1, 25: 0.8, 50: 0.6, 100: 0.2, 999: 0.2}),
        ("warmup:steps=4", {0: 0.25, 1: 0.5, 3: 1, 4: 1, 999: 1}),
    ],
)
def test_factors_are_those_of_the_formula(text: str, expected: dict[int, float]) -> None:
    assert factors(text, *expected) == pytest.approx(list(expected.values()), abs=1e-15)


@pytest.mark.parametrize(
    "text", ["constant", "step:every=3", "cosine:steps=20", "linear:steps=20,floor=0.1", "cosine:steps=20,floor=1"]
)
def test_warmup_scales_the_first_steps_linearly_and_no_later_one(text: str) -> None:
    steps = range(30)
    plain = factors(text, *steps)
    warm = factors(text + (",warmup=8" if ":" in text else ":warmup=8"), *steps)
    assert warm == pytest.approx([factor * min(1, (step + 1) / 8) for step, factor in enumerate(plain)])


def test_a_bare_warmup_is_a_constant_that_warms_up() -> None:
    assert factors("warmup:steps=7", *range(20)) == factors("constant:warmup=7", *range(20))


def test_a_schedule_of_a_million_halvings_underflows_to_zero() -> None:
    assert factors("step:every=1,gamma=0.5", 10**6) == [0.0]
