"""Promises of a module's weights in a job: what a script may do to them, clipping, ragged batches, rounds."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
from torch import nn

from ps.errors import GradientError, UsageError
from ps.testing import LocalCluster
from ps.torch import DistributedOptimizer, GradScaler
from ps.worker import KV
from support.torch_net import alone, here, loss_of, net, same, values
from support.torch_reference import seeded

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")  # torch.compile's own
Start = Callable[..., LocalCluster]
Local = Callable[..., KV]
MODES = ["sync", "async", "ssp"]


# The script and the weights


@pytest.mark.parametrize("transport", ["tcp", "auto"])
@pytest.mark.parametrize("mode", MODES)
def test_weights_that_the_script_changes_are_refused_and_nothing_crashes(
    loopback: Start, mode: str, transport: str
) -> None:
    def script(kv: KV) -> None:
        model = net()
        optimizer = DistributedOptimizer(model, kv)
        loss_of(model).backward()
        optimizer.step()
        with torch.no_grad():
            model[2].weight.clamp_(-0.01, 0.01)
        loss_of(model).backward()
        with pytest.raises(UsageError, match=r"'2\.weight' was changed by the script.*parametrize"):
            optimizer.step()
        optimizer.refresh()
        optimizer.step()

    loopback(mode=mode, transport=transport, optimizer="sgd:lr=0.1").run(script)


def test_writes_through_data_are_found_in_the_first_steps(local: Local) -> None:
    model = net()
    optimizer = DistributedOptimizer(model, local(optimizer="sgd:lr=0.1"))
    for _ in range(3):
        loss_of(model).backward()
        optimizer.step()
    for parameter in model.parameters():
        parameter.data.clamp_(-0.01, 0.01)  # as the first GANs with a bounded critic do
    loss_of(model).backward()
    with pytest.raises(UsageError, match=r"'0\.weight' was changed by the script"):
        optimizer.step()


def test_averaged_weights_may_be_swapped_in_and_out(local: Local) -> None:
    def steps(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        average = copy.deepcopy(model)
        for step in range(5):
            optimizer.zero_grad()
            loss_of(model, step).backward()
            optimizer.step()
            kept = [parameter.data.clone() for parameter in model.parameters()]
            with torch.no_grad():
                for mean, parameter in zip(average.parameters(), model.parameters(), strict=True):
                    mean.lerp_(parameter, 0.1)
                    parameter.copy_(mean)
            loss_of(model)
            for parameter, value in zip(model.parameters(), kept, strict=True):
                parameter.data = value

    same(here(local, steps), alone(steps), rtol=1e-5)


@pytest.mark.parametrize("mode", MODES)
def test_a_barrier_brings_the_weights_into_the_model(loopback: Start, mode: str) -> None:
    def script(kv: KV) -> dict[str, np.ndarray]:
        model = net()
        optimizer = DistributedOptimizer(model, kv)
        for step in range(1 if mode == "sync" else 1 + kv.rank):
            loss_of(model, step).backward()
            optimizer.step()
        kv.barrier()
        return values(model)

    first, second = loopback(workers=2, mode=mode, optimizer="sgd:lr=0.1").run(script, script)
    same(first, second, rtol=0)


def test_an_evaluation_sees_the_model_as_it_is_after_the_step(local: Local) -> None:
    kv, model, seen = local(optimizer="sgd:lr=0.1", eval_every=1), net(), []
    optimizer = DistributedOptimizer(model, kv)

    def measure(params: Any, data: Any) -> float:
        seen.append((np.array(params["0.weight"]), values(model)["0.weight"]))
        return 0.0

    kv.evaluate(measure, None)
    for step in range(2):
        loss_of(model, step).backward()
        optimizer.step()
    assert len(seen) == 2 and all(np.array_equal(a, b) for a, b in seen)


# Clipping, weights of a contribution, scaled losses


def test_clipping_is_the_servers_and_the_job_has_to_say_so(local: Local) -> None:
    optimizer = DistributedOptimizer(net(), local(clip_norm=0.5))
    optimizer.clip_grad_norm_(0.5)
    with pytest.raises(UsageError, match=r"this job clips to 0\.5: --clip-norm 1,"):
        optimizer.clip_grad_norm_(1.0)
    with pytest.raises(UsageError, match=r"this job does not clip: --clip-norm 0\.1"):
        DistributedOptimizer(net(), local()).clip_grad_norm_(0.1)


def test_what_is_clipped_to_next_to_nothing_does_not_move(loopback: Start) -> None:
    def script(kv: KV) -> float:
        model = net()
        optimizer = DistributedOptimizer(model, kv)
        optimizer.clip_grad_norm_(1e-12)
        loss_of(model, kv.rank).backward()
        optimizer.step()
        return max(
            float(np.abs(a - b).max()) for a, b in zip(values(model).values(), values(net()).values(), strict=True)
        )

    assert max(loopback(workers=2, optimizer="sgd:lr=0.1", clip_norm=1e-12).run(script, script)) < 1e-9


def ragged(rank: int, micro: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return tokens of which rank 0 has 10 with a label in all and rank 1 has 1,000, in four parts of a batch."""
    random = torch.Generator().manual_seed(10 * rank + micro)
    x, y = torch.randn(400, 6, generator=random), torch.randint(3, (400,), generator=random)
    kept = [[1, 2, 3, 4], [400, 100, 200, 300]][rank][micro]
    y[kept:] = -100
    return x, y


