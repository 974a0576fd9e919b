"""The public face: what ``import ps`` offers, how it is called, what it says it raises, and that it is fast."""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import ps
from ps import errors
from ps.data import Dataset
from ps.models import mlp

pytestmark = pytest.mark.usefixtures("alone")

SIGNATURES = {
    "connect": "(**defaults)",
    "run": "(function, /, *args, **settings)",
    "KV.init": "(self, params, kinds=None, groups=None)",
    "KV.watch": "(self, function)",
    "KV.ready": "(self, name, grad, *, examples=None)",
    "KV.step": "(self, grads=None, *, examples=None, partial=False, **metrics)",
    "KV.skip": "(self, **metrics)",
    "KV.push_pull": "(self, grads, params=None, *, examples=None)",
    "KV.push": "(self, grads, *, examples=None, partial=False)",
    "KV.pull": "(self, out=None)",
    "KV.wait": "(self, handle)",
    "KV.barrier": "(self)",
    "KV.set_lr": "(self, lr, group=None)",
    "KV.set_weight_decay": "(self, weight_decay, group=None)",
    "KV.batches": "(self, data, batch_size=None, *, epochs=1, shuffle=True, prefetch=0)",
    "KV.evaluate": "(self, function, data, **patience)",
    "KV.save": "(self, path, *, masters=False)",
    "KV.keep": "(self, name, save, load)",
    "KV.stop": "(self, reason)",
    "KV.close": "(self, failure='')",
    "Pipeline.init": "(self, kv, seed=0, kinds=None, groups=None, *, sample=None)",
    "Pipeline.step": "(self, x, y=None, *, microbatches=1, **metrics)",
    "Pipeline.outputs": "(self, x, params=None)",
    "Pipeline.loss": "(self, params, data, batch_size=1000)",
    "Pipeline.accuracy": "(self, params, data, batch_size=1000)",
}
PROPERTIES = {
    "KV": {"clock", "job", "grads", "num_workers", "params", "rank", "rng", "skipped", "stopped"},
    "Handle": {"done", "pending", "staleness"},
}


def found(name: str) -> object:
    owner: object = ps
    for part in name.split("."):
        owner = getattr(owner, part)
    return owner


def test_the_public_names_are_these() -> None:
    assert sorted(ps.__all__) == ["Handle", "KV", "PSError", "Pipeline", "__version__", "connect", "follow", "run"]
    scope: dict[str, object] = {}
    exec("from ps import *", scope)
    assert set(ps.__all__) <= set(scope)


def test_tab_completion_knows_them_before_they_are_loaded() -> None:
    code = "import ps; print(*dir(ps))"
    names = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert {*ps.__all__, "data", "errors", "models", "optim"} <= set(names.stdout.split())


def test_what_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'ps' has no attribute 'conect'"):
        ps.conect  # noqa: B018


def test_subpackages_need_no_import_of_their_own() -> None:
    code = "import ps; ps.errors.GradientError; ps.models.mlp.init; ps.data.batches; ps.optim.OPTIMIZERS; ps.connect"
    subprocess.run([sys.executable, "-c", code], timeout=60, check=True)


def test_importing_ps_loads_nothing_large() -> None:
    code = "import ps, sys; print(*sys.modules)"
    names = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert not {"numpy", "zmq", "msgpack", "cupy", "ps.worker", "rich", "click"} & set(names.stdout.split())


@pytest.mark.parametrize("name", SIGNATURES)
def test_signatures_are_these(name: str) -> None:
    signature = inspect.signature(found(name))  # type: ignore[arg-type]
    bare = [p.replace(annotation=inspect.Parameter.empty) for p in signature.parameters.values()]
    assert str(inspect.Signature(bare)) == SIGNATURES[name]


@pytest.mark.parametrize("name", ["KV", "Handle"])
def test_there_are_no_other_public_names(name: str) -> None:
    public = {member for member in vars(getattr(ps, name)) if not member.startswith("_")}
    methods = {other.partition(".")[2] for other in SIGNATURES if other.startswith(f"{name}.")}
    extra = {"Handle": {"belongs_to", "finish"}}.get(name, set())  # for KV alone
    assert public == PROPERTIES[name] | methods | extra


