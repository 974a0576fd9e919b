"""Promises of the layout: every element has one place and one owner, and the owners' shares are equal."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ps.errors import BadMessage, LayoutMismatch, UsageError
from ps.protocol import layout as module
from ps.protocol.layout import ALIGN, KINDS, Chunk, Layout, dtype_of
from ps.protocol.messages import Packed
from support.long import cases

DTYPES = KINDS["trainable"]
SECTIONS = (
    *DTYPES,
    "float32/trainable/*.bias weight_decay=0.0",
    "float32/trainable/a/b lr=0.1",
    "float16/trainable/h ",
)
shapes = st.lists(st.integers(0, 9), max_size=4).map(tuple) | st.tuples(st.integers(1, 40_000))
sizes = st.integers(1, 40) | st.integers(1_000, 9_000) | st.integers(50_000, 30_000_000)


@st.composite
def layouts(draw: st.DrawFn, shape: st.SearchStrategy[tuple[int, ...]] = shapes) -> Layout:
    rows = draw(st.lists(st.tuples(st.sampled_from(SECTIONS), shape), min_size=1, max_size=12))
    packed = tuple((f"t{i}", dtype, dims) for i, (dtype, dims) in enumerate(rows))
    assume(any(np.prod(dims) for _, _, dims in packed))
    return Layout.unpack(packed)


def demand_partition(layout: Layout, chunks: tuple[Chunk, ...], servers: int, chunk_size: int) -> None:
    assert [chunk.index for chunk in chunks] == list(range(len(chunks)))
    for section, (offset, size) in layout.sections().items():
        itemsize = dtype_of(section).itemsize
        mine = [chunk for chunk in chunks if chunk.section == section]
        assert mine[0].start == 0
        assert mine[-1].stop == size
        for before, after in itertools.pairwise(mine):
            assert before.stop == after.start
        for chunk in mine:
            assert 0 < chunk.nbytes <= chunk_size
            assert chunk.nbytes == chunk.size * itemsize
            assert chunk.offset == offset + chunk.start * itemsize
            assert 0 <= chunk.server < servers
    assert sum(chunk.nbytes for chunk in chunks) == sum(
        size * dtype_of(section).itemsize for section, (_, size) in layout.sections().items()
    )


@settings(max_examples=cases(100, 300), deadline=None)
@given(layouts())
def test_every_element_of_the_model_has_exactly_one_place(layout: Layout) -> None:
    buffer = np.zeros(layout.nbytes, np.uint8)
    views = layout.views(layout.flat(buffer))
    assert list(views) == [tensor.name for tensor in layout.tensors]
    for tensor in layout.tensors:
        view = views[tensor.name]
        assert (view.shape, str(view.dtype)) == (tensor.shape, tensor.dtype)
        view += 1
    for vector in layout.flat(buffer).values():
        assert (vector == 1).all()
        assert vector.ctypes.data % 8 == 0
    assert all(offset % ALIGN == 0 for offset, _ in layout.sections().values())


@settings(max_examples=cases(200, 500), deadline=None)
@given(layouts(), st.integers(1, 9), st.integers(ALIGN, 70_000))
def test_chunks_cut_every_section_without_gap_or_overlap(layout: Layout, servers: int, chunk_size: int) -> None:
    chunks = layout.chunks(servers, chunk_size)
    demand_partition(layout, chunks, servers, chunk_size)
    assert chunks == Layout.unpack(layout.pack()).chunks(servers, chunk_size)


@settings(max_examples=cases(200, 500), deadline=None)
@given(layouts(st.tuples(sizes)), st.integers(1, 16), st.sampled_from([1 << 10, 1 << 14, 1 << 20, 4 << 20, 1_000_000]))
def test_no_server_holds_over_one_percent_more_than_another(layout: Layout, servers: int, chunk_size: int) -> None:
    assume(layout.nbytes // chunk_size < 5_000)
    chunks = layout.chunks(servers, chunk_size)
    demand_partition(layout, chunks, servers, chunk_size)
    held = [sum(chunk.nbytes for chunk in chunks if chunk.server == server) for server in range(servers)]
    one_element_each = sum(dtype_of(section).itemsize for section in layout.sections())
    assert max(held) - min(held) <= 0.01 * min(held) + one_element_each


@pytest.mark.parametrize("servers", [1, 2, 3, 7, 16])
@pytest.mark.parametrize("dtype", DTYPES)
def test_small_models_are_divided_to_the_element(servers: int, dtype: str) -> None:
    for size in range(1, 300):
        chunks = Layout.unpack((("w", dtype, (size,)),)).chunks(servers, 1 << 10)
        held = [sum(chunk.size for chunk in chunks if chunk.server == server) for server in range(servers)]
        assert max(held) - min(held) <= 1
        assert sum(held) == size


def test_chunks_of_a_large_model_begin_at_cache_lines_and_visit_all_servers_first() -> None:
    chunks = Layout.unpack((("w", "float32", (10_000_019,)),)).chunks(3, 1 << 20)
    assert all(chunk.offset % ALIGN == 0 for chunk in chunks)
    assert [chunk.server for chunk in chunks[:6]] == [0, 1, 2, 0, 1, 2]


def test_a_model_of_many_tiny_tensors_is_still_few_chunks() -> None:
    layout = Layout.unpack(tuple((f"t{i}", "float32", (1,)) for i in range(5000)))
    assert len(layout.chunks(2, 1 << 20)) == 2


def test_too_many_chunks_are_refused_instead_of_counted_out() -> None:
    huge = Layout.unpack((("w", "float32", (1 << 37,)),))
    with pytest.raises(BadMessage, match="chunks of 64 bytes; the limit is"):
        huge.chunks(1, ALIGN)
    assert len(huge.chunks(4, 32 << 20)) == (1 << 39) // (32 << 20)


@pytest.mark.parametrize("servers, chunk_size", [(0, 1 << 20), (-1, 1 << 20), (1, 0), (1, ALIGN - 1), (1, -5)])
def test_impossible_cuts_are_refused(servers: int, chunk_size: int) -> None:
    with pytest.raises(BadMessage, match="are possible"):
        Layout.unpack((("w", "float32", (8,)),)).chunks(servers, chunk_size)


@pytest.mark.parametrize(
    "packed, why",
    [
        ((), "not 0"),
        ((("w", "float8", (1,)),), "float8"),
        ((("w", "int64/counter/g lr=1", (1,)),), "counter"),
        ((("w", "float16/control", (1,)),), "float16/control"),
        ((("w", "float32/", (1,)),), "dtype"),
        ((("w", "float32/trainable", (1,)),), "dtype"),
        (tuple((f"t{i}", f"float32/trainable/g{i} ", (1,)) for i in range(module.MAX_SECTIONS + 1)), "of 1001 groups"),
        ((("w", "f" * 1000, (1,)),), "dtype"),
        ((("w", "float32", (-1,)),), "shape"),
        ((("w", "float32", (1,) * 33),), "'w' has 33 dimensions; at most 32"),
        ((("", "float32", (1,)),), "tensor ''"),
        ((("n" * 201, "float32", (1,)),), "tensor"),
        ((("w", "float32", (1,)), ("w", "float64", (1,))), "same name"),
        ((("w", "float32", (0,)),), "no elements"),
        ((("w", "float32", ()), ("v", "float32", (1 << 62, 1 << 62, 1 << 62))), "larger than"),
        ((("w", "float32", ((1 << 37) + 1,)),), "larger than"),
        (tuple((f"t{i}", "float32", (1,)) for i in range(module.MAX_TENSORS + 1)), "not 20001"),
    ],
)
def test_what_is_no_layout_is_refused_in_few_words(packed: Packed, why: str) -> None:
    with pytest.raises(BadMessage, match=why) as caught:
        Layout.unpack(packed)
    assert len(str(caught.value)) < 500


def test_arrays_that_cannot_be_trained_are_refused_by_name() -> None:
    with pytest.raises(UsageError, match="tensor 'idx' has dtype int64"):
        Layout.of({"w": np.zeros(3), "idx": np.zeros(3, np.int64)})
    with pytest.raises(UsageError, match="tensor name ''"):
        Layout.of({"": np.zeros(3)})
    with pytest.raises(UsageError, match="tensor name 3"):
        Layout.of({3: np.zeros(3)})  # type: ignore[dict-item]
    with pytest.raises(UsageError, match="1 to 20000 tensors"):
        Layout.of({})


A = (("a", "float32", (2,)), ("b", "float32", (3,)), ("c", "float64", (1,)))


@pytest.mark.parametrize(
    ("other", "text"),
    [
        ((A[0], ("b", "float32", (4,)), ("c", "float64", (2,))), r"me has b float32\[3\] where you has b float32\[4\]"),
        ((A[1], A[0], A[2]), r"me has a float32\[2\] where you has b float32\[3\]"),
        ((A[0], A[1], ("c", "float32", (1,))), r"me has c float64\[1\] where you has c float32\[1\]"),
        (A[:2], r"only me has c float64\[1\]"),
        ((*A, ("d", "float32", ())), r"only you has d float32\[\]"),
        ((A[0], A[2]), r"me has b float32\[3\] where you has c float64\[1\]"),
        ((A[0], ("b", "float32", (1, 3)), A[2]), r"me has b float32\[3\] where you has b float32\[1, 3\]"),
    ],
)  # fmt: skip
def test_a_difference_is_told_by_its_first_tensor(other: Packed, text: str) -> None:
    with pytest.raises(LayoutMismatch, match=text):
        Layout.unpack(A).demand_equal(Layout.unpack(other), "me", "you")


@settings(max_examples=cases(100, 200), deadline=None)
@given(layouts(), layouts())
def test_layouts_are_equal_exactly_when_nothing_differs(a: Layout, b: Layout) -> None:
    Layout.unpack(a.pack()).demand_equal(a, "me", "you")
    assert Layout.unpack(a.pack()).digest() == a.digest()
    if a != b:
        assert a.digest() != b.digest()
        with pytest.raises(LayoutMismatch):
            a.demand_equal(b, "me", "you")
