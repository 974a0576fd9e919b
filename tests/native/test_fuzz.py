"""Fuzz of the compiled loops: no size, offset, kind of array or number crashes them or has them write elsewhere.

``scripts/sanitize`` runs these, and the rest of this folder, with loops that look after each of their own accesses.
"""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ps import native
from support.long import cases

compiled: Any = native.kernels()
if compiled is None:
    pytest.skip(f"NumPy's lines run here: {native.outcome('native')}", allow_module_level=True)

MANY = settings(max_examples=cases(100, 10_000))
SIZES = st.integers(0, 70) | st.integers(1000, 1100) | st.sampled_from([2047, 2048, 2049, 4097])
SLOTS = {"adam": (2, 4), "sgd": (0, 1), "ftrl": (2, 3), "lion": (1, 4)}


@MANY
@given(
    name=st.sampled_from(list(SLOTS)),
    kind=st.sampled_from(["f4", "f8"]),
    size=SIZES,
    ends=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    places=st.lists(st.integers(0, 3), min_size=9, max_size=9),
    parts=st.lists(st.sampled_from(["like", "e", "u2"]), min_size=1, max_size=3),
)
def test_nothing_beside_the_elements_asked_for_is_written(
    name: str, kind: str, size: int, ends: tuple[float, float], places: list[int], parts: list[str]
) -> None:
    rng, dtype = np.random.default_rng(size), np.dtype(kind)
    lo, hi = sorted(int(end * size) for end in ends)
    wholes: list[tuple[np.ndarray, slice]] = []

    def place(dtype: Any, written: bool) -> np.ndarray:
        """Return an array somewhere within another, of which this remembers what must stay as it is."""
        at, kind = places[len(wholes)], np.dtype(dtype)
        whole = rng.integers(1, 255, (size + 8) * kind.itemsize, dtype=np.uint8).view(kind)
        whole[:] = rng.integers(1, 9, size + 8)
        wholes.append((whole, slice(at + lo, at + hi) if written else slice(0, 0)))
        return whole[at : at + size]

    slots, numbers = SLOTS[name]
    like = dtype if kind == "f8" else np.dtype(np.float32)
    w, half = place(like, True), place("u2", True) if kind == "f4" else None
    state = tuple(place(like, True) for _ in range(slots))
    given = tuple(place(like if part == "like" or kind == "f8" else part, False) for part in parts)
    before = [whole.copy() for whole, _ in wholes]
    constants, shares = (0.1,) * numbers, (0.5,) * len(given)
    assert compiled.update(name, w, state, constants, given, shares, 0.3, 1.0, 0.1, half, 0.0, lo, hi) is True
    assert compiled.combine(w, given, shares, 0.3, 0.0, lo, hi) is True
    assert compiled.copy(w[lo:hi], given[0][lo:hi], 1e9) in (True, None)
    assert compiled.add(w[lo:hi], state[0][lo:hi] if state else w[lo:hi], 0.5) is True
    if half is not None:
        assert compiled.narrow(w[lo:hi], half[lo:hi], 3.0) is compiled.widen(half[lo:hi], w[lo:hi]) is True
    for (whole, written), old in zip(wholes, before, strict=True):
        now = whole.copy()
        now[written] = old[written]
        assert now.tobytes() == old.tobytes()


KINDS = ["f4", "f8", "e", "u2", "u1", "i1", "i4", "c8", ">f4", "?", "S3", "O", "M8[s]", ml_dtypes.bfloat16]


@st.composite
def things(draw: st.DrawFn) -> Any:
    """Return an array, more or less as the loops want it, or whatever else."""
    kind = draw(st.sampled_from(KINDS))
    if draw(st.integers(0, 9)) == 0:
        return draw(st.sampled_from([None, 3, "w", b"abcd", 1.5, (), [1.0], bytearray(8), bytearray(64)]))
    size = draw(st.sampled_from([0, 1, 5, 64, 64, 64, 64, 3000]))
    array = np.zeros(size, kind)
    match draw(st.integers(0, 12)):
        case 0:
            return array[::2]
        case 1:
            return array[::-1]
        case 2:
            return array.reshape(1, -1)
        case 3:
            return array.reshape(-1, 1)[:, 0]
        case 4:
            array.flags.writeable = False
        case 5 if size and kind not in ("O", ml_dtypes.bfloat16):
            return np.frombuffer(bytearray(array.nbytes + 1), kind, size, 1)
        case 6:
            return array.reshape(-1)[0:0]
        case 7 if size == 64:
            return np.broadcast_to(array[:1], 64)
        case 8:
            return np.array(1.0, kind) if kind in ("f4", "f8") else array
    return array


ODD = [
    0.5,
    0,
    1,
    -1.0,
    float("nan"),
    float("inf"),
    1e308,
    np.float64(2),
    np.float32(2),
    None,
    "1",
    1 << 70,
    10**400,
    True,
]
NUMBERS = st.sampled_from(ODD)
TUPLES = st.lists(things(), max_size=4).map(tuple) | st.sampled_from([(), None, [1.0]])
COUNTS = st.sampled_from([0, 1, 5, 64, 63, 65, -1, 1 << 40, -(1 << 62), 1 << 70])
SHARES = st.lists(NUMBERS, max_size=4).map(tuple)
CALLS: dict[str, tuple[Any, ...]] = {
    "add": (things(), things(), NUMBERS),
    "check": (things(), NUMBERS),
    "combine": (things(), TUPLES, SHARES, NUMBERS, NUMBERS, COUNTS, COUNTS),
    "copy": (things(), things(), NUMBERS),
    "dequantize": (things(), things(), things(), COUNTS),
    "from_bits": (things(), things(), things(), things(), COUNTS),
    "narrow": (things(), things(), NUMBERS),
    "quantize": (things(), things(), things(), things(), NUMBERS | st.just(1 / 127), NUMBERS | st.just(1e-30)),
    "square_sum": (things(),),
    "to_bits": (things(), things(), things(), things()),
    "update": (
        st.sampled_from([*compiled.OPTIMIZERS, "", "a\0b", "ſ", 3]),
        *(
            things(),
            TUPLES,
            SHARES,
            TUPLES,
            SHARES,
            NUMBERS,
            NUMBERS,
            NUMBERS,
            things() | st.none(),
            NUMBERS,
            COUNTS,
            COUNTS,
        ),
    ),
    "widen": (things(), things()),
}
FAILURES = (TypeError, ValueError, BufferError, OverflowError)


@pytest.mark.parametrize("name", CALLS)
@MANY
@given(st.data())
def test_whatever_is_given_is_done_or_declined_or_refused(name: str, data: st.DataObject) -> None:
    arguments = [data.draw(argument) for argument in CALLS[name]]
    if data.draw(st.integers(0, 20)) == 0:
        arguments = arguments[: data.draw(st.integers(0, len(arguments)))]
    try:
        found = getattr(compiled, name)(*arguments)
        assert found in (True, False, None) or name == "square_sum"
    except FAILURES as error:
        assert str(error)