@pytest.mark.parametrize("name", SIGNATURES)
def test_a_public_docstring_says_what_it_raises(name: str) -> None:
    doc = inspect.getdoc(found(name))
    assert doc, name
    raised = re.findall(r"\b[A-Z]\w*(?:Error|Timeout|Lost|Mismatch|Refused|Evicted)\b|\bRefused\b|\bEvicted\b", doc)
    assert all(hasattr(errors, error) for error in raised)
    assert raised or "Raises what went wrong" in doc, f"{name} does not say what it raises"


@pytest.mark.parametrize(
    ("wish", "text"),
    [
        ({"optimiser": "sgd"}, "unknown setting 'optimiser' in the script; did you mean 'optimizer'?"),
        ({"run_dir": "x"}, "unknown setting 'run_dir' in the script; it is set by --run-dir or PS_RUN_DIR"),
        ({"mode": "asink"}, r"mode = 'asink' \(script\): must be .*did you mean 'async'"),
        ({"optimizer": "adam:rl=1"}, "optimizer"),
        ({"workers": 0}, r"workers = 0 \(script\)"),
        ({"backup_workers": "x"}, r"backup_workers = 'x' \(script\)"),
        ({"clip_norm": object()}, r"clip_norm = <object .*\(script\)"),
    ],
)
def test_a_wish_that_cannot_be_is_refused_with_what_was_meant(wish: dict[str, object], text: str) -> None:
    with pytest.raises(errors.ConfigError, match=text):
        ps.connect(**wish)


def test_a_wish_is_checked_before_anybody_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PS_SCHEDULER", "tcp://127.0.0.1:1")
    with pytest.raises(errors.ConfigError, match="unknown setting 'optimiser'"):
        ps.connect(optimiser="sgd")


def test_nobody_at_the_schedulers_address_is_said_with_what_to_try(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PS_SCHEDULER", "tcp://127.0.0.1:1")
    monkeypatch.setenv("PS_CONNECT_TIMEOUT", "0.3")
    text = r"no reply from the scheduler at tcp://127.0.0.1:1 after 0.3 s. Is it up\? Try: psctl ping tcp://127.0.0.1:1"
    with pytest.raises(errors.ConnectTimeout, match=text):
        ps.connect()


def test_what_is_explicit_wins_over_the_scripts_wishes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PS_OPTIMIZER", "sgd:lr=0.5")
    with ps.connect(optimizer="adam", schedule="cosine:steps=10", workers=8, servers=3, backup_workers=2) as kv:
        assert (kv.job.optimizer, kv.job.schedule) == ("sgd:lr=0.5", "cosine:steps=10")
        assert (kv.rank, kv.num_workers, kv.job.workers, kv.job.servers) == (0, 1, 1, 1)


def test_the_example_of_the_docstring_trains(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PS_RUN_DIR", str(tmp_path / "run"))
    random = np.random.default_rng(0)
    centres = random.standard_normal((3, 8)).astype(np.float32) * 3
    y = random.integers(0, 3, 300)
    data = Dataset(centres[y] + random.standard_normal((300, 8)).astype(np.float32), y)

    with ps.connect() as kv:
        params = kv.init(mlp.init([8, 16, 3], seed=0))
        for x, y in kv.batches(data, batch_size=32, epochs=5):
            loss, grads = mlp.loss_and_grad(params, x, y)
            kv.step(grads, loss=loss)
        assert mlp.accuracy(params, data) > 0.9
    assert (tmp_path / "run" / "metrics.jsonl").read_text().count('"loss"') == 50


def test_a_script_that_does_not_close_leaves_its_whole_record(tmp_path: Path) -> None:
    code = (
        "import numpy as np, ps\nkv = ps.connect()\np = kv.init({'w': np.zeros(3)})\n"
        "for _ in range(5): kv.step({'w': np.ones(3)})\n"
    )
    env = {**os.environ, "PS_RUN_DIR": str(tmp_path)}
    subprocess.run([sys.executable, "-c", code], env=env, timeout=60, check=True)
    assert (tmp_path / "metrics.jsonl").read_text().count("\n") == 5


def test_connecting_leaves_the_scripts_logging_alone() -> None:
    code = "import logging, ps\nps.connect().close()\nassert not logging.getLogger().handlers"
    subprocess.run([sys.executable, "-c", code], timeout=60, check=True)
