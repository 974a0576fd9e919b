"""powersgd: the paper's step, its warm start, and what a matrix of low rank owes it."""

from __future__ import annotations

import numpy as np
import pytest

from ps.compress import Key
from ps.compress.powersgd import PowerSGD
from support.vectors import KEY, codec, decode


def low_rank(rows: int, columns: int, rank: int, dtype: str = "float32") -> np.ndarray:
    rng = np.random.default_rng(0)
    return (rng.standard_normal((rows, rank)) @ rng.standard_normal((rank, columns))).astype(dtype).ravel()


def step(text: str, x: np.ndarray, state: dict[str, np.ndarray]) -> np.ndarray:
    return decode(text, codec(text).encode(x, KEY, state), x.size, str(x.dtype))


@pytest.mark.parametrize(
    ("size", "options", "shape"),
    [
        (1, {}, (0, 1, 0)),
        (100, {}, (10, 10, 4)),
        (101, {}, (9, 11, 4)),
        (1 << 19, {}, (723, 725, 4)),
        (1000, {"columns": 100}, (10, 100, 4)),
        (1000, {"columns": 5000}, (0, 1000, 0)),
        (1000, {"rank": 256}, (0, 32, 0)),
        (90, {"rank": 3, "columns": 30}, (0, 30, 0)),
    ],
)
def test_the_matrix_is_nearly_square_or_as_asked_and_must_pay(
    size: int, options: dict[str, int], shape: object
) -> None:
    assert PowerSGD(**options).shape(size) == shape


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_matrix_of_that_rank_arrives_whole(dtype: str) -> None:
    x = np.concatenate([low_rank(40, 50, 3, dtype), np.arange(7).astype(dtype)])
    decoded = step("powersgd:3,columns=50", x, codec("powersgd:3,columns=50").init(x))
    np.testing.assert_allclose(decoded, x, atol=100 * np.finfo(dtype).eps * np.abs(x).max())


def test_one_step_is_the_papers() -> None:
    x = np.random.default_rng(0).standard_normal((30, 40))
    state = {"basis": np.random.default_rng(1).standard_normal((2, 40))}
    p, _ = np.linalg.qr(x @ state["basis"].T)
    q = x.T @ p
    decoded = step("powersgd:2,columns=40", x.ravel(), state)
    np.testing.assert_allclose(decoded, (p @ q.T).ravel(), atol=1e-12)
    kept = state["basis"]
    np.testing.assert_allclose(np.abs(kept).sum(axis=1), 1, rtol=1e-12)
    for mine, papers in zip(kept, q.T, strict=True):
        np.testing.assert_allclose(np.abs(mine @ papers), np.linalg.norm(mine) * np.linalg.norm(papers), rtol=1e-9)


def test_steps_on_the_same_matrix_come_to_the_best_of_their_rank() -> None:
    x = np.random.default_rng(0).standard_normal((60, 60)) @ np.diag(0.8 ** np.arange(60))
    state = codec("powersgd:4").init(x.ravel())
    errors = [np.linalg.norm(step("powersgd:4", x.ravel(), state) - x.ravel()) for _ in range(30)]
    best = np.linalg.norm(np.linalg.svd(x)[1][4:])
    assert errors[-1] == pytest.approx(best, rel=1e-3)
    assert errors[0] > 1.1 * best


def test_a_direction_that_vanished_is_drawn_anew() -> None:
    flat = low_rank(40, 40, 1)
    state = codec("powersgd:3").init(flat)
    np.testing.assert_allclose(step("powersgd:3", flat, state), flat, atol=1e-4)
    assert (np.abs(state["basis"]).sum(axis=1) > 0).tolist() == [True, False, False]
    full = low_rank(40, 40, 3)
    np.testing.assert_allclose(step("powersgd:3", full, state), full, atol=1e-4)


def test_zeros_stay_zeros_and_the_next_matrix_is_seen() -> None:
    zeros = np.zeros(1600, np.float32)
    state = codec("powersgd:3").init(zeros)
    assert not step("powersgd:3", zeros, state).any()
    x = low_rank(40, 40, 3)
    np.testing.assert_allclose(step("powersgd:3", x, state), x, atol=1e-4)


@pytest.mark.parametrize("scale", [1e-37, 1e-20, 1e20, 1e35])
def test_magnitude_does_not_matter(scale: float) -> None:
    x = low_rank(40, 40, 3) * np.float32(scale)
    state = codec("powersgd:3").init(x)
    for _ in range(3):
        np.testing.assert_allclose(step("powersgd:3", x, state), x, atol=1e-4 * scale)


def test_workers_start_alike() -> None:
    x = np.random.default_rng(0).standard_normal(1600).astype(np.float32)
    frames = [
        codec("powersgd:2").encode(x, Key(0, 0, 0, rank), codec("powersgd:2").init(x)).tobytes() for rank in (0, 1)
    ]
    assert frames[0] == frames[1]