def test_ragged_batches_give_the_gradient_of_the_whole_batch_with_their_weight(loopback: Start) -> None:
    def script(kv: KV) -> dict[str, np.ndarray]:
        model = net()
        optimizer = DistributedOptimizer(model, kv)
        for _ in range(3):
            optimizer.zero_grad()
            parts = [ragged(kv.rank, micro) for micro in range(4)]
            tokens = sum(int((y >= 0).sum()) for _, y in parts)
            for x, y in parts:
                (nn.functional.cross_entropy(model(x), y, reduction="sum") / tokens).backward()
            optimizer.step(weight=tokens)
        return values(model)

    first, _ = loopback(workers=2, optimizer="adam:lr=0.01", aggregator="weighted").run(script, script)

    model = net()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    parts = [ragged(rank, micro) for rank in range(2) for micro in range(4)]
    for _ in range(3):
        optimizer.zero_grad()
        nn.functional.cross_entropy(
            model(torch.cat([x for x, _ in parts])), torch.cat([y for _, y in parts])
        ).backward()
        optimizer.step()
    same(first, values(model), rtol=1e-4)


def test_a_weight_that_the_job_would_not_heed_is_refused(loopback: Start, local: Local) -> None:
    def script(kv: KV) -> None:
        model = net()
        optimizer = DistributedOptimizer(model, kv)
        loss_of(model).backward()
        with pytest.raises(
            UsageError, match="aggregator = mean takes each worker's gradient for as much: --aggregator"
        ):
            optimizer.step(weight=10)
        optimizer.step()

    loopback(workers=2, optimizer="sgd").run(script, script)
    model = net()
    optimizer = DistributedOptimizer(model, local())
    loss_of(model).backward()
    optimizer.step(weight=3)
    with pytest.raises(UsageError, match="more than 0, not 0"):
        optimizer.step(weight=0)


def test_nan_is_refused_by_the_parameters_name(local: Local) -> None:
    model = net()
    optimizer = DistributedOptimizer(model, local())
    loss_of(model).backward()
    model[2].bias.grad[1] = float("nan")
    with pytest.raises(GradientError, match=r"'2\.bias' is nan at \(1,\)"):
        optimizer.step()


