"""topk: exactly the largest, and Deep gradient compression's equations to the bit."""

from __future__ import annotations

import itertools
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ps.compress import CODECS, Key, Uplink
from ps.compress.topk import TopK, largest
from support.vectors import codec, decode, vectors


def reference(values: np.ndarray, count: int) -> np.ndarray:
    """Return the indices by a stable sort: of equal magnitudes the first."""
    return np.sort(np.argsort(-np.abs(values), kind="stable")[:count])


@given(vectors(), st.data())
def test_the_largest_are_those_of_a_stable_sort(x: np.ndarray, data: st.DataObject) -> None:
    count = data.draw(st.integers(1, x.size))
    np.testing.assert_array_equal(largest(x, count), reference(x, count))


@pytest.mark.parametrize(
    "kind", ["normal", "one column", "ties", "hidden from the sample", "only in the sample", "zeros"]
)
@pytest.mark.parametrize("count", [1, 700, 16_000])
def test_the_sample_does_not_show(kind: str, count: int) -> None:
    x = np.random.default_rng(0).standard_normal(1 << 17).astype(np.float32)
    if kind == "one column":
        x = np.where(np.arange(x.size) % 128 == 5, x, 0)
    elif kind == "ties":
        x = np.round(x)
    elif kind == "hidden from the sample":
        x[::31] = 0
    elif kind == "only in the sample":
        x[np.arange(x.size) % 31 != 0] = 0
    elif kind == "zeros":
        x[:] = 0
    np.testing.assert_array_equal(largest(x, count), reference(x, count))


@pytest.mark.parametrize(("size", "ratio", "count"), [(1, 0.001, 1), (100, 0.001, 1), (1000, 0.0116, 12), (9, 1, 9)])
def test_the_share_is_rounded_and_at_least_one(size: int, ratio: float, count: int) -> None:
    assert TopK(ratio).count(size, clock=0) == count


def test_the_warm_up_is_the_papers() -> None:
    sparsities = [1 - TopK(ratio=0.001, warmup=4).density(clock) for clock in range(6)]
    np.testing.assert_allclose(sparsities, [0.75, 0.9375, 0.984375, 0.996, 0.999, 0.999], atol=1e-3)
    shares = [TopK(ratio=0.01, warmup=400).density(clock) for clock in range(401)]
    assert shares[0] == 0.25 and all(a > b for a, b in itertools.pairwise(shares))
    assert shares[400] == 0.01
    assert TopK(ratio=0.5, warmup=9).density(0) == 0.5


def test_a_frame_of_the_warm_up_fits_where_the_longest_does() -> None:
    text = "topk:0.01,warmup=3"
    uplink, x = Uplink(CODECS.parse(text)), np.random.default_rng(0).standard_normal(1000).astype(np.float32)
    state = uplink.init(x)
    sizes = [uplink.encode(x, state, Key(0, clock, 0, 0)).size for clock in range(5)]
    assert sizes[0] == uplink.codec.max_bytes(1000, "float32") == 250 * 6 + 4
    assert sizes[3] == sizes[4] == 10 * 6 + 4


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("momentum", "warmup"), [(0.0, 0), (0.9, 0), (0.9, 6), (0.5, 3)])
def test_ten_steps_are_deep_gradient_compressions(momentum: float, warmup: int, dtype: str) -> None:
    size, ratio = 3000, 0.01
    uplink = Uplink(CODECS.parse(f"topk:{ratio},momentum={momentum},warmup={warmup}"))
    rng = np.random.default_rng(0)
    u = v = np.zeros(size, dtype)
    state = uplink.init(u)
    for clock in range(10):
        g = rng.standard_normal(size).astype(dtype)
        u = np.array(momentum, dtype) * u + g if momentum else g
        v = v + u
        share = 0.25 * (ratio / 0.25) ** (clock / warmup) if clock < warmup else ratio
        mask = np.zeros(size, bool)
        mask[reference(v, round(size * share))] = True
        key = Key(0, clock, 0, 0)
        sent = decode("topk", uplink.encode(g, state, key), size, dtype, key)
        np.testing.assert_array_equal(sent, np.where(mask, v, 0))
        u, v = np.where(mask, 0, u), np.where(mask, 0, v)
        np.testing.assert_array_equal(state["residual"], v)
        if momentum:
            np.testing.assert_array_equal(state["velocity"], u)
    assert ("velocity" in state) == bool(momentum)


def test_nan_takes_places_but_what_is_sent_is_in_order() -> None:
    x = np.arange(100, dtype=np.float32)
    x[:30] = np.nan
    frame = codec("topk:0.2").encode(x, Key(0, 0, 0, 0), {})
    opened = codec("topk:0.2").open(frame, 100, "float32", Key(0, 0, 0, 0), trusted=True)
    assert opened.sparse is not None and opened.sparse[0].size <= 20


@pytest.mark.parametrize("count", [500, 1 << 18])
def test_the_choice_among_equal_elements_takes_no_longer_than_among_different_ones(count: int) -> None:
    """Four times is the machine's noise; what NumPy's partition takes is sixteen times as long."""
    rng = np.random.default_rng(0)
    dense = rng.standard_normal(1 << 19).astype(np.float32)
    sparse = np.zeros_like(dense)
    sparse[rng.integers(0, sparse.size, 256)] = 1

    def seconds(x: np.ndarray) -> float:
        best = 1e9
        for _ in range(7):
            began = time.thread_time()
            largest(x, count)
            best = min(best, time.thread_time() - began)
        return best

    usual = seconds(dense)
    for x in (sparse, np.zeros_like(dense), np.ones_like(dense), np.sign(dense), sparse + 1):
        assert seconds(x) < 4 * usual
