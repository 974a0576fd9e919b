"""Promises of the record of a pipeline: an example counts once, and it is told what each worker had and sent."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ps.models import mlp, softmax_cross_entropy
from ps.pipeline import Pipeline
from ps.record_files import METRICS, STAGES
from ps.testing import LocalCluster
from ps.worker import KV

Start = Callable[..., LocalCluster]
RANDOM = np.random.default_rng(0)
X, Y = RANDOM.standard_normal((64, 6), np.float32), RANDOM.integers(0, 4, 64)


def script(kv: KV) -> None:
    pipe = Pipeline(mlp.stages([6, 4, 4, 4]), softmax_cross_entropy)
    pipe.init(kv)
    for x, y in kv.batches((X, Y), batch_size=16):
        pipe.step(x, y, microbatches=4)


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def folder(loopback: Start, tmp_path: Path) -> Path:
    loopback(mode="pipeline", workers=4, stages=2, servers=2).run(*[script] * 4, run_dir=str(tmp_path))
    return tmp_path


def test_it_tells_what_each_worker_had_and_sent(folder: Path) -> None:
    lines = read(folder / METRICS)
    assert sum(line["samples"] for line in lines) == 64
    assert {line["rank"] for line in lines if line["samples"]} == {0, 2}
    forward, back = (
        [sum(line.get(key, 0) for line in lines if line["rank"] == rank) for rank in range(4)]
        for key in ("bytes_activations", "bytes_gradients")
    )
    # Two steps of sixteen examples: four floats an example each way. Labels, plans and losses go with activations.
    assert back == [0, 2 * 16 * 4 * 4] * 2
    assert forward[0] == forward[2] > 2 * 16 * 4 * 4 > forward[1]
    assert all(0 < line["busy_s"] < line["pipeline_s"] for line in lines)
    assert all(line["bubble_s"] / line["pipeline_s"] == pytest.approx(1 / 5, abs=1e-3) for line in lines)
    held = {line["rank"]: (line["layers"], line["of"], line["bytes"]) for line in read(folder / STAGES)}
    halves = [([0, 1], 3, 4 * (6 * 4 + 4 + 4 * 4 + 4)), ([2], 3, 4 * (4 * 4 + 4))]
    assert held == dict(enumerate(halves * 2))
