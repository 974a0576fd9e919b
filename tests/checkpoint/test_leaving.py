"""Promises of what workers keep that leave before the job's last checkpoint: it is in that, and nowhere else after."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ps.checkpoint.manifest import leaving_folder
from ps.checkpoint.parts import write_arrays, write_chunks
from ps.checkpoint.stored_model import StoredModel
from ps.config import JobConfig
from ps.server.scheduler.checkpoint_cut import Seal
from ps.server.scheduler.checkpoint_keeper import CheckpointKeeper
from ps.server.scheduler.leasing import DataCut
from support.kept import LAYOUT, folder_with, make, snapshots


def test_the_last_checkpoint_takes_it_over_where_it_can_be_read_and_names_it_where_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    where, lives, life = folder_with(tmp_path, 10)
    left = leaving_folder(20, 1)
    for rank in range(2):
        write_arrays(where, left, f"worker-{rank}", {"beside/mean": np.full(4, float(rank))}, {"own": rank})
    with (tmp_path / left / "worker-1.safetensors").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"!")
    lives.sweep(life, "step-000015")
    assert (tmp_path / left).exists(), "one before the last is whole, and the last is still to come"
    write_chunks(where, "step-000020", "server-0", LAYOUT, snapshots(20, 1, 0), {})
    about = JobConfig(servers=1, workers=3, chunk_size=1024), LAYOUT, DataCut(None, {}), {}
    CheckpointKeeper(str(tmp_path), life)._write(Seal(9, 20, "step-000020", (0,), {}, True, False), *about)
    newest = lives.manifests()[-1]
    assert newest.step == 20 and newest.ended and set(newest.workers) == {0, 1}
    stored = StoredModel(where, newest)
    found = stored.worker(0)
    assert found is not None and list(found["beside/mean"]) == [0.0] * 4 and newest.workers[0]["values"] == {"own": 0}
    assert stored.worker(1) is None and "is damaged" in newest.workers[1]["lost"]
    assert "what worker 1 kept of its own is not in the last checkpoint" in caplog.text
    newest.check(where)
    names = sorted(path.name for path in tmp_path.rglob("*") if path.is_file() and "20" in str(path))
    assert names == ["manifest.json", "server-0.safetensors", "worker-0.safetensors"]


def test_what_was_left_for_a_last_checkpoint_that_never_came_goes_with_the_next_life(tmp_path: Path) -> None:
    where, lives, _ = folder_with(tmp_path, 10)
    write_arrays(where, leaving_folder(20, 1), "worker-0", {}, {"own": 1})
    assert lives.manifests()[-1].step == 10, "it is no checkpoint"
    after = lives.begin("step-000010", "", {}, 0.0)
    make(where, after, 20, "step-000010")
    lives.sweep(after, "step-000020.2")
    assert sorted(where.names()) == ["life-000001.json", "life-000002.json", "step-000010", "step-000020.2"]
