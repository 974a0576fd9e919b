"""Checkpoints made without any process: a folder as one or several lives of a job would leave it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ps.checkpoint.chunk_snapshot import ChunkSnapshot
from ps.checkpoint.lives import Life, Lives
from ps.checkpoint.manifest import Manifest, folder_of
from ps.checkpoint.parts import WrittenPart, write_arrays, write_chunks
from ps.checkpoint.place import CheckpointPlace, LocalPlace
from ps.config import JobConfig
from ps.protocol.layout import Layout
from ps.protocol.messages.rate import UNSAID
from ps.xp import HostArray

LAYOUT = Layout.of({"w": np.zeros((20, 10), np.float32), "b": np.zeros(7, np.float32), "d": np.zeros(3)})


def model(step: int) -> dict[str, HostArray]:
    """Return the sections of the model after a step."""
    return {"float32": np.arange(207, dtype=np.float32) + step, "float64": np.arange(3) * 0.5 + step}


def snapshots(step: int, servers: int, rank: int, layout: Layout = LAYOUT) -> list[ChunkSnapshot]:
    found = []
    for chunk in layout.chunks(servers, 256):
        if chunk.server != rank:
            continue
        weights = model(step)[chunk.section][chunk.start : chunk.stop].copy()
        arrays = {"weights": weights, "slot/velocity": -weights}
        found.append(ChunkSnapshot(chunk, step, step, step, {}, UNSAID, {0: step, 1: step}, -1, arrays))
    return found


def make(
    where: CheckpointPlace,
    life: Life,
    step: int,
    parent: str = "",
    *,
    servers: int = 2,
    worker: bool = True,
    job: dict[str, Any] | None = None,
    ended: bool = False,
) -> Manifest:
    """Write a whole checkpoint, as the members and the scheduler of a job do."""
    folder, files, chunks = folder_of(step, life.number), {}, []
    for rank in range(servers):
        write_chunks(where, folder, f"server-{rank}", LAYOUT, snapshots(step, servers, rank), {})
        part = WrittenPart.read(where, folder, f"server-{rank}")
        assert part.tensors is not None
        files[part.file], chunks = part.tensors, [*chunks, *part.chunks]
        where.remove(f"{folder}/server-{rank}.json")
    workers: dict[int, dict[str, Any]] = {}
    if worker:
        write_arrays(where, folder, "worker-0", {"beside/mean": np.full(4, float(step))}, {"own": step})
        part = WrittenPart.read(where, folder, "worker-0")
        assert part.tensors is not None
        files[part.file], workers[0] = part.tensors, {"file": part.file, "values": {"own": step}}
        where.remove(f"{folder}/worker-0.json")
    settings = {**JobConfig(servers=servers, chunk_size=1024).to_dict(), "chunk_size": 256, **(job or {})}
    about = life.number, parent, float(step), life.identity, settings
    manifest = Manifest(folder, step, *about, LAYOUT, tuple(chunks), files, workers, ended)
    manifest.write(where)
    return manifest


def folder_with(path: Path, *steps: int, identity: dict[str, Any] | None = None) -> tuple[LocalPlace, Lives, Life]:
    """Return a folder in which one life has left checkpoints of these steps."""
    where = LocalPlace(path)
    lives = Lives(where)
    life = lives.begin("", "", identity or {}, 0.0)
    parent = ""
    for step in steps:
        parent = make(where, life, step, parent).folder
    return where, lives, life
