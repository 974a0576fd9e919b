"""Models in and out: a script saves what it has, begins with what was saved, or is told in a line why not."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open

from ps import xp
from ps.config import job_from
from ps.errors import PeerLost, ServerLost, UnsavedModel, UsageError
from ps.half import HALVES
from ps.testing import LocalCluster
from ps.weights_file import open_weights, write_weights
from ps.worker import KV
from ps.worker.local import LocalStore
from ps.worker.saving import Saving
from ps.worker.step_log import StepLog

Local = Callable[..., KV]
Start = Callable[..., LocalCluster]

KINDS = {"bn.mean": "buffer", "bn.count": "counter", "embed.*": "frozen"}


def model(seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "embed.table": rng.standard_normal((3, 4)).astype(np.float16).T,
        "w": rng.standard_normal((4, 5)).astype(np.float32).T,
        "bn.mean": rng.standard_normal(3).astype(np.float32),
        "bn.count": np.array(seed),
        "b": rng.standard_normal(5),
    }


def grads(value: float = 1.0) -> dict[str, np.ndarray]:
    return {"w": np.full((5, 4), value, np.float32), "b": np.full(5, value)}


def read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    with safe_open(path, "numpy") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118


def same(found: dict[str, Any], wanted: dict[str, Any]) -> None:
    assert sorted(found) == sorted(wanted)
    for name in wanted:
        assert found[name].dtype == wanted[name].dtype
        np.testing.assert_array_equal(found[name], wanted[name], err_msg=name)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.safetensors"


def test_a_script_saves_all_of_its_model_as_it_is_now(local: Local, path: Path) -> None:
    kv = local(optimizer="sgd:lr=0.5")
    params = kv.init(model(), KINDS)
    kv.step(grads())
    params["bn.mean"][:] = 7
    kv.save(path)
    found, about = read(path)
    same(found, {name: np.asarray(array) for name, array in params.items()})
    assert found["bn.mean"].tolist() == [7, 7, 7]
    assert {name: about[name] for name in ("format", "mode", "clock")} == {"format": "pt", "mode": "sync", "clock": "1"}


def test_a_model_that_was_saved_begins_again_with_the_same_bits(local: Local, path: Path) -> None:
    kv = local(optimizer="sgd:lr=0.5")
    params = kv.init(model(), KINDS)
    kv.step(grads())
    kv.save(path)
    again = local(init=str(path)).init(model(seed=9), KINDS)
    same(dict(again), {name: np.asarray(array) for name, array in params.items()})


@pytest.mark.parametrize("dtype", HALVES)
def test_half_precision_is_saved_and_read_as_it_is_and_the_file_says_that_it_is_a_copy(
    local: Local, path: Path, dtype: str
) -> None:
    kv = local(optimizer="sgd:lr=0.001")
    params = kv.init({"w": np.ones(3, dtype)})
    kv.step({"w": np.ones(3, dtype)})
    kv.save(path)
    with open_weights(path) as file:
        assert file.about["weights"] == "copies in half precision, not the float32 masters"
        assert str(file.entries["w"]) == f"{dtype}[3]"
    again = local(init=str(path)).init({"w": np.zeros(3, dtype)})
    np.testing.assert_array_equal(np.asarray(again["w"], np.float32), np.asarray(params["w"], np.float32))


@pytest.mark.parametrize("mode", ["sync", "async", "federated"])
def test_the_file_wins_over_the_first_values_of_every_script(loopback: Start, path: Path, mode: str) -> None:
    write_weights(path, model(seed=5), {})

    def train(kv: KV) -> dict[str, np.ndarray]:
        params = kv.init(model(seed=kv.rank), KINDS)
        return {name: np.array(array) for name, array in params.items()}

    for found in loopback(servers=2, workers=2, mode=mode, init=str(path)).run(train, train):
        same(found, model(seed=5))


def test_a_worker_with_nothing_of_its_own_needs_no_file_when_it_comes_late(loopback: Start, path: Path) -> None:
    write_weights(path, {"a": np.arange(3.0)}, {})
    cluster = loopback(workers=1, mode="async", init=str(path))
    with cluster.connect() as kv:
        kv.init({"a": np.zeros(3)})
        path.unlink()
        with cluster.connect() as late:
            assert late.init({"a": np.ones(3)})["a"].tolist() == [0, 1, 2]


@pytest.mark.parametrize("order", ["C", "F"])
def test_copies_of_a_tied_weight_that_contradict_each_other_are_refused(local: Local, path: Path, order: Any) -> None:
    one = np.ones((2, 3), order=order)
    number = np.ones(())
    tied = {"a": number, "b": number, "embed": one, "head": one, "other": np.ones((2, 3)), "turned": one.T}
    file = {
        "a": number,
        "b": number,
        "embed": np.full((2, 3), 5.0),
        "head": np.full((2, 3), 5.0),
        "other": np.zeros((2, 3)),
        "turned": one.T,
    }
    write_weights(path, file, {})
    assert np.asarray(local(init=str(path)).init(tied)["head"]).tolist() == file["head"].tolist()
    file["head"][1, 2] = 6
    write_weights(path, file, {})
    with pytest.raises(UsageError, match="has other values for 'head' than for 'embed', which are one array in the"):
        local(init=str(path)).init(tied)
    apart = {name: array.copy() for name, array in tied.items()}
    assert np.asarray(local(init=str(path)).init(apart)["head"])[1, 2] == 6


@pytest.mark.parametrize(
    ("tensors", "text"),
    [
        ({"x": np.zeros(3)}, "is of another model: it has 'x', and this one has 'a', 'b'"),
        ({"a": np.zeros(3)}, "does not fit the model: it lacks 'b'$"),
        (
            {n: np.zeros(3) for n in "abcdefg"},
            "it also has 'c', 'd', 'e' and 2 more, which the model has not$",
        ),
        ({"a": np.zeros(3), "c": np.zeros(3)}, "it lacks 'b'; it also has 'c'"),
        ({"a": np.zeros((3, 1)), "b": np.zeros(3)}, r"has 'a' as float64\[3, 1\]; the model has float64\[3\]"),
        ({"a": np.zeros(3, np.float32), "b": np.zeros(3)}, r"has 'a' as float32\[3\]; the model has float64\[3\]"),
        ({"a": np.array([1, np.nan, 3]), "b": np.zeros(3)}, r"value of 'a' of the file .* is nan at \(1,\)"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_by_name(
    local: Local, path: Path, tensors: dict[str, Any], text: str
) -> None:
    write_weights(path, tensors, {})
    with pytest.raises(UsageError, match=text):
        local(init=str(path)).init({"a": np.zeros(3), "b": np.zeros(3)})


def test_a_file_of_a_wrapped_model_fits_the_bare_one_and_back(local: Local, path: Path) -> None:
    kv = local(optimizer="sgd:lr=0.5")
    kv.init({"_orig_mod.module.a": np.arange(3.0), "_orig_mod.module.b": np.ones(2)})
    kv.save(path)
    assert sorted(read(path)[0]) == ["a", "b"]
    for prefix in ("", "module.", "_orig_mod."):
        found = local(init=str(path)).init({f"{prefix}b": np.zeros(2), f"{prefix}a": np.zeros(3)})
        assert found[f"{prefix}a"].tolist() == [0, 1, 2]


def test_a_file_that_is_not_there_is_named_with_who_named_it(local: Local, path: Path) -> None:
    with pytest.raises(UsageError, match=r"the job's init: there is no model file .*model\.safetensors"):
        local(init=str(path)).init({"a": np.zeros(3)})


def lone(path: Path | str, every: int = 0, run_dir: Path | None = None, **job: Any) -> KV:
    return KV(
        LocalStore(job_from(job)), xp.CPU, StepLog(str(run_dir) if run_dir else None), saving=Saving(str(path), every)
    )


def test_the_final_model_is_saved_after_its_last_evaluation(path: Path, tmp_path: Path) -> None:
    def total(params: Any, data: Any) -> float:
        return float(params["w"].sum() + params["bn.mean"].sum())

    with lone(path, run_dir=tmp_path / "run", eval_every=2) as kv:
        params = kv.init(model(), KINDS)
        kv.evaluate(total, None)
        for _ in range(4):
            kv.step(grads())
            params["bn.mean"][:] += 1  # after the step in which it was measured
    line = json.loads((tmp_path / "run" / "evaluations.jsonl").read_text().splitlines()[-1])
    found = read(path)[0]
    assert line["total"] == float(found["w"].sum() + found["bn.mean"].sum())


def test_a_model_is_saved_every_so_often_in_one_file_or_in_one_for_each_clock(path: Path, tmp_path: Path) -> None:
    seen = []
    with lone(path, every=2) as kv:
        kv.init(model(), KINDS)
        for _ in range(5):
            kv.step(grads())
            seen.append(read(path)[1]["clock"] if path.exists() else "")
    assert seen == ["", "2", "2", "4", "4"]
    assert read(path)[1]["clock"] == "5"
    with lone(tmp_path / "at-{clock}.safetensors", every=2) as kv:
        kv.init(model(), KINDS)
        for _ in range(5):
            kv.step(grads())
    assert sorted(p.name for p in tmp_path.glob("at-*")) == [f"at-{n}.safetensors" for n in (2, 4, 5)]


def test_a_script_that_failed_leaves_the_older_file(path: Path) -> None:
    write_weights(path, {"old": np.zeros(3)}, {})
    with pytest.raises(ZeroDivisionError), lone(path) as kv:
        kv.init(model(), KINDS)
        kv.step(grads())
        1 / 0  # noqa: B018
    assert list(read(path)[0]) == ["old"]


def test_what_goes_wrong_on_the_way_costs_that_file_and_at_the_end_the_exit_code(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object) -> None:
        raise UnsavedModel("cannot write the model to m: No space left on device")

    with pytest.raises(UnsavedModel, match="No space left on device") as caught, lone(path, every=1) as kv:
        kv.init(model(), KINDS)
        monkeypatch.setattr("ps.worker.saving.write_weights", full)
        kv.step(grads())
        kv.step(grads())
        assert kv.clock == 2
    assert caplog.text.count("No space left on device; training goes on") == 2
    assert caught.value.exit_code == 9


@pytest.mark.parametrize("error", [PeerLost("the scheduler is silent"), ServerLost("server 0 is gone")])
def test_a_model_is_saved_also_where_nobody_can_be_waited_for(
    path: Path, error: PeerLost, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def barrier(kv: KV) -> None:
        raise error

    monkeypatch.setattr(KV, "barrier", barrier)
    kv = lone(path)
    kv.init(model(), KINDS)
    kv.step(grads())
    if isinstance(error, ServerLost):
        with pytest.raises(ServerLost):
            kv.close()
    else:
        kv.close()
    assert read(path)[1]["clock"] == "1"
    assert f"{error}; the model is saved as this worker has it" in caplog.text


def test_what_no_file_can_hold_is_refused_before_training(path: Path) -> None:
    kv = lone(path)
    with pytest.raises(UsageError, match="tensor 'z' has dtype complex128, which a safetensors file cannot hold"):
        kv.init({"w": np.zeros(3), "z": np.zeros(2, np.complex128)}, {"z": "frozen"})
    kv.close()
    assert not path.exists()


@pytest.mark.parametrize("place", ["gone/m.safetensors", "", "a\0b"])
def test_a_place_that_cannot_be_written_is_refused_before_training(tmp_path: Path, place: str) -> None:
    with pytest.raises(UsageError, match="cannot write the model to"):
        Saving(str(tmp_path / place)).check()


def saved_by(cluster: LocalCluster, path: Path, train: Callable[[KV], Any], ranks: list[int]) -> list[Any]:
    """Run a worker for each rank with the wish to save, and return what they return."""
    results: dict[int, Any] = {}
    errors: list[BaseException] = []

    def worker(rank: int) -> None:
        try:
            with KV(cluster.store(rank), xp.CPU, StepLog(None), saving=Saving(str(path))) as kv:
                results[rank] = train(kv)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=worker, args=(rank,), daemon=True) for rank in ranks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(cluster.timeout)
        assert not thread.is_alive(), "a worker hangs"
    if errors:
        raise errors[0]
    return [results[rank] for rank in ranks]


@pytest.mark.parametrize("mode", ["sync", "async", "ssp"])
def test_rank_0_waits_for_what_the_others_still_train_and_has_its_own_buffers(
    loopback: Start, path: Path, mode: str
) -> None:
    steps = {"sync": (5, 5), "async": (2, 9), "ssp": (2, 9)}[mode]

    def train(kv: KV) -> None:
        params = kv.init({"w": np.zeros(3), "mean": np.zeros(1)}, {"mean": "buffer"})
        params["mean"][:] = kv.rank
        for _ in range(steps[kv.rank]):
            kv.step({"w": np.ones(3)})

    saved_by(loopback(workers=2, mode=mode, optimizer="sgd:lr=1"), path, train, [0, 1])
    found = read(path)[0]
    assert found["mean"].tolist() == [0]
    assert found["w"].tolist() == [-5] * 3 if mode == "sync" else [-11] * 3


def test_every_client_has_the_final_model_of_a_federated_job_to_save(loopback: Start, path: Path) -> None:
    def train(kv: KV) -> np.ndarray:
        params = kv.init({"w": np.zeros(3)})
        for _ in kv.batches((np.arange(8),), 4):
            kv.step({"w": np.full(3, 1.0 + kv.rank)})
        return np.array(params["w"])

    cluster = loopback(workers=2, mode="federated", rounds=2, optimizer="sgd:lr=1")
    final = saved_by(cluster, path, train, [0, 1])
    found, about = read(path)
    assert (about["clock"], about["mode"]) == ("2", "federated")
    for w in final:
        np.testing.assert_array_equal(w, found["w"])


def test_a_client_leaves_alone_what_another_one_has_saved(path: Path) -> None:
    write_weights(path, {"w": np.zeros(3)}, {"job": "7", "clock": "2"})
    writes: list[str] = []
    saving = Saving(str(path))
    saving.last(2, {"job": "7", "clock": "2"}, writes.append, sole=False)
    assert not writes
    for about in ({"job": "8", "clock": "2"}, {"job": "7", "clock": "3"}):
        saving.last(2, about, writes.append, sole=False)
    saving.last(2, {"job": "7", "clock": "2"}, writes.append, sole=True)
    assert writes == [str(path)] * 3


def test_federated_versions_are_saved_while_rounds_go_on(loopback: Start, tmp_path: Path) -> None:
    def train(kv: KV) -> None:
        kv.init({"w": np.zeros(3)})
        for _ in kv.batches((np.arange(8),), 4):
            kv.step({"w": np.ones(3)})

    cluster = loopback(workers=1, mode="federated", rounds=5, optimizer="sgd:lr=1")
    store = cluster.store(0)
    with KV(store, xp.CPU, StepLog(None), saving=Saving(str(tmp_path / "{clock}.st"), 2)) as kv:
        train(kv)
    assert sorted(p.name for p in tmp_path.glob("*.st")) == ["2.st", "4.st", "5.st"]
    assert [read(tmp_path / f"{n}.st")[0]["w"][0] for n in (2, 4, 5)] == [-4, -8, -10]
