"""Promise: workers that begin with the same batch are told so loudly, since each believes to be alone."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

from ps.testing import LocalCluster
from ps.torch import DistributedOptimizer
from ps.torch.first_batch import digest
from ps.worker import KV
from support.torch_net import net

Start = Callable[..., LocalCluster]


@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.parametrize("alike", [True, False])
def test_one_line_says_that_two_workers_train_on_the_same_data(
    loopback: Start, caplog: pytest.LogCaptureFixture, alike: bool, mode: str
) -> None:
    def script(kv: KV) -> None:
        model = net()
        optimizer = DistributedOptimizer(model, kv)
        with torch.no_grad():
            model(torch.ones(1, 6))  # to look at it is no training
        for step in range(2):
            optimizer.zero_grad()
            x = torch.randn(4, 6, generator=torch.Generator().manual_seed(step if alike else 10 * step + kv.rank))
            model(x).square().mean().backward()
            optimizer.step()

    with caplog.at_level(logging.WARNING, "ps.scheduler"):
        loopback(workers=3, mode=mode, optimizer="sgd:lr=0.1").run(script, script, script)
    said = [record.getMessage() for record in caplog.records if "SAME BATCH" in record.getMessage()]
    assert len(said) == alike
    assert not alike or "ps.torch.sampler" in said[0]


def test_the_digest_is_of_all_tensors_their_shapes_and_dtypes_wherever_they_are() -> None:
    x = torch.arange(6.0)
    batches = [x, x.view(2, 3), x.double(), x + 1, {"x": x, "y": [x]}, ((x,), {"n": 1, "y": x.bool()}), x.bfloat16()]
    found = [digest(batch) for batch in batches]
    assert len(set(found)) == len(found) and "" not in found
    assert digest({"a": x}) == digest([x]) == digest(x.clone())
    assert digest({"text": "abc", "n": 3}) == digest(torch.empty(0)) == ""
    assert digest(torch.ones(1 << 20)) != digest(torch.ones(1 << 20) * 2)


def test_the_hook_that_looks_is_gone_afterwards(loopback: Start) -> None:
    def script(kv: KV) -> int:
        model = net()
        DistributedOptimizer(model, kv)
        before = len(model._forward_pre_hooks)
        model(torch.ones(1, 6))
        return before - len(model._forward_pre_hooks)

    assert loopback(workers=2).run(script, script) == [1, 1]
