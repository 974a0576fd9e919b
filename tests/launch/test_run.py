"""Promises of ps.run before and after the cluster: what it refuses, and which end of a run becomes which exception."""

from __future__ import annotations

import os
import pickle
import signal
import site
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import ps
from ps import errors
from ps.launch import run as module
from ps.launch.call import OUTCOME
from ps.launch.plan import Plan
from ps.launch.policy import Exit
from ps.launch.run_result import RunResult

pytestmark = pytest.mark.usefixtures("alone")


class Cluster:
    """What starts no process, and ends as it was told."""

    def __init__(self) -> None:
        self.result = RunResult(0)
        self.plans: list[Plan] = []
        self.environ: Mapping[str, str] = {}
        self.outcomes: dict[int, tuple[Any, ...]] = {}

    def __call__(self, plan: Plan, environ: Mapping[str, str], screen: Any, fetch: Any) -> RunResult:
        self.plans.append(plan)
        self.environ = environ
        for rank, outcome in self.outcomes.items():
            os.write(plan.hands("worker", rank)[OUTCOME], pickle.dumps(outcome))
        return self.result


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    made = Cluster()
    monkeypatch.setattr(module, "run_to_end", made)
    return made


def train() -> None:
    pass


def test_settings_are_those_of_psctl_run(cluster: Cluster, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    Path("job.toml").write_text("staleness = 2\nservers = 5\n")
    monkeypatch.setenv("PS_EVAL_EVERY", "7")
    cluster.outcomes[0] = ("returned", pickle.dumps("all well"))
    given = {"mode": "ssp", "clip_norm": None, "grace": 3, "save": "m-{clock}.safetensors", "device": "cpu"}
    assert ps.run(train, servers=2, workers="4", config="job.toml", **given) == "all well"
    [plan] = cluster.plans
    assert (plan.servers, plan.workers) == (2, 4)
    job = {"mode": "ssp", "staleness": 2, "servers": 2, "workers": 4, "clip_norm": None, "eval_every": 7}
    assert plan.job == job
    assert (plan.process.grace, plan.process.save, plan.process.device) == (3, "m-{clock}.safetensors", "cpu")
    assert plan.command("worker")[-4:] == ["worker", "-m", "--", "ps.launch.called"]
    assert plan.join_command("tcp://a:1") == ""
    assert plan.hands("server", 0) == {}


@pytest.mark.parametrize(
    ("settings", "kind", "text"),
    [
        ({"worker": 2}, errors.ConfigError, "unknown setting 'worker' in ps.run; did you mean 'workers'?"),
        ({"rank": 2}, errors.ConfigError, "unknown setting 'rank' in ps.run"),
        ({"mode": "asink"}, errors.ConfigError, r"mode = 'asink' \(ps.run\): must be .*did you mean 'async'"),
        ({"workers": 0}, errors.ConfigError, r"workers = 0 \(ps.run\): must be .*at least 1"),
        ({"workers": 999, "servers": 2}, errors.ConfigError, "at most 1000 are started on one machine"),
        ({"save": "gone/m.safetensors"}, errors.UsageError, "cannot write the model to gone/m.safetensors"),
        ({"init": "gone.safetensors"}, errors.UsageError, "init: there is no model file gone.safetensors"),
        ({"plugins": "gone"}, errors.ConfigError, "gone"),
        ({"config": "gone.toml"}, errors.ConfigError, "gone.toml"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_starts(
    cluster: Cluster, settings: dict[str, Any], kind: type[Exception], text: str
) -> None:
    with pytest.raises(kind, match=text):
        ps.run(train, **settings)
    assert cluster.plans == []


def test_only_a_function_can_be_run(cluster: Cluster) -> None:
    with pytest.raises(errors.UsageError, match=r"a function to call in each worker, not 'train\.py'"):
        ps.run("train.py")  # type: ignore[arg-type]


def test_a_worker_starts_no_cluster(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PS_SCHEDULER", "tcp://10.0.0.1:7070")
    with pytest.raises(errors.StateError, match="this process is a worker already, of the job at tcp://10"):
        ps.run(train)
    assert cluster.plans == []


@pytest.mark.parametrize(
    ("first", "kind"),
    [
        (Exit("worker", 1, 3), errors.ConnectTimeout),
        (Exit("worker", 1, 9), errors.UnsavedModel),
        (Exit("worker", 1, -9), errors.PSError),
        (Exit("server", 0, -9), errors.ServerLost),
        (Exit("server", 0, 5), errors.AddressInUse),
        (Exit("scheduler", 0, 2), errors.UsageError),
    ],
)
def test_what_failed_first_is_the_error_of_its_exit_code(cluster: Cluster, first: Exit, kind: type[Exception]) -> None:
    cluster.result = RunResult(1, first, ("oh", "no"))
    cluster.outcomes[0] = ("returned", pickle.dumps(1))
    with pytest.raises(kind, match=f"{first.name} failed first .*its last lines:\n    oh\n    no") as caught:
        ps.run(train, workers=2)
    assert caught.type is kind


def test_the_exception_of_the_worker_that_failed_first_is_raised(cluster: Cluster) -> None:
    cluster.result = RunResult(1, Exit("worker", 1, 1))
    for rank in range(2):
        cluster.outcomes[rank] = ("raised", pickle.dumps(KeyError(rank)), "Traceback: there")
    with pytest.raises(KeyError) as caught:
        ps.run(train, workers=2)
    assert caught.value.args == (1,)
    assert "Traceback: there" in str(caught.value.__cause__)


def test_an_interrupt_is_this_programs_own_once_the_cluster_has_ended(cluster: Cluster) -> None:
    cluster.result = RunResult(130, signal=signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        ps.run(train)
    came: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: came.append(number))
    try:
        cluster.result = RunResult(143, signal=signal.SIGTERM)
        with pytest.raises(SystemExit) as caught:
            ps.run(train)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert (came, caught.value.code) == ([signal.SIGTERM], 143)


def test_a_job_that_has_ended_before_has_no_result(cluster: Cluster) -> None:
    cluster.result = RunResult(0, began=False)
    with pytest.raises(errors.JobEnded, match=r"the job in job\.db has ended before"):
        ps.run(train, state="job.db")


def test_a_package_that_only_this_program_finds_is_found_by_its_workers(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = str(Path(ps.__file__).parents[1])
    monkeypatch.setattr(sys, "path", [root, *(entry for entry in sys.path if entry != root)])
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    ps.run(train)
    assert cluster.environ["PYTHONPATH"] == f"{root}{os.pathsep}/elsewhere"
    monkeypatch.setattr(site, "getsitepackages", lambda: [root])
    ps.run(train)
    assert cluster.environ["PYTHONPATH"] == "/elsewhere"
