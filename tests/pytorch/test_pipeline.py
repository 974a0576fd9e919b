"""Promises: a torch model as a pipeline is trained as by torch alone, whatever the micro-batches, the cut and the
schedule; what cannot be is refused by name."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn
from torch.nn import functional

import ps.torch
from ps.pipeline import ForwardPass
from ps.torch import TorchLoss
from support.torch_net import Local
from support.torch_pipeline import HOW, alone, batches, net, piped
from support.torch_reference import seeded

STEPS = 50
IGNORED = -100


def tokens() -> list[tuple[Any, Any]]:
    """Return batches with one label that counts in the first half, and ten in the second."""
    found = batches(STEPS)
    for _, y in found:
        y[1:12] = IGNORED
    return found


def uneven() -> list[tuple[Any, Any]]:
    """Return batches with one label that counts in the first half, and a hundred in the second."""
    found = batches(STEPS, 208)
    for _, y in found:
        y[1:108] = IGNORED
    return found


def pixels() -> list[tuple[Any, Any]]:
    return [(x, torch.randn(len(x), 4, generator=torch.Generator().manual_seed(2))) for x, _ in batches(STEPS)]


CASES: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
    "examples": (lambda: batches(STEPS), lambda: functional.cross_entropy),
    "tokens": (tokens, lambda: nn.CrossEntropyLoss(ignore_index=IGNORED)),
    "1 and 100 tokens": (uneven, lambda: nn.CrossEntropyLoss(ignore_index=IGNORED)),
    "class weights": (
        tokens,
        lambda: functools.partial(functional.cross_entropy, weight=torch.tensor([0.1, 1, 5, 2])),
    ),
    "smoothed, with class weights": (
        tokens,
        lambda: nn.CrossEntropyLoss(weight=torch.tensor([0.1, 1, 5, 2]), label_smoothing=0.1),
    ),
    "sum": (lambda: batches(STEPS), lambda: nn.CrossEntropyLoss(reduction="sum")),
    "numbers": (pixels, nn.MSELoss),
    "own": (pixels, lambda: TorchLoss(lambda out, y: ((out - y) ** 2).sum(), of=len)),
}
TABLE = ("examples", "tokens", "1 and 100 tokens", "class weights")
"""The cases with all steps."""
ALONE: dict[str, Callable[[Any, Any], Any]] = {"own": lambda out, y: ((out - y) ** 2).sum() / len(y)}


@pytest.mark.parametrize(
    ("name", "microbatches"), [(name, m) for name in CASES for m in ((1, 2, 3, 8) if name in TABLE else (3,))]
)
def test_it_trains_as_torch_alone(name: str, microbatches: int, local: Local) -> None:
    make, loss = CASES[name]
    lr = 0.002 if name == "sum" else 0.05
    data = make()[: STEPS if name in TABLE else 5]
    expected, last = alone(net(), data, ALONE.get(name, loss()), lr)
    found, value = piped(local, net(), data, loss(), lr, microbatches, cuts=2)
    assert found.keys() == expected.keys()
    for each, wanted in expected.items():
        np.testing.assert_allclose(found[each], wanted, rtol=1e-6, atol=1e-6, err_msg=each)
    assert value == pytest.approx(last, rel=1e-5)


@pytest.mark.parametrize(("how", "microbatches"), [(HOW[1], 1), (HOW[2], 5), (HOW[3], 5)])
def test_bits_depend_neither_on_the_cut_nor_on_the_schedule_with_dropout_too(
    how: Any, microbatches: int, local: Local
) -> None:
    def model() -> Any:
        return net(nn.Dropout(0.3), nn.Linear(16, 16), nn.ReLU(inplace=True), nn.Dropout(0.5))

    whole, loss = piped(local, model(), batches(2), functional.cross_entropy, microbatches=microbatches)
    found, other = piped(local, model(), batches(2), functional.cross_entropy, microbatches=microbatches, **how)
    assert loss == other
    for name, value in whole.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


class Forks(nn.Module):
    """Writes into what it is given, uses that four times, and gives two things, one of them turned."""

    def forward(self, x: Any) -> Any:
        x += 1
        return x * x.sigmoid() + x.mean(1, keepdim=True), x.t()


class Joins(nn.Linear):
    def forward(self, given: Any) -> Any:
        y, turned = given
        return super().forward(y) + turned.t()


def test_one_graph_through_all_modules_of_a_stage_has_the_bits_of_one_for_each(local: Local) -> None:
    def model() -> Any:
        norm = nn.Sequential(nn.LayerNorm(16), nn.Dropout(0.2))
        norm[0].weight.requires_grad_(False)
        with seeded(1):
            joins, others, twice = Joins(16, 16), Joins(16, 16), nn.Linear(4, 4)
        made = net(Forks(), joins, norm, Forks(), others)
        made.add_module("twice", twice)
        made.add_module("again", twice)
        return made

    def trained(**how: Any) -> dict[str, np.ndarray]:
        return piped(local, model(), batches(3), functional.cross_entropy, microbatches=3, **how)[0]

    joined = trained()
    for how in ({"cuts": list(range(1, 11))}, {"cuts": [3, 7]}, {"cuts": [4], "recompute": True}):
        found = trained(**how)
        for name, value in joined.items():
            np.testing.assert_array_equal(found[name], value, err_msg=f"{name}, {how}")


def test_one_tensors_gradient_at_a_time_lies_beside_the_sums() -> None:
    layers = ps.torch.Pipeline(nn.Sequential(*(nn.Linear(6, 6) for _ in range(3))), functional.mse_loss).chain.layers
    params = [layer.init(np.random.default_rng(0)) for layer in layers]
    found: list[tuple[int, int]] = []

    class Sums:
        def names(self, place: int) -> list[str]:
            return ["weight", "bias"]

        def begun(self, place: int, own: str) -> None:
            return None

        def add(self, place: int, grads: Any, like: Any) -> None:
            leaves = [each for layer in layers for _, each in layer._tensors.values()]
            found.append((place, sum(each.grad is not None for each in leaves)))

    graph = layers[0].graph(torch.ones(4, 6), by_input=False)
    for place, layer in enumerate(layers):
        graph.extend(place, layer, params[place], ForwardPass(0, 0, 0, place))
    assert graph.backward(torch.ones(4, 6), Sums()) is None
    assert sorted(place for place, _ in found) == [0, 0, 1, 1, 2, 2]
    assert all(beside == 1 for _, beside in found)


def test_dropout_draws_anew_for_each_step_micro_batch_and_place_and_the_same_again() -> None:
    layer = ps.torch.Pipeline(nn.Sequential(nn.Dropout(0.5)), functional.mse_loss).chain.layers[0]
    numbers = [(1, 2, 3, 4), (0, 2, 3, 4), (1, 0, 3, 4), (1, 2, 0, 4), (1, 2, 3, 0)]
    passes = [*(ForwardPass(*each) for each in numbers), ForwardPass(1, 2, 3, 4, pipeline=1)]
    drawn = [layer.forward_at({}, torch.ones(64), at)[0].numpy().tobytes() for at in passes]
    assert len(set(drawn)) == 6
    again = ForwardPass(1, 2, 3, 4, repeated=True)
    assert layer.forward_at({}, torch.ones(64), again)[0].numpy().tobytes() == drawn[0]


def test_dropout_leaves_the_scripts_random_numbers_alone(local: Local) -> None:
    torch.manual_seed(3)
    expected = torch.rand(4)
    model = net(nn.Dropout(0.5))
    torch.manual_seed(3)
    piped(local, model, batches(1), functional.cross_entropy)
    assert torch.equal(torch.rand(4), expected)


# Batch norm


@pytest.mark.parametrize(
    ("how", "microbatches", "momentum"), [(HOW[0], 1, 0.1), (HOW[1], 4, 0.1), (HOW[2], 4, None), (HOW[3], 4, 0.1)]
)
def test_running_statistics_are_the_batchs_and_count_once_a_step(
    how: Any, microbatches: int, momentum: float | None, local: Local
) -> None:
    def model() -> Any:
        with seeded(0):
            return nn.Sequential(nn.BatchNorm1d(6, momentum=momentum), nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 4))

    expected, _ = alone(model(), batches(6), functional.cross_entropy, 0.0)
    found, _ = piped(local, model(), batches(6), functional.cross_entropy, lr=1e-12, microbatches=microbatches, **how)
    assert found["0.num_batches_tracked"] == 6
    for name in ("0.running_mean", "0.running_var"):
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("how", [HOW[0], HOW[3]])
def test_one_micro_batch_with_batch_norm_trains_as_torch_alone(how: Any, local: Local) -> None:
    expected, _ = alone(net(nn.BatchNorm1d(16)), batches(5), functional.cross_entropy, 0.05)
    found, _ = piped(local, net(nn.BatchNorm1d(16)), batches(5), functional.cross_entropy, **how)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-5, atol=2e-6, err_msg=name)


def test_it_is_said_once_that_batch_norm_takes_each_micro_batch_by_itself(
    local: Local, caplog: pytest.LogCaptureFixture
) -> None:
    for microbatches, times in ((1, 0), (4, 1)):
        caplog.clear()
        piped(local, net(nn.BatchNorm1d(16)), batches(2), functional.cross_entropy, microbatches=microbatches)
        assert caplog.text.count("layer 2 has batch norm, which takes each micro-batch by itself") == times


def test_the_loss_of_many_examples_in_half_precision_is_no_inf() -> None:
    loss = ps.torch.Pipeline(net(), functional.cross_entropy).loss_function
    scores = torch.zeros(70_000, 4, dtype=torch.float16)
    scores[:, 0] = 4
    value, gradient = loss(scores, torch.ones(70_000, dtype=torch.int64))
    assert value / 70_000 == pytest.approx(4.05, rel=0.02)
    assert gradient.dtype == torch.float16


def test_a_module_that_works_in_place_leaves_the_scripts_batch_alone(local: Local) -> None:
    model = nn.Sequential(nn.ReLU(inplace=True), nn.Linear(6, 4))
    x, y = batches(1)[0]
    kept = x.clone()
    piped(local, model, [(x, y)], functional.cross_entropy, microbatches=2)
    assert torch.equal(x, kept)


def test_a_sum_is_measured_as_the_sum_over_all(local: Local) -> None:
    pipe = ps.torch.Pipeline(net(), nn.MSELoss(reduction="sum"))
    x, y = torch.randn(22, 6), torch.randn(22, 4)
    with local() as kv:
        pipe.init(kv)
        expected = float(nn.MSELoss(reduction="sum")(net()(x), y).detach())
        assert pipe.loss(None, (x, y), batch_size=5) == pytest.approx(expected, rel=1e-5)


def test_it_is_measured_without_dropout_and_with_running_statistics(local: Local) -> None:
    model = net(nn.BatchNorm1d(16), nn.Dropout(0.5))
    pipe = ps.torch.Pipeline(model, functional.cross_entropy, cuts=2)
    x, y = batches(1)[0]
    with local(optimizer="sgd:lr=0.1") as kv:
        pipe.init(kv)
        pipe.step(x, y, microbatches=2)
        model.load_state_dict({name: torch.tensor(np.array(value)) for name, value in kv.params.items()})
        model.eval()
        expected = model(x).detach()
        np.testing.assert_allclose(pipe.outputs(x), expected, rtol=1e-5, atol=1e-6)
        assert pipe.loss(None, (x, y), batch_size=5) == pytest.approx(float(functional.cross_entropy(expected, y)))
        assert pipe.accuracy(kv.params, (x.numpy(), y.numpy())) == float((expected.argmax(1) == y).double().mean())