@pytest.mark.parametrize("unscale", [False, True])
def test_a_scaled_loss_is_unscaled_and_an_overflow_skips_the_step_where_one_worker_trains(
    local: Local, unscale: bool
) -> None:
    def steps(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
        for step in range(4):
            optimizer.zero_grad()
            scaler.scale(loss_of(model, step)).backward()
            if step == 2:
                model[0].bias.grad[0] = float("inf")
            if unscale:
                scaler.unscale_(optimizer)
            scaler.step(optimizer)
            scaler.update()
        assert scaler.get_scale() == 512

    same(here(local, steps), alone(steps), rtol=1e-5)


def scaled(kv: KV, scaler: Any, overflow: Callable[[int], bool]) -> tuple[dict[str, np.ndarray], list[bool], float]:
    """Take three steps; return the weights, which steps were skipped, and the scale at the end."""
    model, skipped = net(), []
    optimizer = DistributedOptimizer(model, kv)
    for step in range(3):
        optimizer.zero_grad()
        scaler.scale(loss_of(model, step)).backward()
        if overflow(step):
            model[0].bias.grad[0] = float("inf")
        scaler.step(optimizer)
        scaler.update()
        skipped.append(optimizer.step_was_skipped)
    return values(model), skipped, scaler.get_scale()


def all_but(left_out: int) -> Any:
    def steps(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        for step in {0, 1, 2} - {left_out}:
            optimizer.zero_grad()
            loss_of(model, step).backward()
            optimizer.step()

    return alone(steps)


@pytest.mark.parametrize("job", [{}, {"clip_norm": 1e3}, {"mode": "ssp"}], ids=str)
@pytest.mark.parametrize("made", [torch.amp.GradScaler, GradScaler])
def test_an_overflow_on_one_worker_skips_the_step_on_all_in_sync_and_its_own_elsewhere(
    loopback: Start, made: Any, job: dict[str, Any]
) -> None:
    """With another scale on each worker: each unscales by its own."""

    def script(kv: KV) -> Any:
        scaler = made("cpu", init_scale=1024.0 * (1 + kv.rank), growth_interval=100)
        return scaled(kv, scaler, lambda step: step == 1 and kv.rank == 1)

    (first, one, a), (second, other, b) = loopback(workers=2, optimizer="sgd:lr=0.1", **job).run(script, script)
    alike = "mode" not in job
    assert one == [False, alike, False] and other == [False, True, False]
    assert (a, b) == (512 if alike and made is GradScaler else 1024, 1024)
    if alike:
        same(first, second, rtol=0)
        same(first, all_but(1), rtol=1e-5)


def test_with_on_nan_skip_only_the_gradient_that_overflowed_is_left_out(loopback: Start) -> None:
    def script(kv: KV) -> Any:
        scaler = torch.amp.GradScaler("cpu", init_scale=1024.0 * (1 + kv.rank))
        return *scaled(kv, scaler, lambda step: step == 1 and kv.rank == 1), kv.clock

    (first, *_, a), (second, *_, b) = loopback(workers=2, optimizer="sgd:lr=0.1", on_nan="skip").run(script, script)
    same(first, second, rtol=0)
    assert a == b == 3
    same(first, all_but(-1), rtol=1e-5)


def test_overlap_of_the_job_is_refused(local: Local) -> None:
    with pytest.raises(UsageError, match=r"leave out --overlap.*overlap=True"):
        DistributedOptimizer(net(), local(overlap=True))


# Federated


def test_a_client_trains_its_module_and_its_buffers_are_those_of_all(loopback: Start) -> None:
    def script(kv: KV) -> tuple[Any, Any]:
        with seeded(kv.rank):
            model = nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
        optimizer = DistributedOptimizer(model, kv)
        x = np.random.default_rng(kv.rank).standard_normal((16, 6)).astype(np.float32) + kv.rank
        moved = 0
        for batch in kv.batches((x, np.arange(16)), 4):
            before = values(model)["0.weight"]
            optimizer.zero_grad()
            (model(torch.from_numpy(batch[0])) ** 2).mean().backward()
            optimizer.step()
            moved += not np.array_equal(before, values(model)["0.weight"])
        assert moved > 4
        return values(model), {name: buffer.numpy().copy() for name, buffer in model.named_buffers()}

    job = {"mode": "federated", "workers": 2, "rounds": 3, "local_optimizer": "sgd:lr=0.05", "partition": "own"}
    (first, buffers), (second, others) = loopback(servers=2, **job).run(script, script)
    same(first, second, rtol=0)
    for name in buffers:
        np.testing.assert_array_equal(buffers[name], others[name], err_msg=name)
    assert int(buffers["1.num_batches_tracked"]) == 2 * 3 * 4
