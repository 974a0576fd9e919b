"""Blocks, readers, scaling and clipping: how the vector is walked never shows in the result."""

from __future__ import annotations

import threading
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ps.errors import GradientError, UsageError
from ps.optim import OPTIMIZERS, Workspace, apply
from ps.optim.workspace import BLOCK_BYTES
from ps.threads import ThreadTeam

SIZE = 1000


def vectors(size: int = SIZE, dtype: str = "float32") -> tuple[np.ndarray, np.ndarray]:
    """Return weights and a gradient in a read-only buffer, as the network delivers it."""
    rng = np.random.default_rng(0)
    weights = rng.standard_normal(size).astype(dtype)
    return weights, np.frombuffer(rng.standard_normal(size).astype(dtype).tobytes(), dtype)


def run(text: str, gradient: object, steps: int = 3, **options: object) -> list[bytes]:
    """Return the weights and state after some steps, bit for bit."""
    optimizer = OPTIMIZERS.parse(text).build()
    weights, _ = vectors()
    state = optimizer.init(weights)
    for t in range(1, steps + 1):
        apply(optimizer, weights, gradient, state, lr=optimizer.lr, t=t, **options)  # type: ignore[arg-type]
    return [array.tobytes() for array in (weights, *state.values())]


DECAYING = [name if name == "ftrl" else f"{name}:weight_decay=0.1" for name in OPTIMIZERS]


@given(
    text=st.sampled_from([*OPTIMIZERS, *DECAYING]),
    elements=st.integers(1, 2 * SIZE),
    clip_value=st.none() | st.floats(0.01, 2),
    scale=st.floats(0, 2),
    how=st.sampled_from(["array", "fills", "hands out", "sums"]),
    team=st.sampled_from([ThreadTeam(threads, least_bytes=1) for threads in (1, 2, 3, 5)]),
)
def test_blocks_readers_and_threads_do_not_change_a_bit(
    text: str, elements: int, clip_value: float | None, scale: float, how: str, team: ThreadTeam
) -> None:
    _, gradient = vectors()
    options = {"clip_value": clip_value, "scale": scale}

    def fills(lo: int, hi: int, out: np.ndarray) -> np.ndarray:
        np.copyto(out, gradient[lo:hi])
        return out

    def sums(lo: int, hi: int, out: np.ndarray) -> np.ndarray:
        return np.add(gradient[lo:hi], np.float32(0), out=out)

    readers = {"array": gradient, "fills": fills, "hands out": lambda lo, hi, out: gradient[lo:hi], "sums": sums}
    expected = run(text, gradient, **options)
    assert run(text, readers[how], workspace=Workspace(4 * elements), team=team, **options) == expected


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_default_blocks_join_without_a_seam(dtype: str) -> None:
    size = 2 * BLOCK_BYTES // np.dtype(dtype).itemsize + 3
    optimizer = OPTIMIZERS.parse("adam").build()
    results = []
    for workspace in (None, Workspace(8 * size)):
        weights, gradient = vectors(size, dtype)
        state = optimizer.init(weights)
        apply(optimizer, weights, gradient, state, lr=0.1, t=1, workspace=workspace)
        results.append(weights)
    assert results[0].tobytes() == results[1].tobytes()
    assert np.all(results[0] != vectors(size, dtype)[0])


@pytest.mark.parametrize("text", [*OPTIMIZERS, *DECAYING])
def test_a_gradient_in_a_writable_array_is_not_modified(text: str) -> None:
    gradient = vectors()[1].copy()
    before = gradient.copy()
    run(text, gradient, scale=0.5, clip_value=0.1)
    run(text, gradient)
    np.testing.assert_array_equal(gradient, before)


@pytest.mark.parametrize("text", [*OPTIMIZERS, *DECAYING])
def test_scale_comes_before_the_clip_and_both_before_weight_decay(text: str) -> None:
    _, gradient = vectors()
    prepared = np.clip(gradient * np.float32(3), -0.5, 0.5)
    assert run(text, gradient, scale=3.0, clip_value=0.5) == run(text, prepared)


