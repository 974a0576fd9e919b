"""Promises of what a pipeline refuses: what cutting the batch would change, and what is no model, cut or batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import ps
from ps.errors import GradientError, StateError, UsageError
from ps.models import mlp, softmax_cross_entropy
from ps.pipeline import SummedLoss, Tied
from support.pipeline_layers import Centred, Linear, Transposed

from .conftest import SIZES, Train

# What cutting the batch would change


def test_layers_over_the_batch_are_refused_by_name_or_taken_where_the_script_says_so(train: Train) -> None:
    layers = [Linear(6, 5), Centred(), Linear(5, 4)]
    for cuts in (None, 3):
        with pytest.raises(UsageError, match=r"layer 1 \(Centred\) returns something else for a batch.*inexact=True"):
            train(layers, cuts=cuts)
    train(layers, inexact=True)
    train(layers, microbatches=1)


def contrastive(output: Any, y: Any) -> Any:
    scores = output @ output.T
    return float(scores.sum()), 2 * scores @ output


def test_losses_over_the_batch_are_refused(train: Train) -> None:
    with pytest.raises(UsageError, match=r"the sum of the loss is .* for its two halves together.*microbatches=1"):
        train([Linear(6, 4)], loss=SummedLoss(contrastive))
    train([Linear(6, 4)], loss=SummedLoss(contrastive), microbatches=1)


def test_a_loss_that_does_not_say_what_it_averages_over_is_refused() -> None:
    with pytest.raises(UsageError, match=r"the loss contrastive does not say what it averages over.*SummedLoss"):
        ps.Pipeline([Linear(6, 4)], contrastive)


# Bad input


def test_shapes_that_do_not_fit_are_named_before_anything_is_trained(alone: None, batch: Any) -> None:
    pipe = ps.Pipeline([Linear(6, 5), Linear(7, 4)], softmax_cross_entropy, cuts=2)
    with ps.connect() as kv:
        pipe.init(kv)
        text = r"layer 1 \(Linear\) has w float32\[7, 4\] and was given float32\[11, 5\] by layer 0 \(Linear\)"
        with pytest.raises(UsageError, match=text):
            pipe.step(*batch, microbatches=2)
        assert kv.clock == 0


class Wrong(Linear):
    def backward(self, params: Any, saved: Any, dy: Any) -> Any:
        dx, grads = super().backward(params, saved, dy)
        return dx, {"w": grads["w"].T}


def test_a_gradient_of_another_shape_is_named(train: Train) -> None:
    text = r"layer 1 \(Wrong\) returns float32\[4, 5\] as the gradient of w, which is float32\[5, 4\]"
    with pytest.raises(GradientError, match=text):
        train([Linear(6, 5), Wrong(5, 4)], cuts=2)


def test_nan_is_said_with_the_layer_it_came_from(alone: None, batch: Any) -> None:
    x, y = batch
    x = x.copy()
    x[20] = np.inf
    pipe = ps.Pipeline(mlp.stages(SIZES), softmax_cross_entropy, cuts=2)
    with ps.connect() as kv, np.errstate(all="ignore"):
        pipe.init(kv)
        text = r"nothing was applied.*layer 0 \(DenseLayer\) returned NaN or Inf first, for micro-batch 3"
        with pytest.raises(GradientError, match=text):
            pipe.step(x, y, microbatches=4)


def test_a_short_last_batch_is_cut_into_fewer_and_a_first_one_refused(alone: None, batch: Any) -> None:
    x, y = batch
    pipe = ps.Pipeline([Linear(6, 4)], softmax_cross_entropy)
    with pytest.raises(StateError, match=r"call pipe.init\(kv\) first"):
        pipe.step(x, y)
    with ps.connect() as kv:
        pipe.init(kv)
        with pytest.raises(UsageError, match="a batch of 3 examples cannot be cut into 4 micro-batches"):
            pipe.step(x[:3], y[:3], microbatches=4)
        pipe.step(x, y, microbatches=4)
        pipe.step(x[:3], y[:3], microbatches=4)
        assert kv.clock == 2
        for wrong in ("4", 2.0, True):
            with pytest.raises(UsageError, match="microbatches is how many parts"):
                pipe.step(x, y, microbatches=wrong)
        with pytest.raises(UsageError, match="y has 21 examples in a batch of 22"):
            pipe.step(x, y[1:], microbatches=4)


@pytest.mark.parametrize(
    ("layers", "text"),
    [
        (Linear(6, 4), "a pipeline is a list of layers.*A model with branches"),
        ([], "at least one layer"),
        ([Linear(6, 4), np.tanh], r"layer 1 is a ufunc, which has not the three functions of a layer"),
        ([Linear(6, 4), Tied(Linear(1, 1), Transposed(1, 1))], "layer 1 is tied to one that is not in the list"),
    ],
)
def test_what_is_no_list_of_layers_is_refused(layers: Any, text: str) -> None:
    with pytest.raises(UsageError, match=text):
        ps.Pipeline(layers, softmax_cross_entropy)


@pytest.mark.parametrize("cuts", [[0], [5], [2, 2], [3, 1], [True], 6, 0, [1.0]])
def test_cuts_that_are_none_are_refused(cuts: Any) -> None:
    with pytest.raises(UsageError, match="5 layers"):
        ps.Pipeline(mlp.stages(SIZES), softmax_cross_entropy, cuts=cuts)
