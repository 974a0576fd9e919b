"""Promises of torch modules as a pipeline's layers: what is frozen, tied, on the meta device or no part of the state is
what it is in torch, and what cannot be a layer is refused by name."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn
from torch.nn import functional

import ps.torch
from ps.errors import UsageError
from ps.torch import TorchLoss
from ps.torch.drawing_modules import may_draw
from support.torch_net import Local
from support.torch_pipeline import HOW, alone, batches, net, piped
from support.torch_reference import seeded


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


def test_a_module_with_a_hook_may_draw_numbers_also_where_it_is_the_first_hook_there_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for register in ("register_forward_hook", "register_forward_pre_hook"):
        monkeypatch.setattr(torch.utils.hooks.RemovableHandle, "next_id", 0)
        module = nn.Linear(6, 4)
        assert not may_draw(nn.Sequential(module))
        getattr(module, register)(lambda *given: None)
        assert may_draw(nn.Sequential(module))


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


# What is refused


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
