"""Promises of the compiled loops: the bits of NumPy's lines, whatever is given; what they cannot do is left alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any
from unittest import mock

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ps import native
from ps.aggregators.running_sum import RunningSum
from ps.compress import CODECS, Key
from ps.errors import BadMessage
from ps.half import narrow, widen
from ps.optim import OPTIMIZERS, WeightedSum, apply, square_sum
from ps.optim.clip import BLOCK
from ps.optim.limit import LIMITS, within_limit
from ps.threads import ThreadTeam
from support.long import cases

compiled = native.kernels()
if compiled is None:
    pytest.skip(f"NumPy's lines run here: {native.outcome('native')}", allow_module_level=True)

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
FLOATS = ("float32", "float64")
SIZES = st.integers(0, 40) | st.sampled_from([1023, 1024, 1025, 2050, 5000])
SPECIAL = [
    0.0,
    -0.0,
    1e-45,
    -1e-45,
    1e-40,
    -3e-39,
    1.0,
    -1.0,
    2.0**-100,
    -(2.0**-101),
    6e-8,
    -65520.0,
    65519.0,
    2.0**54,
]
SPECIAL += [1e30, -1e30, 3.4e38, np.inf, -np.inf, np.nan]


class Spy:
    """The compiled loops, which must do whatever they are asked for."""

    def __getattr__(self, name: str) -> Any:
        loop = getattr(compiled, name)

        def call(*arguments: Any) -> Any:
            found = loop(*arguments)
            assert found is not None, f"{name} did nothing"
            return found

        return call


def by(kernels: str, work: Callable[[], Any]) -> Any:
    """Return what ``work`` gives with these kernels."""
    used = {"native": Spy(), "auto": compiled, "numpy": None}[kernels]
    with mock.patch.object(native, "_used", used), np.errstate(all="ignore"):
        return work()


def vector(rng: np.random.Generator, size: int, dtype: Any, odd: bool, *, offset: int = 0) -> np.ndarray:
    """Return numbers, some of them odd, ``offset`` bytes behind where such an array may begin."""
    with np.errstate(all="ignore"):
        numbers = (rng.standard_normal(size) * 10.0 ** rng.integers(-9, 3, size)).astype(dtype)
        if odd:
            at = rng.random(size) < 0.3
            numbers[at] = rng.choice(SPECIAL, size)[at].astype(dtype)
    memory = np.zeros(numbers.nbytes + 16, np.uint8)
    found = np.frombuffer(memory.data, dtype, size, offset)
    np.copyto(
        found.view(np.uint8) if found.flags.aligned else memory[offset : offset + numbers.nbytes], numbers.view("u1")
    )
    return found


def demand_same(found: np.ndarray, expected: np.ndarray) -> None:
    """Demand the same bits, or NaN in both."""
    bits = np.dtype(f"u{expected.itemsize}")
    with np.errstate(all="ignore"):
        nan = np.isnan(found) & np.isnan(expected)
    at = np.flatnonzero((found.view(bits) != expected.view(bits)) & ~nan)
    assert not at.size, f"{at.size} differ, first at {at[0]}: {found[at[0]]!r}, NumPy has {expected[at[0]]!r}"


def steps(
    text: str,
    dtype: str,
    size: int,
    parts: list[np.ndarray],
    weights: list[float],
    half: Any,
    odd: bool,
    **options: Any,
) -> list[np.ndarray]:
    """Return weights, state and half copy after three updates."""
    optimizer = OPTIMIZERS.parse(text).build()
    w = vector(np.random.default_rng(7), size, dtype, odd)
    state, copy = optimizer.init(w), None if half is None else np.zeros(size, half)
    for t in range(1, 4):
        gradient = parts[0] if len(parts) == 1 and parts[0].dtype == w.dtype else WeightedSum(parts, weights)
        scale = options["scale"] * (gradient.factor if isinstance(gradient, WeightedSum) else 1.0)
        apply(optimizer, w, gradient, state, lr=optimizer.lr, t=t, half=copy, **{**options, "scale": scale})
    return [w, *state.values(), *([] if copy is None else [copy])]


DECAYING = [name if name == "ftrl" else f"{name}:weight_decay=0.1" for name in OPTIMIZERS]


@settings(max_examples=cases(200, 5000))
@given(
    text=st.sampled_from([*OPTIMIZERS, *DECAYING, "ftrl:l1=0.3,l2=0.1"]),
    dtype=st.sampled_from([*FLOATS, "float16", "bfloat16"]),
    size=SIZES,
    weights=st.lists(st.sampled_from([1.0, 1.0, 0.0, 3.0, 7.5, 1e-30]), min_size=1, max_size=5),
    offset=st.integers(0, 9),
    odd=st.booleans(),
    scale=st.sampled_from([1.0, 0.5, 1 / 3, 1e-46, 1e300]),
    clip_value=st.none() | st.sampled_from([0.3, 1e-50]),
    threads=st.sampled_from([1, 3]),
    seed=st.integers(0, 99),
)
def test_an_update_has_the_bits_of_numpys_lines(
    text: str,
    dtype: str,
    size: int,
    weights: list[float],
    offset: int,
    odd: bool,
    scale: float,
    clip_value: float | None,
    threads: int,
    seed: int,
) -> None:
    rng = np.random.default_rng(seed)
    half = BFLOAT16 if dtype == "bfloat16" else np.dtype(dtype) if dtype == "float16" else None
    parts = [vector(rng, size, half or dtype, odd, offset=offset) for _ in weights]
    team = ThreadTeam(threads, least_bytes=1)

    def work() -> list[np.ndarray]:
        main = "float32" if half is not None else dtype
        return steps(text, main, size, parts, weights, half, odd, scale=scale, clip_value=clip_value, team=team)

    for found, expected in zip(by("native", work), by("numpy", work), strict=True):
        demand_same(found, expected)


EVERY_HALF = np.arange(1 << 16, dtype=np.uint16)
with np.errstate(invalid="ignore"):  # some processors tell of signalling NaNs
    NEARBY = np.concatenate([EVERY_HALF.view(kind).astype(np.float32) for kind in (np.float16, BFLOAT16)])
BITS = np.random.default_rng(0).integers(0, 1 << 32, 200_000, dtype=np.uint32)
with np.errstate(all="ignore"):
    BESIDE = [np.nextafter(NEARBY, np.float32(to)) for to in (np.inf, -np.inf)]
SINGLES = np.concatenate([NEARBY, *BESIDE, BITS.view(np.float32)])
halves = pytest.mark.parametrize("half", [np.dtype(np.float16), BFLOAT16], ids=str)


@halves
def test_casts_are_those_of_numpy_for_every_half_and_what_lies_beside_it(half: np.dtype) -> None:
    def work() -> tuple[np.ndarray, np.ndarray]:
        single, narrowed = np.empty(EVERY_HALF.size, np.float32), np.empty(SINGLES.size, half)
        widen(EVERY_HALF.view(half), single)
        narrow(SINGLES, narrowed)
        return single, narrowed

    for found, expected in zip(by("native", work), by("numpy", work), strict=True):
        demand_same(found, expected)


@halves
def test_a_nan_keeps_its_sign_in_a_cast_and_as_bfloat16_nothing_else(half: np.dtype) -> None:
    nan = np.concatenate([BITS | 0x7F800001, BITS & 0x807FFFFF | 0x7F800001]).view(np.float32)
    narrowed = np.empty(nan.size, half)
    assert compiled is not None and compiled.narrow(nan, native.raw(narrowed), None)
    assert np.isnan(narrowed).all() and (np.signbit(narrowed) == np.signbit(nan)).all()
    if half == BFLOAT16:
        assert set(narrowed.view(np.uint16).tolist()) <= {0x7FC0, 0xFFC0}
        demand = EVERY_HALF.view(half)
        single = np.empty(demand.size, np.float32)
        assert compiled.widen(EVERY_HALF, single)
        assert (single.view(np.uint32) == EVERY_HALF.astype(np.uint32) << 16).all(), "a payload was lost on its way up"


@given(st.sampled_from(list(LIMITS)), st.integers(1, 9000), st.integers(0, 15), st.data())
def test_a_check_finds_the_one_element_that_cannot_be_used(
    dtype: str, size: int, offset: int, data: st.DataObject
) -> None:
    kind = BFLOAT16 if dtype == "bfloat16" else np.dtype(dtype)
    x, limit = vector(np.random.default_rng(size), size, kind, False, offset=offset), LIMITS[dtype]
    copy, fine = np.zeros(size, kind), [kind.type(limit), kind.type(-limit), kind.type(0)]
    worse = np.nextafter(np.array(limit, kind), kind.type(np.inf)) if kind.itemsize > 2 else kind.type(np.inf)
    for value in [*fine, worse, -worse, np.nan, -np.inf]:
        at = data.draw(st.integers(0, size - 1))
        before = x[at]
        x[at] = value
        usable = bool(np.abs(value) <= limit)
        assert within_limit(x) is usable is by("numpy", lambda: within_limit(x))
        assert compiled is not None and compiled.copy(native.raw(copy), native.raw(x), limit) is usable
        assert copy.tobytes() == x.tobytes()
        x[at] = before


@given(st.sampled_from(FLOATS), SIZES, st.lists(st.floats(-1e30, 1e30), min_size=1, max_size=4), st.booleans())
def test_a_running_sum_has_the_bits_of_numpys_lines(dtype: str, size: int, numbers: list[float], odd: bool) -> None:
    rng = np.random.default_rng(size)
    parts = [vector(rng, size, dtype, odd) for _ in numbers]

    def work() -> np.ndarray:
        running = RunningSum(size, np.dtype(dtype), ThreadTeam(2, least_bytes=1))
        for part, number in zip(parts, numbers, strict=True):
            running.add(part, number)
        return running.take()

    demand_same(by("native", work), by("numpy", work))


@given(
    st.sampled_from([*FLOATS, "float16", "bfloat16"]),
    SIZES | st.sampled_from([BLOCK - 1, BLOCK + 1023]),
    st.integers(0, 9),
    st.booleans(),
)
def test_a_sum_of_squares_has_the_bits_of_numpys_lines(dtype: str, size: int, offset: int, odd: bool) -> None:
    kind = BFLOAT16 if dtype == "bfloat16" else np.dtype(dtype)
    x = vector(np.random.default_rng(size), size, kind, odd, offset=offset)

    def work() -> np.ndarray:
        return np.array([square_sum(x, team=ThreadTeam(threads)) for threads in (1, 2)])

    demand_same(by("auto", work), by("numpy", work))


@given(st.sampled_from([*FLOATS, "float16", "bfloat16"]), SIZES, st.integers(1, 5), st.integers(0, 9), st.booleans())
def test_a_combined_gradient_has_the_bits_of_numpys_lines(
    dtype: str, size: int, n: int, offset: int, odd: bool
) -> None:
    rng = np.random.default_rng(size)
    kind = BFLOAT16 if dtype == "bfloat16" else np.dtype(dtype)
    added = WeightedSum([vector(rng, size, kind, odd, offset=offset) for _ in range(n)], rng.integers(0, 3, n).tolist())
    lo, hi = sorted(rng.integers(0, size + 1, 2).tolist())

    def work() -> np.ndarray:
        out = np.empty(hi - lo, added.dtype)
        added.write(lo, hi, out, 0.3)
        return out

    demand_same(by("native", work), by("numpy", work))


def test_the_sum_of_a_gradients_parts_is_looked_at_in_the_same_pass() -> None:
    assert compiled is not None
    w, x, y = (np.ones(3000, np.float32) for _ in range(3))
    update = "sgd", w, (), (0.1,), (x, y), (1.0, 0.5), 1.0, None, 0.0, None
    assert compiled.update(*update, 2.0, 0, 3000) is True
    assert compiled.combine(w, (x, y), (1.0, 0.5), 1.0, 2.0, 0, 3000) is True
    for value in (np.nan, -np.inf, 9.0):
        y[2777] = value
        assert compiled.update(*update, 2.0, 0, 3000) is False
        assert compiled.update(*update, 2.0, 0, 2777) is compiled.update(*update, 2.0, 2778, 3000) is True
        assert compiled.combine(w, (x, y), (1.0, 0.5), 1.0, 2.0, 0, 3000) is False


def test_what_the_loops_cannot_do_is_left_to_numpy_untouched() -> None:
    assert compiled is not None
    w, g = np.ones(64, np.float32), np.full(64, 2, np.float32)
    unaligned = np.frombuffer(bytearray(64 * 4 + 1), np.float32, 64, 1)

    def sgd(w: Any, g: Any, lr: Any = 0.1, name: str = "sgd", scale: Any = 1.0) -> bool | None:
        return compiled.update(name, w, (), (lr,), (g,), (1.0,), scale, None, 0.0, None, 0.0, 0, len(w))

    declined = [
        sgd(w, g, name="no such optimizer"),
        sgd(w, g, np.float64(0.1)),  # which NumPy computes with in double precision
        sgd(w, g, scale=np.float32(0.1)),
        sgd(w, g.astype(np.float64)),
        sgd(unaligned, g),
        sgd(w[1:], w[:-1]),
        sgd(w[::2], g[::2]),
        sgd(w.reshape(8, 8), g.reshape(8, 8)),
        sgd(w.astype(np.float64), g.astype(np.float16)),
        compiled.check(unaligned, 1.0),
        compiled.copy(w[1:], w[:-1], 1.0),
        compiled.add(w, g.astype(np.float64), 1.0),
        compiled.add(w[1:], w[:-1], 1.0),
        compiled.narrow(w, w, None),
        compiled.widen(w, w),
        compiled.square_sum(unaligned),
        compiled.square_sum(w.astype(np.float16)),
        compiled.square_sum(w[::2]),
    ]
    assert declined == [None] * len(declined)
    assert (w == 1).all() and (g == 2).all() and not unaligned.any()
    assert sgd(w, w) is True and (w == np.float32(0.9)).all(), "the very same memory is no overlap"


def test_what_does_not_fit_is_an_error_and_nothing_is_written() -> None:
    assert compiled is not None
    w, g = np.ones(64, np.float32), np.ones(63, np.float32)
    fixed = np.ones(64, np.float32)
    fixed.flags.writeable = False
    one = (1.0,)
    for wrong in (
        lambda: compiled.update("sgd", w, (), one, (g,), one, 1.0, None, 0.0, None, 0.0, 0, 64),
        lambda: compiled.update("sgd", w, (), one, (w,), one, 1.0, None, 0.0, None, 0.0, 0, 65),
        lambda: compiled.update("sgd", w, (), one, (w,), one, 1.0, None, 0.0, None, 0.0, -1, 64),
        lambda: compiled.update("sgd", w, (), one, (w,), one, 1.0, None, 0.0, None, 0.0, 9, 8),
        lambda: compiled.update("sgd", w, (), (), (w,), one, 1.0, None, 0.0, None, 0.0, 0, 64),
        lambda: compiled.update("adam", w, (w,), one * 4, (w,), one, 1.0, None, 0.0, None, 0.0, 0, 64),
        lambda: compiled.update("sgd", w, (), one, (), (), 1.0, None, 0.0, None, 0.0, 0, 64),
        lambda: compiled.update("sgd", w, (), one, (w, w), one, 1.0, None, 0.0, None, 0.0, 0, 64),
        lambda: compiled.update("sgd", fixed, (), one, (w,), one, 1.0, None, 0.0, None, 0.0, 0, 64),
        lambda: compiled.copy(w, g, 1.0),
        lambda: compiled.add(w, g, 1.0),
        lambda: compiled.add(fixed, w, 1.0),
        lambda: compiled.widen(np.ones(63, np.float16), w),
        lambda: compiled.narrow(w, np.ones(63, np.float16), None),
    ):
        with pytest.raises((ValueError, BufferError)):
            wrong()
    assert (w == 1).all()


def test_every_optimizer_with_a_loop_of_its_own_says_so_and_every_loop_has_one() -> None:
    assert compiled is not None
    kernels = {OPTIMIZERS.parse(name).build().kernel for name in OPTIMIZERS}
    assert {kernel.name for kernel in kernels if kernel.native} == set(compiled.OPTIMIZERS)


def test_an_optimizer_without_a_loop_has_numpys() -> None:
    plain = OPTIMIZERS.parse("sgd").build()
    kernel = dataclasses.replace(plain.kernel, native=False)
    other = SimpleNamespace(**{name: getattr(plain, name) for name in ("coupled", "linear", "slots", "weight_decay")})
    other.kernel, other.constants, other.update = kernel, plain.constants, plain.update
    w = np.ones(10, np.float32)
    with mock.patch.object(native, "_used", SimpleNamespace()):  # which has no loops at all
        apply(other, w, np.ones(10, np.float32), {}, lr=0.5, t=1)
    assert (w == 0.5).all()


@pytest.mark.parametrize("text", ["bf16", "fp16", "int8"])
@given(st.sampled_from(FLOATS), st.integers(1, 3000), st.integers(0, 9), st.integers(0, 99))
def test_a_codec_writes_and_reads_the_same_bytes(text: str, dtype: str, size: int, offset: int, seed: int) -> None:
    values = vector(np.random.default_rng(seed), size, dtype, True)
    values[~np.isfinite(values)] = 1e38
    codec, key = CODECS.parse(text).build(), Key(seed=0, clock=0, chunk=0, rank=0)

    def work() -> tuple[np.ndarray, ...]:
        memory = np.zeros(codec.max_bytes(size, dtype) + offset, np.uint8)
        frame = codec.encode(values, key, {}, memory[offset:])
        decoded = codec.open(frame, size, dtype, key)
        out = np.empty(size, dtype)
        decoded.write(out)
        added = (
            out.copy() if decoded.half is None else WeightedSum([decoded.half], [1.0])(0, size, np.empty(size, dtype))
        )
        return frame.copy(), out, added

    found, expected = by("auto", work), by("numpy", work)
    for one, other in zip(found, expected, strict=True):
        assert one.tobytes() == other.tobytes()
    assert found[1].tobytes() == found[2].tobytes(), "what is added is not what is read"


@pytest.mark.parametrize("text", ["bf16", "fp16"])
@pytest.mark.parametrize("bits", [0x7F80, 0xFF80, 0x7FC1, 0x7C00, 0xFC01])
def test_a_frame_with_nan_or_inf_is_refused(text: str, bits: int) -> None:
    codec, key = CODECS.parse(text).build(), Key(seed=0, clock=0, chunk=0, rank=0)
    halves = np.zeros(3000, np.uint16)
    halves[2900] = bits
    kind = BFLOAT16 if text == "bf16" else np.float16
    with np.errstate(invalid="ignore"):
        refused = not np.isfinite(halves.view(kind).astype(np.float32)).all()
    for kernels in ("auto", "numpy"):
        try:
            by(kernels, lambda: codec.open(halves.view(np.uint8), 3000, np.float32, key))
        except BadMessage as error:
            assert refused and "NaN or Inf" in str(error)
        else:
            assert not refused
