"""Promises of a pipeline in one process: every cut, schedule and kind of memory gives the same bits, and every number
of micro-batches the step of the whole batch."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ps
from ps import xp
from ps.models import SoftmaxCrossEntropy, cnn, mlp, softmax_cross_entropy
from ps.models.dense_layer import DenseLayer
from ps.pipeline import Tied, microbatch
from ps.pipeline.local import run
from ps.pipeline.runner import StepPlan
from ps.pipeline.worker_stages import WorkerStages
from ps.worker import KV
from support.pipeline_layers import Dropout, Forgetful, Linear, Masked, Tanh, Transposed

from .conftest import SIZES, Train, same

HOW = [
    {"cuts": 5},
    {"cuts": [2, 3], "schedule": "fill-drain"},
    {"cuts": 4, "schedule": "zero-bubble"},
    {"cuts": 5, "schedule": "interleaved"},
    {"cuts": 5, "schedule": "interleaved:3", "recompute": True},
    {"cuts": 2, "recompute": True, "schedule": "zero-bubble"},
]


@pytest.mark.parametrize(("job", "microbatches"), [({}, 1), ({"clip_norm": 0.01}, 3), ({}, 20)])
def test_every_cut_and_schedule_gives_the_bits_of_the_uncut_model(job: Any, microbatches: int, train: Train) -> None:
    whole = train(mlp.stages(SIZES), microbatches=microbatches, job=job, steps=3)
    for how in HOW:
        same(whole, train(mlp.stages(SIZES), microbatches=microbatches, job=job, steps=3, **how))


@pytest.mark.parametrize("microbatches", [2, 3, 8, 22])
def test_every_number_of_micro_batches_gives_the_gradient_of_the_whole_batch(
    microbatches: int, alone: None, batch: Any
) -> None:
    x, y = batch
    found = []
    for parts in (1, microbatches):
        pipe = ps.Pipeline(mlp.stages(SIZES), softmax_cross_entropy, cuts=3)
        with ps.connect(optimizer="sgd:lr=1") as kv:
            pipe.init(kv)
            before = {name: np.array(value) for name, value in kv.params.items()}
            loss = pipe.step(x, y, microbatches=parts)
            found.append((loss, {name: before[name] - value for name, value in kv.params.items()}))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-6)
    for name, value in found[0][1].items():
        np.testing.assert_allclose(found[1][1][name], value, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("classes", [None, [0.1, 1, 5, 2]])
def test_tokens_that_are_ignored_and_class_weights_are_those_of_the_whole_batch(
    classes: Any, alone: None, batch: Any
) -> None:
    x, y = batch
    y = np.where(np.arange(22) < 10, -1, y)
    y[0] = 2  # one that counts in the first micro-batch, and twelve in the second
    loss = SoftmaxCrossEntropy(ignore=-1, class_weights=classes)
    scale = np.ones(4) if classes is None else np.array(classes)
    found = []
    for parts in (1, 2, 8):
        pipe = ps.Pipeline([Linear(6, 4)], loss)
        with ps.connect(optimizer="sgd:lr=1") as kv:
            w = np.array(pipe.init(kv)["0.w"])
            scores = x @ w
            p = np.exp(scores - np.log(np.exp(scores).sum(1, keepdims=True)))
            counts = np.where(y < 0, 0, scale[y])
            p[np.arange(22), y] -= 1
            step = x.T @ (p * counts[:, None]) / counts.sum()
            pipe.step(x, y, microbatches=parts)
            np.testing.assert_allclose(w - kv.params["0.w"], step, rtol=1e-4, atol=1e-6)
            found.append(step)


@pytest.mark.parametrize("name", ["mlp", "cnn"])
def test_one_micro_batch_has_the_bits_of_the_uncut_models(name: str, alone: None) -> None:
    random = np.random.default_rng(0)
    x, y = random.standard_normal((9, 64), np.float32), random.integers(0, 10, 9)
    model: Any = mlp if name == "mlp" else cnn
    layers = mlp.stages([64, 32, 10]) if name == "mlp" else cnn.stages(image=(8, 8))
    uncut = mlp.init([64, 32, 10]) if name == "mlp" else cnn.init(image=(8, 8))
    pipe = ps.Pipeline(layers, softmax_cross_entropy, cuts=2)
    with ps.connect(optimizer="sgd:lr=1") as kv:
        params = pipe.init(kv)
        theirs = dict(zip(params, uncut, strict=True))
        assert [value.shape for value in params.values()] == [value.shape for value in uncut.values()]
        begin = {theirs[own]: np.array(value) for own, value in params.items()}
        loss, grads = model.loss_and_grad(begin, x, y)
        assert pipe.step(x, y) == pytest.approx(loss, rel=1e-6)
        for own, value in kv.params.items():
            np.testing.assert_array_equal(value, begin[theirs[own]] - grads[theirs[own]], err_msg=own)


def test_a_layers_first_values_follow_from_the_seed_and_its_place_alone() -> None:
    chain = ps.Pipeline(mlp.stages(SIZES), softmax_cross_entropy).chain
    whole = chain.init(7)
    for place in range(5):
        alone = chain.init(7, [place])
        assert set(alone) == {f"{place}.weight", f"{place}.bias"}
        same(alone, {name: whole[name] for name in alone})
    assert not np.array_equal(chain.init(8)["1.weight"], whole["1.weight"])


def test_layers_may_have_names(train: Train) -> None:
    found = train({"first": Linear(6, 5), "a.b": Linear(5, 5), "head": Linear(5, 4)}, cuts=2)
    assert list(found) == ["first.w", "a.b.w", "head.w"]


# Tied tensors, frozen layers, trees


@pytest.mark.parametrize("how", [{"cuts": 7}, {"cuts": [3, 4]}, {"cuts": 7, "schedule": "interleaved"}])
def test_tied_layers_have_one_tensor_and_the_bits_do_not_depend_on_the_cut(how: Any, train: Train) -> None:
    def layers() -> list[Any]:
        embed, twice = Linear(6, 4), Linear(4, 4)
        return [embed, twice, twice, twice, Tied(embed, Transposed(6, 4)), Linear(6, 6), Tied(embed, Linear(6, 4))]

    whole = train(layers(), job={"clip_norm": 0.01})
    assert list(whole) == ["0.w", "1.w", "5.w"]
    same(whole, train(layers(), job={"clip_norm": 0.01}, **how))


class Shifted(Linear):
    """``(x + b) @ w``."""

    def init(self, rng: np.random.Generator) -> dict[str, Any]:
        return {**super().init(rng), "b": np.zeros(self.inputs, np.float32)}

    def forward(self, params: Any, x: Any) -> Any:
        return super().forward(params, x + params["b"])

    def backward(self, params: Any, saved: Any, dy: Any) -> Any:
        dx, grads = super().backward(params, saved, dy)
        return dx, {**grads, "b": dx.sum(axis=0)}


@pytest.mark.parametrize("cuts", [3, [2]])
def test_a_layer_may_share_some_of_its_tensors_and_have_others_of_its_own(cuts: Any, train: Train) -> None:
    def layers() -> list[Any]:
        first = Linear(6, 6)
        return [first, Tied(first, Shifted(6, 6), {"w": "w"}), Linear(6, 4)]

    whole = train(layers())
    assert list(whole) == ["0.w", "1.b", "2.w"]
    same(whole, train(layers(), cuts=cuts))


def test_the_gradient_of_a_tied_tensor_is_the_sum_of_its_uses(alone: None, batch: Any) -> None:
    x, y = batch
    embed = Linear(6, 4)
    pipe = ps.Pipeline([embed, Tied(embed, Transposed(6, 4))], softmax_cross_entropy, cuts=2)
    with ps.connect(optimizer="sgd:lr=1") as kv:
        w = np.array(pipe.init(kv)["0.w"], np.float64)
        pipe.step(x, y, microbatches=3)
        gradient = w - kv.params["0.w"]
        for at in ((0, 0), (5, 3)):
            values = []
            for sign in (1, -1):
                moved = w.copy()
                moved[at] += sign * 1e-5
                values.append(pipe.loss({"0.w": moved}, (x.astype(np.float64), y)))
            assert (values[0] - values[1]) / 2e-5 == pytest.approx(gradient[at], rel=1e-3)


@pytest.mark.parametrize("frozen", [["0.*", "1.*"], ["2.*"], ["0.*", "2.*", "3.*"], ["3.*", "4.*"]])
def test_frozen_layers_stay_and_the_others_train_as_uncut(frozen: Any, train: Train) -> None:
    kinds = dict.fromkeys(frozen, "frozen")
    whole = train(mlp.stages(SIZES), kinds=kinds, steps=2)
    for how in HOW[:4]:
        same(whole, train(mlp.stages(SIZES), kinds=kinds, steps=2, **how))
    first = ps.Pipeline(mlp.stages(SIZES), softmax_cross_entropy).chain.init(3)
    for name, value in whole.items():
        assert np.array_equal(value, first[name]) == (f"{name[0]}.*" in frozen)


@pytest.mark.parametrize("cuts", [None, 4, [2]])
def test_trees_with_integers_none_and_numbers_go_between_stages(cuts: Any, train: Train) -> None:
    def layers() -> list[Any]:
        return [Linear(6, 5), Masked(adds=True), Masked(adds=False), Linear(5, 4)]

    whole = train(layers())
    same(whole, train(layers(), cuts=cuts))
    same(whole, train(layers(), cuts=cuts, schedule="fill-drain", recompute=True))


@pytest.mark.parametrize("cuts", [None, 3])
def test_layers_before_one_that_forgets_its_input_are_left_alone(cuts: Any, train: Train) -> None:
    found = train([Linear(6, 5), Forgetful(), Linear(5, 4)], cuts=cuts)
    first = ps.Pipeline([Linear(6, 5)], softmax_cross_entropy).chain.init(3)
    np.testing.assert_array_equal(found["0.w"], first["0.w"])


@pytest.mark.parametrize("how", HOW[:5])
def test_random_layers_draw_the_same_wherever_the_model_is_cut(how: Any, train: Train) -> None:
    def layers() -> list[Any]:
        return [Linear(6, 8), Dropout(), Tanh(), Linear(8, 8), Dropout(), Linear(8, 4)]

    same(train(layers()), train(layers(), **how))


def test_recomputed_passes_say_so(train: Train) -> None:
    dropout = Dropout()
    train([Linear(6, 8), dropout, Linear(8, 4)], recompute=True, steps=1, microbatches=2)
    assert [(at.microbatch, at.repeated) for at in dropout.passes] == [(0, False), (0, True), (1, False), (1, True)]


@pytest.mark.parametrize("cuts", [None, 2, 3])
def test_what_four_stages_saved_begins_any_other_cut_and_an_ordinary_job(
    cuts: Any, alone: None, batch: Any, tmp_path: Path
) -> None:
    path = tmp_path / "model.safetensors"
    with ps.connect(optimizer="adam:lr=0.01") as kv:
        pipe = ps.Pipeline(mlp.stages(SIZES), softmax_cross_entropy, cuts=4)
        pipe.init(kv, seed=1)
        pipe.step(*batch, microbatches=4)
        kv.save(path)
        saved = {name: np.array(value) for name, value in kv.params.items()}
    with ps.connect(init=str(path)) as kv:
        other = ps.Pipeline(mlp.stages(SIZES), softmax_cross_entropy, cuts=cuts)
        same(saved, dict(other.init(kv, seed=2)))
    with ps.connect(init=str(path)) as kv:
        same(saved, dict(kv.init({name: np.zeros_like(value) for name, value in saved.items()})))


# Memory, time and devices


@dataclass(frozen=True, slots=True)
class Counted(DenseLayer):
    """Notes each gradient by its input that is computed."""

    places: list[int] = field(default_factory=list)

    def backward_input(self, params: Any, saved: Any, dy: Any) -> Any:
        self.places.append(self.inputs)
        return DenseLayer.backward_input(self, params, saved, dy)


@pytest.mark.parametrize("schedule", ["1f1b", "zero-bubble"])
def test_the_gradient_by_the_batch_itself_is_not_computed(schedule: str, train: Train) -> None:
    first, second = Counted(6, 5, relu=True), Counted(5, 4)
    train([first, second], schedule=schedule, steps=1, microbatches=3)
    assert (first.places, second.places) == ([], [5, 5, 5])


def test_what_is_held_is_what_the_schedule_and_recomputation_say(alone: None) -> None:
    random = np.random.default_rng(0)
    x, y = random.standard_normal((512, 64), np.float32), random.integers(0, 4, 512)
    peaks = []
    for schedule, recompute in (("fill-drain", False), ("1f1b", False), ("fill-drain", True)):
        layers = [each for _ in range(3) for each in (Linear(64, 64), Tanh(), Tanh())]
        how: Any = {"cuts": 3, "schedule": schedule, "recompute": recompute}
        pipe = ps.Pipeline([*layers, Linear(64, 4)], softmax_cross_entropy, **how)
        with ps.connect(optimizer="sgd:lr=1e-3") as kv:
            pipe.init(kv)
            pipe.step(x, y, microbatches=16)
            tracemalloc.start()
            pipe.step(x, y, microbatches=16)
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
    assert peaks[1] < 0.5 * peaks[0]
    assert peaks[2] < 0.6 * peaks[0]


def test_on_a_device_nothing_goes_to_the_host_unasked(
    strict_device: xp.Device, local: Callable[..., KV], batch: Any
) -> None:
    pipes = []
    for device in (xp.CPU, strict_device):
        pipe = ps.Pipeline(mlp.stages(SIZES), SoftmaxCrossEntropy(ignore=3), cuts=2, schedule="zero-bubble")
        kv = local(device=device, optimizer="sgd:lr=0.1")
        pipe.init(kv)
        x, y = map(device.array, batch)
        losses = [pipe.step(x, y, microbatches=3) for _ in range(2)]
        values = {name: xp.to_host(value) for name, value in kv.params.items()}
        pipes.append((losses, values, pipe.accuracy(None, batch), pipe.loss(kv.params, batch)))
    assert pipes[0][0] == pipes[1][0]
    assert pipes[0][2:] == pipes[1][2:]
    same(pipes[0][1], pipes[1][1])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_the_loss_of_many_examples_in_half_precision_is_no_inf(dtype: str) -> None:
    scores = np.zeros((70_000, 4), dtype)
    scores[:, 0] = 4
    value, gradient = softmax_cross_entropy(scores, np.ones(70_000, np.int64))
    assert value / 70_000 == pytest.approx(4.05, rel=0.02)
    assert gradient.dtype == dtype


# In the ordinary modes


@pytest.mark.parametrize("overlap", [False, True])
def test_it_is_measured_and_recorded_as_other_models(overlap: bool, alone: None, batch: Any) -> None:
    pipe = ps.Pipeline(mlp.stages([6, 16, 4]), softmax_cross_entropy, cuts=2)
    with ps.connect(optimizer="adam:lr=0.05", overlap=overlap) as kv:
        pipe.init(kv)
        kv.evaluate(pipe.accuracy, batch)
        for x, y in kv.batches(batch, batch_size=10, epochs=25):
            loss = pipe.step(x, y, microbatches=4, extra=1)
        assert loss < 0.3
        assert pipe.accuracy(None, batch) > 0.9
        assert pipe.loss(kv.params, batch, batch_size=7) == pytest.approx(pipe.loss(None, batch), rel=1e-6)


@pytest.mark.parametrize("microbatches", [1, 3])
@pytest.mark.parametrize("schedule", ["1f1b", "zero-bubble"])
def test_beside_weights_gradients_and_activations_a_stage_needs_little(schedule: str, microbatches: int) -> None:
    width, layers = 1024, 2
    pipe = ps.Pipeline(mlp.stages([width] * (layers + 1)), softmax_cross_entropy, schedule=schedule)
    own = WorkerStages(pipe, pipe.cut, pipe.schedule, 0, 1, seed=0, replica=0)
    params = pipe.chain.init(0)
    own.know(params, params)
    gradients = {name: np.zeros_like(value) for name, value in params.items()}
    x, y = np.ones((4 * microbatches, width), np.float32), np.zeros(4 * microbatches, np.int64)
    plan = StepPlan(0, microbatches, float(len(x)))
    parts = [4] * microbatches
    xs, ys = (microbatch.cut(each, parts, 0, pipe.arrays) for each in (x, y))
    tracemalloc.start()
    runner = own.runner(plan, params, gradients)
    found = run([runner], {0: 0}, runner.feed(xs, ys))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert all(found[name] is gradients[name] for name in params)
    held = sum(value.nbytes for value in params.values()) * 2
    assert peak < 0.2 * held
