"""Promises of what a server keeps: what a full disk refused is kept when there is room, and odd files are one error."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from ps.errors import ConfigError
from ps.server.shard.checkpoint import MODEL, PREPARED, kept_rank
from ps.server.shard.federated_shard import FederatedShard
from ps.state_file import StateFile
from support.delta_parts import Hand, job_of
from support.identity import KEY

ONE = [(1, 1.0, 1.0, 1.0)]


def full(*args: object) -> None:
    raise OSError(28, "No space left on device")


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ps.state_file.RETRY", 0.0)


@pytest.mark.parametrize("phase", ["prepare", "publish"])
def test_what_a_full_disk_had_no_room_for_is_kept_once_there_is_room(
    tmp_path: Path, phase: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hand = Hand(path=str(tmp_path / "s")).begin()
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        hand.upload(1, 1.0)
        hand.order("prepare", ONE)
        if phase == "publish":
            hand.order("publish", ONE)
        hand.tick()
        assert not hand.state_file.durable
    hand.tick()
    assert hand.state_file.durable
    back = FederatedShard(0, hand.job, KEY, StateFile(str(tmp_path / "s")), member=1)
    assert back.version == (phase == "publish")
    if phase == "prepare":
        hand.shard = back
        hand.order("publish", ONE)
    assert back.chunks[0].weights.tolist() == [1.0] * 6 and back.version == 1


def test_a_file_knows_whose_it_is(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    assert kept_rank(StateFile(path)) is None and kept_rank(StateFile(None)) is None
    Hand(path=path).begin()
    assert kept_rank(StateFile(path)) == 0


@pytest.mark.parametrize("name", [MODEL, PREPARED])
@pytest.mark.parametrize("harm", ["values", "array", "shape", "dtype"])
def test_an_archive_that_lacks_something_is_one_error_that_names_it(tmp_path: Path, name: str, harm: str) -> None:
    state_file = StateFile(str(tmp_path / "s"))
    hand = Hand(job_of(server_optimizer="adam:lr=1"), path=str(tmp_path / "s")).begin()
    hand.upload(1, 1.0)
    hand.order("prepare", ONE)
    found = state_file.load(name)
    assert found is not None
    values, arrays = found
    key = next(iter(arrays))
    if harm == "values":
        values = {**values, "layout": 3, "attempt": None}
    elif harm == "array":
        del arrays[key]
    else:
        arrays[key] = np.zeros(99, arrays[key].dtype) if harm == "shape" else arrays[key].astype(np.float16)
    state_file.keep(name, values, arrays)
    if (name, harm) == (PREPARED, "array"):  # there may be nothing to add for a chunk
        FederatedShard(0, hand.job, KEY, StateFile(str(tmp_path / "s")), member=1)
        return
    with pytest.raises(ConfigError, match=rf"s\.{name} does not hold a state of ours"):
        FederatedShard(0, hand.job, KEY, StateFile(str(tmp_path / "s")), member=1)
