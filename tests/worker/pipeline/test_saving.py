"""Promises of saving a model whose parts several workers have: the file of one process, whatever they do meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from ps.errors import UsageError
from ps.models import softmax_cross_entropy
from ps.pipeline import Pipeline
from ps.testing import LocalCluster
from ps.weights_file import open_weights, write_one_by_one
from ps.worker import KV
from support.pipeline_job import X, Y, assert_same, layers, whole
from support.pipeline_layers import Plain

Start = Callable[..., LocalCluster]


class Counting(Plain):
    """Has a buffer, in which it counts steps."""

    def init(self, rng: np.random.Generator) -> dict[str, Any]:
        return {"steps": np.zeros(3, np.float32)}

    def kinds(self) -> dict[str, str]:
        return {"steps": "buffer"}

    def forward(self, params: Mapping[str, Any], x: Any) -> Any:
        return x, None

    def backward(self, params: Mapping[str, Any], saved: Any, dy: Any) -> Any:
        return dy, {}

    def finish(self, params: Mapping[str, Any]) -> None:
        params["steps"][:] += 1


def begin(kv: KV) -> Pipeline:
    first, *rest = layers()
    pipe = Pipeline([first, *rest[:3], Counting(), *rest[3:]], softmax_cross_entropy)
    pipe.init(kv, seed=3, kinds={"3.bias": "frozen"})
    return pipe


def save(folder: Path) -> Callable[[KV], None]:
    """Return a script that saves in the midst of training, and at the end."""

    def train(kv: KV) -> None:
        pipe = begin(kv)
        for x, y in kv.batches((X, Y), batch_size=32, epochs=2):
            pipe.step(x, y, microbatches=4)
            if kv.rank == 0 and kv.clock == 3:
                kv.save(folder / "middle")
        if kv.rank == 0:
            kv.save(folder / "end")

    return train


def read(path: Path) -> dict[str, np.ndarray]:
    with open_weights(path) as file:
        dtypes = {"F32": np.float32}
        found = {name: np.empty(entry.shape, dtypes[entry.dtype]) for name, entry in file.entries.items()}
        for name, array in found.items():
            file.read(name, array)
    return found


@pytest.mark.parametrize(("stages", "waves"), [(4, 1), (2, 1), (3, 2)])
def test_a_model_is_saved_while_it_is_trained_and_at_the_end_as_one_process_does(
    loopback: Start, local: Callable[..., KV], tmp_path: Path, stages: int, waves: int
) -> None:
    (tmp_path / "alone").mkdir()
    loopback(mode="pipeline", workers=stages, servers=2, waves=waves).run(*[save(tmp_path)] * stages)
    save(tmp_path / "alone")(local(mode="pipeline", waves=waves))
    for name in ("middle", "end"):
        assert_same(read(tmp_path / name), read(tmp_path / "alone" / name))
    assert read(tmp_path / "end")["4.steps"].tolist() == [6.0] * 3


def test_what_four_stages_have_saved_begins_every_other_cut_and_an_ordinary_job(
    loopback: Start, local: Callable[..., KV], tmp_path: Path
) -> None:
    loopback(mode="pipeline", workers=4).run(*[save(tmp_path)] * 4)
    path = tmp_path / "end"

    def first(kv: KV) -> tuple[dict[str, np.ndarray], list[float]]:
        begin(kv)
        return {name: np.array(value) for name, value in kv.params.items()}, []

    for stages in (3, 2):
        job = loopback(mode="pipeline", workers=stages, init=str(path))
        assert_same(whole(job.run(*[first] * stages)), read(path))
    assert_same(loopback(workers=2, init=str(path)).run(first, first)[1][0], read(path))
    assert_same(first(local(init=str(path)))[0], read(path))


def test_who_has_not_the_first_stage_is_told_who_saves(loopback: Start, tmp_path: Path) -> None:
    def train(kv: KV) -> None:
        begin(kv)
        if kv.rank:
            with pytest.raises(UsageError, match=r"the one with the first stage, of rank 0, and this is worker 1: if"):
                kv.save(tmp_path / "model")

    loopback(mode="pipeline", workers=2).run(train, train)
    assert not (tmp_path / "model").exists()


def test_tensors_of_every_kind_are_written_one_by_one_as_together_and_nothing_is_changed_by_a_failure(
    tmp_path: Path,
) -> None:
    from safetensors.numpy import load_file

    tensors = {
        "module.w": np.arange(6, dtype=np.float32).reshape(2, 3).T,
        "module.half": np.ones(3, ml_dtypes.bfloat16),
        "module.none": np.zeros((0, 2), np.float64),
        "module.n": np.array(7),
    }
    path = tmp_path / "model"
    write_one_by_one(path, tensors, tensors.__getitem__, {"clock": "3"})
    found = load_file(path)
    assert found.keys() == {"w", "half", "none", "n"}
    for name, value in found.items():
        given = tensors[f"module.{name}"]
        assert (value.shape, value.dtype) == (given.shape, given.dtype)
        assert np.array_equal(value, given)
    before = path.read_bytes()
    with pytest.raises(KeyError):
        write_one_by_one(path, tensors, {}.__getitem__, {})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
