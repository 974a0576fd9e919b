"""Promises of whoever writes manifests: none of them speaks of a model of which a chunk is missing."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ps.checkpoint.parts import part_of, write_chunks
from ps.checkpoint.place import place
from ps.config import JobConfig
from ps.config.checkpoint import Every
from ps.protocol.layout import Layout
from ps.server.scheduler.checkpoint_cut import Seal
from ps.server.scheduler.checkpoint_keeper import taken
from ps.server.scheduler.checkpoints import Checkpoints
from support.cluster import wait_until


def test_a_checkpoint_in_which_a_chunk_is_missing_is_none(tmp_path: Path) -> None:
    explicit = {"checkpoint_dir": str(tmp_path / "kept")}
    found = taken(explicit, 0, lambda text: None)
    assert found is not None
    keeper, _ = found
    layout, folder = Layout.of({"w": np.zeros(100, np.float32)}), "step-000003"
    write_chunks(place(explicit["checkpoint_dir"]), folder, part_of("server", 0), Layout(()), (), {})
    saving = Checkpoints(Every, keeper.life.number)
    saving.seal = Seal(4, 3, folder, (0,), {})
    said: list[tuple[int, str] | None] = []

    def turned() -> bool:
        said.append(keeper.turn(saving, JobConfig(), layout, None, dict))
        saving.seal = None
        return said[-1] is not None

    wait_until(turned)
    assert said[-1] == (4, "no server has written chunk 0")
    assert not (tmp_path / "kept" / folder / "manifest.json").exists()