@pytest.mark.parametrize("text", [*OPTIMIZERS, *DECAYING])
def test_scale_alone_multiplies_the_gradient(text: str) -> None:
    _, gradient = vectors()
    scaled, expected = (
        np.frombuffer(run(text, g, scale=s)[0], np.float32) for g, s in ((gradient, 0.25), (gradient * 0.25, 1.0))
    )
    np.testing.assert_allclose(scaled, expected, rtol=1e-6, atol=1e-7)


def test_a_reader_is_asked_for_every_element_once_and_in_order() -> None:
    optimizer = OPTIMIZERS.parse("sgd").build()
    weights, gradient = vectors()
    asked = []

    def read(lo: int, hi: int, out: np.ndarray) -> np.ndarray:
        assert out.shape == (hi - lo,) and out.dtype == weights.dtype
        asked.append((lo, hi))
        return gradient[lo:hi]

    apply(optimizer, weights, read, {}, lr=0.1, t=1, workspace=Workspace(4 * 300))
    assert asked == [(0, 300), (300, 600), (600, 900), (900, 1000)]


def test_nothing_is_asked_for_an_empty_vector() -> None:
    optimizer = OPTIMIZERS.parse("adam").build()
    weights = np.empty(0, np.float32)

    def read(lo: int, hi: int, out: np.ndarray) -> np.ndarray:
        raise AssertionError("an empty vector has no gradient to read")

    apply(optimizer, weights, read, optimizer.init(weights), lr=0.1, t=1)


@pytest.mark.parametrize("text", [*OPTIMIZERS, *DECAYING])
def test_a_second_update_allocates_no_arrays(text: str) -> None:
    optimizer = OPTIMIZERS.parse(text).build()
    weights, gradient = vectors(200_000)
    state = optimizer.init(weights)
    apply(optimizer, weights, gradient, state, lr=0.1, t=1, scale=0.5, clip_value=1.0)
    tracemalloc.start()
    apply(optimizer, weights, gradient, state, lr=0.1, t=2, scale=0.5, clip_value=1.0)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 50_000


def test_threads_do_not_share_scratch() -> None:
    optimizer = OPTIMIZERS.parse("sgd").build()
    inside, go_on = threading.Event(), threading.Event()
    weights, gradient = np.zeros(10, np.float32), np.ones(10, np.float32)

    def slow(lo: int, hi: int, out: np.ndarray) -> np.ndarray:
        out[:] = gradient[lo:hi]
        inside.set()
        assert go_on.wait(10)
        return out

    def other(lo: int, hi: int, out: np.ndarray) -> np.ndarray:
        out[:] = 99
        return out

    thread = threading.Thread(target=apply, args=(optimizer, weights, slow, {}), kwargs={"lr": 1.0, "t": 1})
    thread.start()
    assert inside.wait(10)
    apply(optimizer, np.zeros(10, np.float32), other, {}, lr=1.0, t=1)
    go_on.set()
    thread.join(10)
    np.testing.assert_array_equal(weights, -gradient)


def test_the_threads_of_a_crew_do_not_share_scratch_either() -> None:
    optimizer = OPTIMIZERS.parse("sgd").build()
    weights, gradient = np.zeros(128, np.float32), np.arange(128, dtype=np.float32)
    both = threading.Barrier(2, timeout=10)

    def read(lo: int, hi: int, out: np.ndarray) -> np.ndarray:
        out[:] = gradient[lo:hi]
        both.wait()  # each thread has filled its block before either uses it
        return out

    apply(optimizer, weights, read, {}, lr=1.0, t=1, team=ThreadTeam(2, least_bytes=1))
    np.testing.assert_array_equal(weights, -gradient)


