"""Promises of compressed activations: what comes out is as near as the codec says; what is no such number, or has no
room, comes out as it went in; and a job's bits do not depend on how they travel, or on what is measured meanwhile."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ps.compress import ACTIVATION_CODECS, CODECS
from ps.compress.int8 import ROW
from ps.errors import BadMessage
from ps.models import mlp, softmax_cross_entropy
from ps.pipeline import Pipeline
from ps.pipeline.arrays import here
from ps.pipeline.runner import ACTIVATION, GRADIENT, LABELS, LOSS, OF_CHECK, OUTPUTS, PLAN, TIED, Transfer
from ps.testing import LocalCluster
from ps.worker import KV
from ps.worker.pipeline.activation_compression import ActivationCompression
from ps.worker.pipeline.packed_tree import TreePacker

NAMES = [name for name in ACTIVATION_CODECS if name != "none"]
RANDOM = np.random.default_rng(0)
X, Y = RANDOM.standard_normal((96, 6), np.float32), RANDOM.integers(0, 4, 96)
OF_STEP = Transfer(ACTIVATION, 1, 0)


def packer(name: str, rank: int = 0) -> TreePacker:
    return TreePacker(here(), ActivationCompression(ACTIVATION_CODECS.parse(name), seed=3, rank=rank))


def frames(trees: TreePacker, tree: Any, transfer: Transfer = OF_STEP, clock: int = 5) -> tuple[Any, np.ndarray]:
    assert trees.compression is not None
    return trees.pack(tree, encoder=trees.compression.of(transfer, clock))


def there_and_back(trees: TreePacker, tree: Any) -> Any:
    what, memory = frames(trees, tree)
    assert trees.size_of(what) == memory.size
    return trees.unpack(what, memory)


@pytest.mark.parametrize("name", NAMES)
@given(
    seed=st.integers(0, 1 << 16),
    shape=st.lists(st.integers(1, 40), max_size=3).map(tuple),
    exponent=st.integers(-3, 3),
    dtype=st.sampled_from(["float32", "float64"]),
)
def test_what_comes_out_is_as_near_as_the_codec_says(
    name: str, seed: int, shape: tuple[int, ...], exponent: int, dtype: str
) -> None:
    x = np.asarray(np.random.default_rng(seed).standard_normal(shape) * 10.0**exponent, dtype)
    y = there_and_back(packer(name), [x])[0]
    assert (y.shape, y.dtype) == (x.shape, x.dtype)
    flat = np.abs(np.asarray(x)).reshape(-1)
    row = np.concatenate([np.full(part.size, part.max()) for part in np.split(flat, range(ROW, flat.size, ROW))])
    bound = {"bf16": flat * 2.0**-8, "fp16": flat * 2.0**-11 + 2.0**-25, "int8": row / 126}[name]
    assert (np.abs(np.asarray(y - x)).reshape(-1) <= bound * (1 + 1e-6)).all()
    np.asarray(y)[...] = 0  # its own


@pytest.mark.parametrize("name", NAMES)
def test_integers_none_and_halves_come_out_as_they_went_in_and_numbers_take_the_bytes_of_the_codec(name: str) -> None:
    x = RANDOM.standard_normal((64, 1024), np.float32)
    tree = {"ids": np.arange(9), "mask": np.array([True, False]), "none": None, "n": 3, "half": x[:1].astype("float16")}
    found = there_and_back(packer(name), {**tree, "x": x})
    assert all(np.array_equal(found[key], value) for key, value in tree.items())
    assert not np.array_equal(found["x"], x)
    _, memory = frames(packer(name), x)
    assert memory.size == {"bf16": 2 * x.size, "fp16": 2 * x.size, "int8": x.size + 4 * 64}[name]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 65505.0, -3.4e38])
def test_an_array_with_a_number_that_has_no_room_comes_out_as_it_went_in_and_it_is_told_once(
    name: str, bad: float, caplog: pytest.LogCaptureFixture
) -> None:
    x = RANDOM.standard_normal((4, 7), np.float32)
    with_it = x.copy()
    with_it[2, 3] = bad
    trees = packer(name)
    has_room = np.isfinite(bad) and abs(bad) <= {"bf16": 3.3e38, "fp16": 65504, "int8": 3.5e38}[name]
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            one, other = there_and_back(trees, (x, with_it))
            assert not np.array_equal(one, x)
            assert np.array_equal(other, with_it, equal_nan=True) == (not has_room)
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == (not has_room)
    assert all(f"which {name} has no room for" in text for text in said)


def test_only_what_goes_from_stage_to_stage_in_a_step_is_compressed() -> None:
    compression = packer("fp16").compression
    assert compression is not None
    assert all(compression.of(Transfer(kind, 1, 0), 5) for kind in (ACTIVATION, GRADIENT))
    for kind in (LABELS, LOSS, TIED, PLAN, OUTPUTS):
        assert compression.of(Transfer(kind, 1, 0), 5) is None
    assert compression.of(Transfer(ACTIVATION, 1, OF_CHECK), 5) is None
    assert compression.of(Transfer(ACTIVATION, 1, 0), None) is None, "of a batch that is measured"


def test_chance_is_that_of_the_step_the_transfer_the_worker_and_the_array() -> None:
    x = RANDOM.standard_normal(500, np.float32)

    def bits(trees: TreePacker, transfer: Transfer = OF_STEP, clock: int = 5) -> list[bytes]:
        what, memory = frames(trees, [x, x], transfer, clock)
        return [each.tobytes() for each in trees.unpack(what, memory)]

    found = [
        *bits(packer("int8")),
        bits(packer("int8"), clock=6)[0],
        bits(packer("int8", rank=1))[0],
        *(bits(packer("int8"), each)[0] for each in (Transfer(ACTIVATION, 2, 0), Transfer(ACTIVATION, 1, 1))),
        bits(packer("int8"), Transfer(GRADIENT, 1, 0))[0],
    ]
    assert len(set(found)) == len(found)
    assert bits(packer("int8")) == found[:2]


@pytest.mark.parametrize("name", NAMES)
def test_frames_that_nobody_has_encoded_are_refused(name: str) -> None:
    trees = packer(name)
    what, memory = frames(trees, X)
    with pytest.raises(BadMessage, match="compresses no such thing"):
        TreePacker(here()).size_of(what)
    for node in [("f", "int64", (3,)), ("f", "float32", (0,)), ("f", "float16", (3,))]:
        with pytest.raises(BadMessage, match="compresses no such thing"):
            trees.size_of({"tree": node})
    memory[:] = 0xFF
    with pytest.raises(BadMessage):
        trees.unpack(what, memory)


def test_every_codec_of_activations_is_one_that_remembers_nothing_and_has_frames_of_one_length() -> None:
    for name in NAMES:
        codec = ACTIVATION_CODECS.parse(name).build()
        assert CODECS.parse(name).build() == codec
        assert (codec.slots, codec.momentum, codec.init(X.reshape(-1))) == ((), 0, {})


def train(kv: KV, *, measure: bool = False) -> tuple[dict[str, np.ndarray], list[float], float]:
    pipe = Pipeline(mlp.stages([6, 60, 60, 4]), softmax_cross_entropy)
    pipe.init(kv, seed=3)
    losses = []
    for x, y in kv.batches((X, Y), batch_size=48, epochs=4):
        losses.append(pipe.step(x, y, microbatches=2))
        if measure and kv.rank == 0:
            pipe.loss(None, (X, Y))
    found = pipe.loss(None, (X, Y)) if kv.rank == 0 else 0.0
    return {name: np.array(value) for name, value in kv.params.items()}, losses, found


@pytest.mark.parametrize("name", NAMES)
def test_a_job_learns_as_without_and_its_bits_are_those_of_the_codec_however_they_travel(
    loopback: Callable[..., LocalCluster], local: Callable[..., KV], name: str
) -> None:
    exact = train(local())[1]
    job: dict[str, Any] = {"mode": "pipeline", "workers": 3, "compress_activations": name}
    found = loopback(transport="tcp", **job).run(*[train] * 3)
    again = loopback(transport="auto", **job).run(*[lambda kv: train(kv, measure=True)] * 3)
    for (params, losses, _), (others, other_losses, _) in zip(found, again, strict=True):
        assert losses == other_losses
        assert all(np.array_equal(params[key], others[key]) for key in params)
        assert losses != exact
        assert np.allclose(losses, exact, rtol={"bf16": 0.01, "fp16": 0.001, "int8": 0.02}[name])
    whole = {key: value for params, _, _ in found for key, value in params.items()}
    one = Pipeline(mlp.stages([6, 60, 60, 4]), softmax_cross_entropy)
    one.init(local(), seed=3)
    assert found[0][2] == one.loss(whole, (X, Y)), "what is measured is not compressed"
