"""Gradients: everything a script may hand in, and what is said when it cannot be."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ps import native, xp
from ps.errors import GradientError
from ps.optim.limit import limit_of
from ps.protocol.layout import Chunk, Layout
from ps.testing import STRICT
from ps.threads import ThreadTeam
from ps.worker.gradients import LOOK_BYTES, Gradients, Staging, match
from ps.worker.partial_gradients import PartialGradients


def staging(params: dict[str, np.ndarray], chunk_size: int = 1 << 20, servers: int = 1) -> tuple[Staging, Any]:
    layout = Layout.of(params)
    chunks = layout.chunks(servers, chunk_size)
    buffer, weights = (np.zeros(layout.nbytes, np.uint8) for _ in range(2))
    return Staging(layout, chunks, buffer, weights), chunks


def flat(gradients: Gradients, chunks: tuple[Chunk, ...]) -> np.ndarray:
    return np.concatenate([gradients.chunk(chunk).astype(np.float64) for chunk in chunks])


def by_dtype(params: dict[str, np.ndarray]) -> np.ndarray:
    ordered = sorted(params.values(), key=lambda array: array.dtype.itemsize)
    return np.concatenate([array.ravel().astype(np.float64) for array in ordered])


class Foreign:
    """A tensor of another library: speaks DLPack and nothing else."""

    def __init__(self, array: np.ndarray, trouble: str = "") -> None:
        self._array, self._trouble = array, trouble

    def __dlpack_device__(self) -> tuple[int, int]:
        return (1, 0)

    def __dlpack__(self, **kwargs: Any) -> Any:
        if self._trouble:
            raise BufferError(self._trouble)
        return self._array.__dlpack__(**kwargs)


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.tuples(st.integers(0, 700), st.booleans()), min_size=1, max_size=12).filter(
        lambda sizes: any(n for n, _ in sizes)
    ),
    chunk_size=st.sampled_from([1024, 2048, 1 << 20]),
    servers=st.integers(1, 3),
    strided=st.booleans(),
)
def test_chunks_hold_the_gradients_in_layout_order_however_they_are_cut(
    sizes: list[tuple[int, bool]], chunk_size: int, servers: int, strided: bool
) -> None:
    random = np.random.default_rng(0)
    grads = {
        f"t{i}": random.standard_normal(2 * n)[:: 2 if strided else 1][:n].astype("f8" if wide else "f4")
        for i, (n, wide) in enumerate(sizes)
    }
    if strided:
        grads = {name: np.repeat(array, 2)[::2] for name, array in grads.items()}
    place, chunks = staging(grads, chunk_size, servers)
    gradients = match(grads, place)
    np.testing.assert_array_equal(flat(gradients, chunks), by_dtype(grads))
    assert all(gradients.chunk(chunk).flags.c_contiguous for chunk in chunks)
    gradients.keep()
    for array in grads.values():
        array[...] = -1
    kept = flat(gradients, chunks)
    assert not (kept == -1).any()
    assert kept.size == sum(n for n, _ in sizes)


def test_a_chunk_inside_one_tensor_is_read_where_it_lies() -> None:
    grads = {"w": np.ones(5000, np.float32)}
    place, chunks = staging(grads, 4096)
    gradients = match(grads, place)
    assert all(np.shares_memory(gradients.chunk(chunk), grads["w"]) for chunk in chunks)
    gradients.keep()
    assert not any(np.shares_memory(gradients.chunk(chunk), grads["w"]) for chunk in chunks)


def test_a_gradient_in_the_memory_of_the_weights_is_copied_before_answers_land_there() -> None:
    grads = {"w": np.zeros(5000, np.float32)}
    place, chunks = staging(grads, 4096)
    weights = place.layout.views(place.layout.flat(place.weights))
    gradients = match(weights, place)
    assert not any(np.shares_memory(gradients.chunk(chunk), place.weights) for chunk in chunks)


def test_tensors_without_dimensions_and_without_elements_are_tensors() -> None:
    grads = {"scale": np.array(2.0), "none": np.zeros((0, 3)), "w": np.arange(3.0)}
    place, chunks = staging(grads)
    np.testing.assert_array_equal(flat(match(grads, place), chunks), [2, 0, 1, 2])
    assert "'scale' is nan at ()" in match({**grads, "scale": np.array(np.nan)}, place).first_bad()


def test_gradients_may_be_foreign_tensors_or_on_a_device(strict_device: xp.Device) -> None:
    grads = {"a": np.arange(3, dtype=np.float32), "b": np.arange(4, dtype=np.float32)}
    place, chunks = staging(grads)
    foreign = match({"a": Foreign(grads["a"]), "b": STRICT.to_device(grads["b"])}, place)
    np.testing.assert_array_equal(flat(foreign, chunks), [0, 1, 2, 0, 1, 2, 3])


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"w": np.ones((3, 2))}, r"gradient of 'w' has shape \(3, 2\), expected \(2, 3\)"),
        ({"w": np.ones((2, 3), np.float32)}, "gradient of 'w' has dtype float32, expected float64"),
        ({"w": np.ones((2, 3), ">f8")}, "gradient of 'w' has dtype >f8, expected float64"),
        ({"w": None}, "gradient of 'w' is None; every tensor needs one in every step. With partial=True "),
        ({"w": {"a": np.ones(2)}}, "gradient of 'w' is a dict itself: give one flat dict"),
        ({"w": np.ones((2, 3), np.float16)}, r"dtype float16, expected float64: convert it, .* x.astype\('float64'\)"),
        ({"w": [[1, 2], [3]]}, "gradient of 'w' cannot be read"),
        ({"weight": np.ones(1)}, "unknown tensor 'weight'"),
        ({"bais": np.ones(2)}, "unknown tensor 'bais'; did you mean 'bias'?"),
        ({7: np.ones(2)}, "unknown tensor 7"),
        ({"w": Foreign(np.ones((2, 3)), "use tensor.detach()")}, r"gradient of 'w' cannot be read: use tensor.detach"),
    ],
)
def test_a_gradient_that_does_not_fit_is_named(change: dict[Any, Any], text: str) -> None:
    good = {"w": np.ones((2, 3)), "bias": np.ones(2)}
    place, _ = staging(good)
    match(good, place)
    with pytest.raises(GradientError, match=text):
        match({**good, **change}, place)


def test_a_missing_gradient_is_named_and_a_misspelt_one_explained() -> None:
    place, _ = staging({"w": np.ones((2, 3)), "bias": np.ones(2)})
    with pytest.raises(GradientError, match="no gradient for tensor 'bias'"):
        match({"w": np.ones((2, 3))}, place)
    with pytest.raises(GradientError, match="unknown tensor 'bais'; did you mean 'bias'"):
        match({"w": np.ones((2, 3)), "bais": np.ones(2)}, place)
    with pytest.raises(GradientError, match="a dict with an array for each tensor, not list"):
        match([np.ones(2)], place)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_the_first_tensor_that_is_not_finite_is_named_with_its_place(value: float) -> None:
    grads = {"w": np.ones((40, 50), np.float32), "v": np.ones(3, np.float32)}
    place, _ = staging(grads, 4096)
    assert match(grads, place).first_bad() == ""
    grads["w"][31, 7] = value
    assert match(grads, place).first_bad() == f"gradient of 'w' is {value} at (31, 7)"


@pytest.mark.parametrize(("dtype", "value"), [("float32", 1e20), ("float32", -3e38), ("float64", 1e155)])
def test_a_gradient_whose_square_would_overflow_is_named_like_one_that_is_not_finite(dtype: str, value: float) -> None:
    grads = {"w": np.ones((40, 50), dtype), "v": np.ones(3, dtype)}
    place, _ = staging(grads, 4096)
    grads["w"][31, 7] = value
    told = match(grads, place).first_bad()
    assert told.startswith(f"gradient of 'w' is {float(grads['w'][31, 7])} at (31, 7), beyond the limit of ")
    assert told.endswith(f"its square would overflow {dtype}")


def test_a_gradient_within_the_limit_whose_sum_of_squares_overflows_is_fine() -> None:
    grads = {"w": np.full(1 << 21, limit_of(np.dtype(np.float32)), np.float32)}
    place, _ = staging(grads, 32 << 20)
    assert match(grads, place).first_bad() == ""


@pytest.mark.parametrize("read_here", [False, True])
@pytest.mark.parametrize("at", [0, LOOK_BYTES // 4 - 1, LOOK_BYTES // 4, (5 * LOOK_BYTES) // 8, (3 * LOOK_BYTES) // 4])
def test_no_part_of_a_large_chunk_is_overlooked_or_left_behind(at: int, read_here: bool) -> None:
    grads = {"w": np.arange(1 + (3 * LOOK_BYTES) // 4, dtype=np.float32)}
    layout = Layout.of(grads)
    buffer, weights = (np.zeros(layout.nbytes, np.uint8) for _ in range(2))
    chunks = layout.chunks(1, 32 << 20)
    place = Staging(layout, chunks, buffer, weights, ThreadTeam(2, least_bytes=1), read_here=read_here)
    gradients = match(grads, place)
    assert gradients.first_bad() == ""
    assert (gradients.chunk(chunks[0]) == grads["w"]).all()
    assert (gradients.chunk(chunks[0]) is place.regions[0]) == read_here
    grads["w"][at] = np.nan
    assert match(grads, place).first_bad() == f"gradient of 'w' is nan at ({at},)"


def test_the_norm_is_that_of_all_tensors() -> None:
    grads = {"w": np.full(3000, 2, np.float32), "v": np.full(7, 3.0)}
    place, _ = staging(grads, 1024)
    assert match(grads, place).norm_squared() == pytest.approx(3000 * 4 + 7 * 9)


def test_the_work_for_thousands_of_tiny_tensors_grows_with_their_number_only() -> None:
    def seconds(count: int) -> float:
        grads = {f"layer{i}": np.ones(3, np.float32) for i in range(count)}
        place, _ = staging(grads, 1024)
        best = 1e9
        for _ in range(5):
            began = time.thread_time()
            match(grads, place)
            best = min(best, time.thread_time() - began)
        return best

    assert seconds(8000) < 8 * 4 * seconds(1000)


def test_the_map_of_a_large_model_of_small_tensors_is_made_at_once() -> None:
    params = {f"layer{i}": np.zeros(100, np.float32) for i in range(20_000)}
    began = time.thread_time()
    staging(params, 1024)
    assert time.thread_time() - began < 5


@pytest.mark.parametrize("size", [4, 600])
def test_gradients_that_lie_in_each_others_places_are_each_counted(size: int) -> None:
    place, chunks = staging({"a": np.zeros(size, np.float32), "b": np.zeros(size, np.float32)}, 1024)
    mine = place.arrays(xp.CPU)
    mine["a"][:], mine["b"][:] = 1, 2
    found = match({"a": mine["b"], "b": mine["a"]}, place)
    flat = np.concatenate([found.chunk(chunk) for chunk in chunks])
    np.testing.assert_array_equal(flat, np.repeat(np.float32([2, 1]), size))


def test_a_gradient_in_anothers_place_cannot_be_announced(caplog: pytest.LogCaptureFixture) -> None:
    place, _ = staging({"a": np.zeros(4, np.float32), "b": np.zeros(4, np.float32)}, 1024)
    mine = place.arrays(xp.CPU)
    with pytest.raises(GradientError, match=r"gradient of 'a' lies in kv.grads, in the place of another one"):
        PartialGradients(place).add("a", mine["b"], check=True)


@pytest.mark.parametrize("kernels", ["numpy", "auto"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_where_servers_read_staging_memory_what_is_looked_at_is_put_there(
    dtype: type, kernels: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native, "_used", None if kernels == "numpy" else native._found)
    params = {"a": np.zeros((40, 50), dtype), "b": np.zeros(7, dtype)}
    place, chunks = staging(params, 1024)
    place.read_here = True
    grads = {"a": np.arange(2000).reshape(40, 50).astype(dtype), "b": np.ones(7, dtype)}
    gradients = match(grads, place)
    assert gradients.first_bad() == ""
    assert all(gradients.chunk(chunk) is place.regions[chunk.index] for chunk in chunks)
    expected = flat(match(grads, staging(params, 1024)[0]), chunks)
    np.testing.assert_array_equal(flat(gradients, chunks), expected)
    grads["a"] = grads["a"] * 2
    grads["a"][31, 7] = np.inf
    assert match(grads, place).first_bad() == "gradient of 'a' is inf at (31, 7)"