def test_a_gradient_refused_on_another_thread_is_refused_here() -> None:
    optimizer = OPTIMIZERS.parse("sgd").build()
    weights = np.zeros(1000, np.float32)

    def read(lo: int, hi: int, out: np.ndarray) -> np.ndarray:
        return out if lo < 500 else out[1:]

    with pytest.raises(GradientError, match="expected a gradient of float32"):
        apply(optimizer, weights, read, {}, lr=1.0, t=1, team=ThreadTeam(2, least_bytes=1))


def test_weight_decay_on_sgd_is_the_same_with_and_without_clipping() -> None:
    _, gradient = vectors()
    clipped, free = (run("sgd:weight_decay=0.1", gradient, clip_value=c) for c in (100.0, None))
    assert clipped == free


@pytest.mark.parametrize("name", ["sgd", "momentum", "adamw", "lion"])
def test_a_decay_that_is_small_beside_the_weights_is_not_rounded_away(name: str) -> None:
    """Each step takes lr * decay = 1e-8 of the weights, a fifth of the least that float32 can show, on the average."""
    rng = np.random.default_rng(0)
    gradient = rng.standard_normal(500).astype(np.float32)
    weights = rng.uniform(0.5, 1, gradient.size).astype(np.float32)
    lost = []
    for lr in rng.uniform(0.005, 0.02, 1000).tolist():
        after = []
        for decay in (1e-8 / lr, 0.0):
            optimizer = OPTIMIZERS.parse(f"{name}:lr={lr!r},weight_decay={decay!r}").build()
            w = weights.copy()
            apply(optimizer, w, gradient, optimizer.init(w), lr=lr, t=1)
            after.append(w.astype(np.float64))
        lost.append(float(np.mean(after[1] - after[0]) / np.mean(weights, dtype=np.float64)))
    assert np.mean(lost) == pytest.approx(1e-8, rel=0.3)


def test_nan_and_inf_are_not_hidden_by_the_clip() -> None:
    optimizer = OPTIMIZERS.parse("sgd").build()
    weights = np.zeros(2, np.float32)
    apply(optimizer, weights, np.array([np.nan, np.inf], np.float32), {}, lr=1.0, t=1, clip_value=1.0)
    np.testing.assert_array_equal(weights, [np.nan, -1])


@pytest.mark.parametrize(
    "gradient",
    [np.zeros(9, np.float32), np.zeros(10), np.zeros((10, 1), np.float32)],
    ids=["too short", "another dtype", "another shape"],
)
def test_a_gradient_that_does_not_fit_is_refused_before_anything_changes(gradient: np.ndarray) -> None:
    optimizer = OPTIMIZERS.parse("momentum").build()
    weights = np.ones(10, np.float32)
    state = optimizer.init(weights)
    for source in (gradient, lambda lo, hi, out: gradient):
        with pytest.raises(GradientError, match=r"expected a gradient of float32\[10\]"):
            apply(optimizer, weights, source, state, lr=0.1, t=1)
    assert np.all(weights == 1) and np.all(state["m"] == 0)


def test_weights_and_state_that_cannot_be_updated_are_refused() -> None:
    optimizer = OPTIMIZERS.parse("momentum").build()
    for weights in (np.zeros((2, 2), np.float32), np.zeros(4, np.float16), np.zeros(4, np.int64)):
        with pytest.raises(UsageError, match="weights must be 1-D float32 or float64"):
            apply(optimizer, weights, weights, optimizer.init(weights), lr=0.1, t=1)
    weights = np.zeros(4, np.float32)
    with pytest.raises(UsageError, match="optimizer state 'm' is float64"):
        apply(optimizer, weights, weights, {"m": np.zeros(4)}, lr=0.1, t=1)
    with pytest.raises(UsageError, match="has no 'm'"):
        apply(optimizer, weights, weights, {}, lr=0.1, t=1)
    with pytest.raises(UsageError, match="numbered from 1"):
        apply(optimizer, weights, weights, optimizer.init(weights), lr=0.1, t=0)
