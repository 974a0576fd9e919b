"""Promises of how workers begin that go on from a checkpoint: those of a pipeline with the same step."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from ps.checkpoint.stored_model import StoredModel
from ps.config import JobConfig
from ps.server.shard.beginning import Beginning
from support.kept import folder_with


@pytest.mark.parametrize(
    ("settings", "clocks"),
    [
        ({"mode": "pipeline-ssp", "stages": 2}, [19, 19, 20, 20]),
        ({"mode": "pipeline-ssp", "stages": 4}, [19, 19, 19, 19]),
        ({"mode": "ssp"}, [20, 19, 20, 21]),
        ({"mode": "pipeline", "stages": 2}, [20, 20, 20, 20]),
    ],
)
def test_workers_of_a_pipeline_begin_with_the_step_that_one_of_them_lacks(
    tmp_path: Path, settings: dict[str, object], clocks: list[int]
) -> None:
    where, lives, _ = folder_with(tmp_path, 20)
    (manifest,) = lives.manifests()
    done = {0: 20, 1: 19, 2: 20, 3: 21}
    chunks = tuple(replace(chunk, done=done) for chunk in manifest.chunks)
    job = JobConfig(workers=4, **settings)  # type: ignore[arg-type]
    beginning = Beginning(StoredModel(where, replace(manifest, chunks=chunks)))
    assert [beginning.clock(rank, job) for rank in range(4)] == clocks
