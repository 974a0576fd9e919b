"""Promises: a torch model as a pipeline is trained as by torch alone, whatever the micro-batches, the cut and the
schedule; what cannot be is refused by name."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn
from torch.nn import functional

import ps.torch
from ps.errors import UsageError
from ps.pipeline import ForwardPass
from ps.torch import TorchLoss
from support.torch_net import Local
from support.torch_reference import seeded

STEPS = 50
IGNORED = -100
HOW = [
    {},
    {"cuts": 3},
    {"cuts": 4, "schedule": "zero-bubble"},
    {"cuts": 4, "schedule": "interleaved", "recompute": True},
]


def net(*more: nn.Module) -> nn.Sequential:
    with seeded(0):
        return nn.Sequential(nn.Linear(6, 16), nn.Tanh(), *more, nn.LayerNorm(16), nn.Linear(16, 4))


def batches(steps: int, examples: int = 22) -> list[tuple[Any, Any]]:
    numbers = torch.Generator().manual_seed(1)
    return [
        (torch.randn(examples, 6, generator=numbers), torch.randint(4, (examples,), generator=numbers))
        for _ in range(steps)
    ]


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


def alone(model: nn.Module, data: Any, loss: Any, lr: float) -> tuple[dict[str, np.ndarray], float]:
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
    for x, y in data:
        optimizer.zero_grad()
        value = loss(model(x), y)
        value.backward()
        optimizer.step()
    return {name: each.detach().numpy().copy() for name, each in model.state_dict().items()}, float(value.detach())


def piped(
    local: Local, model: Any, data: Any, loss: Any, lr: float = 0.05, microbatches: int = 1, **how: Any
) -> tuple[dict[str, np.ndarray], float]:
    pipe = ps.torch.Pipeline(model, loss, **how)
    with local(optimizer=f"momentum:lr={lr},momentum=0.9") as kv:
        pipe.init(kv, seed=7)
        for x, y in data:
            value = pipe.step(x, y, microbatches=microbatches)
        return {name: np.array(each) for name, each in kv.params.items()}, value


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


# Frozen, tied, meta


def test_frozen_modules_have_no_backward_pass_and_stay(local: Local) -> None:
    def model() -> Any:
        found = net()
        found[0].requires_grad_(False)
        return found

    expected, _ = alone(model(), batches(5), functional.cross_entropy, 0.05)
    for how in HOW:
        found, _ = piped(local, model(), batches(5), functional.cross_entropy, microbatches=2, **how)
        for name, value in expected.items():
            np.testing.assert_allclose(found[name], value, rtol=1e-6, atol=2e-6)
        np.testing.assert_array_equal(found["0.weight"], net()[0].weight.detach())


class Embed(nn.Embedding):
    def forward(self, x: Any) -> Any:
        return super().forward(x).mean(1), x, None, 3


class Pass(nn.Module):
    """Takes a tree with integers, None and a number, and returns another one."""

    def forward(self, given: Any) -> Any:
        x, tokens, nothing, number = given
        assert nothing is None and number == 3 and tokens.dtype == torch.int64
        return {"x": x * number}


class Head(nn.Linear):
    def forward(self, given: Any) -> Any:
        return super().forward(given["x"])


def language(device: str = "cpu") -> nn.Sequential:
    with seeded(0), torch.device(device):
        model = nn.Sequential(Embed(9, 6), Pass(), Head(6, 9))
    model[2].weight = model[0].weight
    return model


@pytest.mark.parametrize("how", [{}, {"cuts": 3}, {"cuts": 3, "schedule": "zero-bubble", "recompute": True}])
def test_a_weight_tied_over_stages_is_one_and_trees_go_between_them(how: Any, local: Local) -> None:
    data = [(y.reshape(11, 2), y[:11]) for _, y in batches(4)]
    expected, _ = alone(language(), data, functional.cross_entropy, 0.05)
    whole, _ = piped(local, language(), data, functional.cross_entropy, microbatches=3)
    found, _ = piped(local, language(), data, functional.cross_entropy, microbatches=3, **how)
    assert list(found) == ["0.weight", "2.bias"]
    for name, value in found.items():
        np.testing.assert_array_equal(value, whole[name])
        np.testing.assert_allclose(value, expected[name], rtol=1e-5, atol=2e-6)


def test_modules_on_the_meta_device_are_drawn_for_the_stages_held(local: Local) -> None:
    def chain(seed: int = 7) -> Any:
        with torch.device("meta"):
            model = nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.Linear(16, 4))
        return ps.torch.Pipeline(model, functional.cross_entropy).chain.init(seed)

    with torch.device("meta"):
        model = nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.Linear(16, 4))
    pipe = ps.torch.Pipeline(model, functional.cross_entropy)
    alone = pipe.chain.init(7, [2])
    assert list(alone) == ["2.weight", "2.bias"]
    np.testing.assert_array_equal(alone["2.weight"], chain()["2.weight"])
    assert not np.array_equal(chain(8)["2.weight"], alone["2.weight"])
    assert np.abs(alone["2.weight"]).max() <= 0.25
    piped(local, copy.deepcopy(model), batches(3), functional.cross_entropy, microbatches=2, cuts=3)
    assert all(each.is_meta for each in model.parameters())


class Bare(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(6))

    def forward(self, x: Any) -> Any:
        return x * self.scale


def test_a_module_on_the_meta_device_that_cannot_be_drawn_is_refused() -> None:
    with torch.device("meta"):
        model = nn.Sequential(Bare())
    with pytest.raises(UsageError, match=r"layer 0 has a Bare on the meta device.*reset_parameters"):
        ps.torch.Pipeline(model, functional.mse_loss).chain.init(0)


class Rotary(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("table", torch.arange(6), persistent=False)

    def forward(self, x: Any) -> Any:
        return x * self.table


def test_a_buffer_that_is_no_part_of_the_state_is_the_modules_own_and_on_the_meta_device_refused(local: Local) -> None:
    found, _ = piped(local, nn.Sequential(Rotary(), nn.Linear(6, 4)), batches(1), functional.cross_entropy, cuts=2)
    assert list(found) == ["1.weight", "1.bias"]
    with torch.device("meta"):
        model = nn.Sequential(Rotary(), nn.Linear(6, 4))
    with pytest.raises(UsageError, match=r"layer 0 has the buffer table on the meta device.*build it on the CPU"):
        ps.torch.Pipeline(model, functional.cross_entropy).chain.init(0)


class Counting(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("passes", torch.zeros(()))

    def forward(self, x: Any) -> Any:
        self.passes.add_(1)
        return x


def test_a_buffer_that_each_pass_changes_is_refused_with_recomputation(local: Local) -> None:
    found, _ = piped(local, net(Counting()), batches(2), functional.cross_entropy, microbatches=3)
    assert found["2.passes"] == 6
    with pytest.raises(UsageError, match=r"layer 2 changes its buffer passes in each forward pass.*recompute=True"):
        piped(local, net(Counting()), batches(1), functional.cross_entropy, recompute=True)


# Measuring, and what is refused


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


class Branches(nn.Module):
    pass


def contrastive(out: Any, y: Any) -> Any:
    return (out @ out.T).sum()


@pytest.mark.parametrize(
    ("model", "loss", "text"),
    [
        (Branches(), nn.MSELoss(), "Branches is not sequential.*may take and return a tuple"),
        (net(), contrastive, r"the loss contrastive does not say what it averages over.*TorchLoss\(f, of=...\)"),
        (net(), nn.CTCLoss(), "the loss CTCLoss does not say"),
        (net(), nn.MSELoss(reduction="none"), "reduction='none' is no number"),
    ],
)
def test_what_cannot_be_a_pipeline_is_refused(model: Any, loss: Any, text: str) -> None:
    with pytest.raises(UsageError, match=text):
        ps.torch.Pipeline(model, loss)


class Centred(nn.Module):
    def forward(self, x: Any) -> Any:
        return x - x.mean(0)


def test_modules_and_losses_over_the_batch_are_found(local: Local) -> None:
    with pytest.raises(UsageError, match=r"layer 2 \(Centred\) returns something else for a batch"):
        piped(local, net(Centred()), batches(1), functional.cross_entropy, microbatches=2)
    with pytest.raises(UsageError, match="the sum of the loss is"):
        piped(local, net(), batches(1), TorchLoss(contrastive), microbatches=2)


def test_shapes_that_do_not_fit_are_named(local: Local) -> None:
    model = nn.Sequential(nn.Linear(6, 5), nn.Linear(7, 4))
    text = r"layer 1 \(Linear\) has weight float32\[4, 7\], bias float32\[4\] and was given float32\[11, 5\] by layer 0"
    with pytest.raises(UsageError, match=text):
        piped(local, model, batches(1), functional.cross_entropy, microbatches=2, cuts=2)
