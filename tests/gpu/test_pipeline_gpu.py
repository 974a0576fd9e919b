"""A pipeline whose stages compute on a CUDA device ends with the bits of one process there, whatever the schedule."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ps import xp
from ps.models import mlp, softmax_cross_entropy
from ps.pipeline import Pipeline
from ps.testing import LocalCluster
from ps.worker import KV

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.timeout(120),
    pytest.mark.skipif(xp.cupy() is None, reason="no CUDA device, or no cupy"),
]

Start = Callable[..., LocalCluster]
Local = Callable[..., KV]
Tensors = dict[str, np.ndarray]
RANDOM = np.random.default_rng(0)
X, Y = RANDOM.standard_normal((256, 30), np.float32), RANDOM.integers(0, 4, 256)


def script(kv: KV, **pipeline: Any) -> tuple[Tensors, list[float]]:
    pipe = Pipeline(mlp.stages([30, 40, 40, 40, 40, 4]), softmax_cross_entropy, **pipeline)
    pipe.init(kv, seed=3)
    losses = [pipe.step(x, y, microbatches=4) for x, y in kv.batches((X, Y), batch_size=32, epochs=4)]
    measured = pipe.accuracy(None, (X, Y), batch_size=100) if kv.rank == 0 else 0.0
    assert kv.rank or measured > 0.2
    kv.barrier()
    return {name: xp.to_host(value).copy() for name, value in kv.params.items()}, losses


@pytest.mark.parametrize(
    ("workers", "job", "how"),
    [
        (4, {"clip_norm": 0.1}, {}),
        (3, {"servers": 2}, {"schedule": "zero-bubble"}),
        (2, {"stages": 4, "pipeline_workers": 2}, {"schedule": "interleaved:2", "recompute": True}),
        (4, {}, {"schedule": "fill-drain"}),
        (4, {"waves": 2, "lookahead": 1.0}, {}),
    ],
)
def test_stages_on_a_device_have_the_bits_of_one_process_there(
    loopback: Start, local: Local, workers: int, job: dict[str, Any], how: dict[str, Any]
) -> None:
    cuda = xp.device("cuda:0")
    job = {"optimizer": "adam:lr=0.01", **job}
    same = {name: job[name] for name in ("optimizer", "clip_norm", "waves", "lookahead") if name in job}
    alone = script(local(cuda, **({"mode": "pipeline"} if "waves" in same else {}), **same))
    found = loopback(workers=workers, mode="pipeline", **job).run(
        *[lambda kv: script(kv, **how)] * workers, device=cuda
    )
    whole = {name: value for params, _ in found for name, value in params.items()}
    assert whole.keys() == alone[0].keys()
    assert all(np.array_equal(whole[name], alone[0][name]) for name in whole)
    assert all(losses == alone[1] for _, losses in found)


@pytest.mark.parametrize("codec", ["fp16", "int8"])
def test_activations_of_a_device_travel_compressed(loopback: Start, codec: str) -> None:
    job = {"workers": 3, "mode": "pipeline", "optimizer": "adam:lr=0.01"}
    cuda = xp.device("cuda:0")
    plain = loopback(**job).run(*[script] * 3, device=cuda)[0][1]
    found = loopback(**job, compress_activations=codec).run(*[script] * 3, device=cuda)[0][1]
    assert found != plain
    np.testing.assert_allclose(found, plain, rtol=0.3)


def test_a_pipeline_on_a_device_trains_as_on_the_host(local: Local) -> None:
    there, here = (script(local(device, optimizer="sgd:lr=0.1"))[0] for device in (xp.device("cuda:0"), xp.CPU))
    for name in here:
        np.testing.assert_allclose(there[name], here[name], rtol=1e-4, atol=1e-5, err_msg=name)
