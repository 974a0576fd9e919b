"""Promise: whichever worker of a pipeline of torch modules is lost, at whatever instant, a spare goes on with the bits
of one process: dropout, running statistics that count once, and tied and frozen weights too."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn

import ps.torch
from ps.testing import LocalCluster
from ps.worker import KV
from support.long import cases
from support.takeovers import assert_undisturbed, run
from support.torch_reference import seeded

WORKERS = 3
INSTANTS = 150
NUMBERS = torch.Generator().manual_seed(1)
X, Y = torch.randn(64, 6, generator=NUMBERS).numpy(), torch.randint(4, (64,), generator=NUMBERS).numpy()


def script(kv: KV) -> tuple[dict[str, np.ndarray], list[float]]:
    with seeded(0):
        model = nn.Sequential(
            *(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.Dropout(0.5)),
            *(nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 16), nn.BatchNorm1d(16), nn.Linear(16, 4)),
        )
    model[5].weight = model[3].weight
    model[3].bias.requires_grad_(False)
    pipe = ps.torch.Pipeline(model, nn.CrossEntropyLoss(), cuts=[3, 5])
    pipe.init(kv, seed=3)
    losses = [pipe.step(x, y, microbatches=3) for x, y in kv.batches((X, Y), batch_size=16, epochs=2)]
    return {name: np.array(value) for name, value in kv.params.items()}, losses


@pytest.mark.parametrize("number", range(cases(3, 30)))
def test_the_bits_are_those_of_one_process(
    loopback: Callable[..., LocalCluster], local: Callable[..., KV], number: int
) -> None:
    expected = script(local(optimizer="adam:lr=0.01"))
    dice = random.Random(number)
    rank, instant = number % WORKERS, dice.randrange(INSTANTS)
    crew = run(loopback, script, {rank: instant}, WORKERS, 1, optimizer="adam:lr=0.01")
    assert crew.died == [rank] or crew.instants[rank] <= instant
    assert_undisturbed(crew, expected)
