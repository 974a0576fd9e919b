"""randomk: every element has its turn, and everybody draws the same."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ps.compress import Key
from ps.compress.randomk import RandomK
from support.vectors import KEY, encode


@given(st.integers(1, 5000), st.floats(0.001, 1), st.integers(0, 2**32))
def test_as_many_as_wanted_are_drawn_in_order_one_from_each_part(size: int, ratio: float, seed: int) -> None:
    codec = RandomK(ratio)
    drawn = codec.draw(size, Key(seed, 0, 0, 0))
    count = codec.count(size)
    assert drawn.size == count == min(size, max(1, round(size * ratio)))
    starts = np.arange(count) * size // count
    ends = np.arange(1, count + 1) * size // count
    assert ((starts <= drawn) & (drawn < ends)).all()


@pytest.mark.parametrize(("size", "ratio"), [(100, 0.1), (103, 0.1), (7, 0.01), (64, 0.3)])
def test_every_element_comes_as_often_as_every_other(size: int, ratio: float) -> None:
    codec, times = RandomK(ratio), 20_000
    drawn = np.concatenate([codec.draw(size, Key(1, clock, 0, 0)) for clock in range(times)])
    share = np.bincount(drawn, minlength=size) / times
    parts = codec.count(size)
    lengths = np.diff(np.arange(parts + 1) * size // parts)
    np.testing.assert_allclose(share, np.repeat(1 / lengths, lengths), atol=5 * 0.5 / times**0.5)


def test_workers_draw_alike_and_chunks_and_clocks_do_not() -> None:
    draw = RandomK(0.1).draw
    assert draw(1000, KEY).tolist() == draw(1000, Key(KEY.seed, KEY.clock, KEY.chunk, KEY.rank + 1)).tolist()
    others = [Key(9, 3, 2, 1), Key(5, 9, 2, 1), Key(5, 3, 9, 1)]
    assert len({tuple(draw(1000, key)) for key in (KEY, *others)}) == 4


def test_only_values_travel() -> None:
    assert encode("randomk:0.25", np.ones(1000, np.float32)).size == 1000
