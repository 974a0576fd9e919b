"""Promises of a base: what is not trained comes from a file of that very model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ps.errors import UsageError
from ps.following.base import rest_of
from ps.following.folder import SnapshotFolder
from ps.following.snapshot import Snapshot
from ps.weights_file import open_weights, write_weights


def test_a_snapshot_is_completed_by_what_is_not_trained(tmp_path: Path) -> None:
    frozen = np.arange(4, dtype=np.float16)
    write_weights(tmp_path / "base.st", {"a": np.zeros(3), "embed": frozen, "n": np.array(7)}, {})
    rest = rest_of(str(tmp_path / "base.st"), {"module.a": (3,)})
    folder = SnapshotFolder(str(tmp_path / "out"))
    folder.claim("a1", rest)
    path = folder.write(Snapshot({"module.a": np.ones(3)}, 5, "sync", "a1"))
    folder.close()
    with open_weights(path) as file:
        assert sorted(file.entries) == ["a", "embed", "n"]
        a, embed = np.zeros(3), np.zeros(4, np.float16)
        file.read("a", a)
        file.read("embed", embed)
        assert file.about["tensors"] == "what is trained, and 2 tensors of another file"
    assert (a.tolist(), embed.tolist()) == ([1, 1, 1], [0, 1, 2, 3])


@pytest.mark.parametrize(
    ("tensors", "words"),
    [({"b": np.zeros(3)}, "the file lacks it"), ({"a": np.zeros((3, 1))}, r"has it as float64\[3, 1\]")],
)
def test_a_file_of_another_model_is_refused_by_name(tmp_path: Path, tensors: dict[str, np.ndarray], words: str) -> None:
    write_weights(tmp_path / "base.st", tensors, {})
    with pytest.raises(UsageError, match=rf"is of another model: the job trains 'a', \[3\].*{words}"):
        rest_of(str(tmp_path / "base.st"), {"a": (3,)})
