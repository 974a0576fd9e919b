"""KV's tensors: whose memory a pull and a push use, and what may be given as parameters. Without a cluster."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ps import xp
from ps.errors import UsageError
from ps.testing import STRICT, StrictArray
from ps.worker import KV
from support.loopback import model

Local = Callable[..., KV]


class Foreign:
    """A tensor of another library: speaks DLPack, and has its own idea of a dtype."""

    dtype, shape = "torch.float32", "torch.Size([2])"

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def __dlpack_device__(self) -> tuple[int, int]:
        return (1, 0)

    def __dlpack__(self, **kwargs: Any) -> Any:
        return self.array.__dlpack__(**kwargs)


def test_a_pull_before_any_push_brings_the_first_values(local: Local) -> None:
    kv = local()
    first = model((3,), (2, 2))
    kv.init(first)
    out = {name: np.zeros_like(value) for name, value in first.items()}
    kv.wait(kv.pull(out))
    np.testing.assert_equal(out, first)


def test_two_pulls_at_once_do_not_share_their_memory(local: Local) -> None:
    kv = local(optimizer="sgd:lr=1")
    params = kv.init({"w": np.zeros(3)})
    a, b = {"w": np.full(3, 9.0)}, {"w": np.full(3, 9.0)}
    first = kv.pull(a)
    kv.wait(kv.push({"w": np.ones(3)}))
    second = kv.pull(b)
    kv.wait(second)
    kv.wait(first)
    assert (a["w"][0], b["w"][0], params["w"][0]) == (0, -1, -1)
    kv.wait(first)  # nothing is delivered twice
    assert a["w"][0] == 0


def test_what_init_returns_changes_in_place_and_is_what_pull_and_push_pull_know_as_their_own(local: Local) -> None:
    kv = local(optimizer="sgd:lr=1")
    given = model((2, 3), ())
    params = kv.init(given)
    assert list(params) == list(given)
    views = dict(params.items())
    kv.step({name: np.ones_like(value) for name, value in given.items()})
    kv.push_pull({name: np.ones_like(value) for name, value in given.items()}, params)
    kv.wait(kv.pull(params))
    for name in given:
        assert params[name] is views[name] is kv.params[name]
        np.testing.assert_allclose(params[name], given[name] - 2, rtol=1e-6)


def test_gradients_are_copied_by_push_and_may_be_reused_at_once(local: Local) -> None:
    kv = local(optimizer="sgd:lr=1")
    params = kv.init({"w": np.zeros(3)})
    grads = {"w": np.ones(3)}
    handles = []
    for _ in range(3):  # without a wait between them
        handles.append(kv.push(grads))
        grads["w"][...] = 100
        grads["w"][...] = 1
    for handle in handles:
        kv.wait(handle)
    assert params["w"][0] == -3


def test_parameters_as_gradients_are_the_gradient_of_their_own_norm(local: Local) -> None:
    kv = local(optimizer="adamw:lr=0.1,weight_decay=0.5")
    other = local(optimizer="adamw:lr=0.1,weight_decay=0.5")
    params, expected = kv.init(model((500,))), other.init(model((500,)))
    for _ in range(3):
        kv.step(params)
        other.step({"a": expected["a"].copy()})
    np.testing.assert_array_equal(params["a"], expected["a"])


def test_weights_go_into_foreign_tensors_and_nowhere_else_than_where_they_fit(local: Local) -> None:
    kv = local(optimizer="sgd:lr=1")
    kv.init({"w": np.zeros(2, np.float32)})
    target = np.ones(2, np.float32)
    kv.push_pull({"w": Foreign(np.ones(2, np.float32))}, {"w": Foreign(target)})
    assert target.tolist() == [-1, -1]
    frozen = np.ones(2, np.float32)
    frozen.flags.writeable = False
    for out, text in (
        ({}, "nowhere to put tensor 'w'"),
        ({"w": np.ones(3, np.float32)}, r"w float32\[2\] cannot go into an array of float32\[3\]"),
        ({"w": np.ones(2)}, "cannot go into an array of float64"),
        ({"w": frozen}, "that is read-only"),
        ({"w": [1.0, 2.0]}, "cannot go into a list"),
        ([1], "weights go into a dict of arrays, not into list"),
    ):
        with pytest.raises(UsageError, match=text):
            kv.pull(out)  # type: ignore[arg-type]
        with pytest.raises(UsageError, match=text):
            kv.push_pull({"w": np.ones(2, np.float32)}, out)  # type: ignore[arg-type]
    assert kv.clock == 1  # and nothing was applied


def test_a_device_gets_tensors_of_its_own_even_empty_ones(local: Local, strict_device: xp.Device) -> None:
    kv = local(strict_device)
    params = kv.init({"w": STRICT.to_device(np.ones(3, np.float32)), "none": np.zeros((0, 2)), "s": np.float32(2)})
    assert all(isinstance(value, StrictArray) for value in params.values())
    assert params["none"].shape == (0, 2)


def test_a_pull_into_the_parameters_on_a_device_is_not_undone_by_what_follows(
    local: Local, strict_device: xp.Device
) -> None:
    kv = local(strict_device, optimizer="sgd:lr=1")
    params = kv.init({"w": np.zeros(2)})
    kv.wait(kv.push({"w": STRICT.to_device(np.ones(2))}))
    assert xp.to_host(params["w"])[0] == 0
    kv.wait(kv.pull(params))
    kv.barrier()
    assert xp.to_host(params["w"])[0] == -1


@pytest.mark.parametrize("value", [np.nan, -np.inf, 1e30])
def test_first_values_that_cannot_be_trained_are_refused_where_they_are_given(local: Local, value: float) -> None:
    kv = local()
    bad = np.ones((2, 3), np.float32)
    bad[1, 2] = value
    with pytest.raises(UsageError, match=r"the first value of 'w' is .* at \(1, 2\); training begins with numbers"):
        kv.init({"v": np.ones(2), "w": bad})
    params = kv.init({"v": np.ones(2), "mask": bad}, kinds={"mask": "buffer"})  # an attention mask may have -inf
    np.testing.assert_array_equal(params["mask"], bad)


def test_gradients_begin_as_zeros(local: Local) -> None:
    kv = local()
    kv.init({"w": np.ones(100_000)})
    assert not kv.grads["w"].any()


SQUARE = np.ones((3, 3))
TIED = {
    "the same array": (SQUARE, SQUARE),
    "two views of it": (SQUARE[:], SQUARE[:]),
    "transposed": (SQUARE, SQUARE.T),
    "backwards": (SQUARE, SQUARE[::-1]),
    "a part": (SQUARE, SQUARE[1:]),
}


@pytest.mark.parametrize("first", ["in", "out"])
@pytest.mark.parametrize("tied", TIED.values(), ids=TIED)
def test_tied_arrays_are_trained_apart_with_a_word(
    local: Local, caplog: pytest.LogCaptureFixture, tied: tuple[np.ndarray, np.ndarray], first: str
) -> None:
    arrays = {"in": tied[0], "other": np.ones(3), "out": tied[1]}
    local().init(dict(sorted(arrays.items(), reverse=first == "out")))
    named = [r.getMessage()[:22] for r in caplog.records if "one array" in r.getMessage()]
    assert named == [f"{first!r} and {('out' if first == 'in' else 'in')!r} are one"]


def test_arrays_that_lie_between_each_others_elements_are_not_tied(
    local: Local, caplog: pytest.LogCaptureFixture
) -> None:
    both = np.ones((4, 6))
    local().init({"even": both[:, ::2], "odd": both[:, 1::2], "none": both[:0]})
    assert not [r for r in caplog.records if "one array" in r.getMessage()]
