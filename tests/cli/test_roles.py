"""Promises of psctl scheduler, server, worker and run: what they hand on, and what they say when ready."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import ps.launch.cluster
import ps.worker
from ps.cli import main
from ps.config import ProcessConfig
from ps.launch.plan import Plan
from ps.script import Script
from ps.server.shard import service


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """Stand-ins for the roles; each call is noted."""
    found: list[tuple[Any, ...]] = []

    def serve_job(
        explicit: dict[str, Any], process: ProcessConfig, *, ready: Any, tell: Any, is_first: bool, say: Any
    ) -> int:
        found.append((explicit, process))
        ready(f"tcp://{process.host}:{process.port}")
        return 0

    def serve(process: ProcessConfig, *, ready: Any) -> int:
        found.append((process,))
        ready("tcp://127.0.0.1:5")
        return 0

    def run_script(script: Script, args: list[str], process: ProcessConfig) -> int:
        found.append((script, args, process))
        return 5

    def run(plan: Plan, environ: Any, screen: Any, fetch: Any) -> int:
        found.append((plan,))
        return 6

    monkeypatch.setitem(sys.modules, "ps.server.scheduler.service", SimpleNamespace(serve=serve_job))  # type: ignore[arg-type]
    monkeypatch.setattr(service, "serve", serve)
    monkeypatch.setattr(ps.worker, "run_script", run_script, raising=False)
    monkeypatch.setattr(ps.launch.cluster, "run", run)
    return found


def test_the_scheduler_gets_what_was_set_explicitly_and_no_default(
    calls: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PS_STALENESS", "4")
    assert main(["scheduler", "-w", "3", "--mode", "ssp", "--state", "s.db"]) == 0
    [(explicit, process)] = calls
    assert explicit == {"workers": 3, "mode": "ssp", "staleness": 4}
    assert (process.host, process.port, process.state) == ("127.0.0.1", 7070, "s.db")
    shown = capsys.readouterr().err
    assert shown == (
        "scheduler at tcp://127.0.0.1:7070; join with: psctl worker --scheduler tcp://127.0.0.1:7070 SCRIPT\n"
    )


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--save", "gone/m.safetensors"], "cannot write the model to gone/m.safetensors: No such file"),
        (["--save", "."], "cannot write the model to .: it is there, and is no file"),
        (["--init", "gone.safetensors"], "init: there is no model file gone.safetensors"),
        (["--init", "train.py"], "cannot read the model file train.py (from init): it has 0 bytes"),
    ],
)
def test_a_model_file_that_cannot_be_is_told_before_anything_starts(
    calls: list[tuple[Any, ...]],
    flags: list[str],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("train.py").touch()
    assert main(["run", *flags, "train.py"]) == 2
    assert words in capsys.readouterr().err
    assert not calls


@pytest.mark.parametrize(
    ("env", "argv", "port"),
    [
        ({"PS_SCHEDULER": "a:81"}, [], 81),
        ({"PS_SCHEDULER": "a:81"}, ["--port", "0"], 0),
        ({"PS_PORT": "9"}, [], 9),
    ],
)
def test_the_schedulers_port(
    env: dict[str, str],
    argv: list[str],
    port: int,
    calls: list[tuple[Any, ...]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    assert main(["scheduler", *argv]) == 0
    assert calls[0][1].port == port


def test_a_launched_role_tells_its_descriptor_and_prints_nothing(
    calls: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ready, write = os.pipe()
    lifeline, keep = os.pipe()
    monkeypatch.setenv("PS_READY_FD", str(write))
    monkeypatch.setenv("PS_LIFELINE_FD", str(lifeline))
    assert main(["server", "--rank", "1"]) == 0
    assert os.read(ready, 100) == b"tcp://127.0.0.1:5\n"
    assert os.read(ready, 100) == b"", "the descriptor is closed"
    assert not {"PS_READY_FD", "PS_LIFELINE_FD"} & os.environ.keys()
    assert capsys.readouterr().err == ""
    assert calls == [(ProcessConfig(scheduler="tcp://127.0.0.1:7070", rank=1),)]
    os.close(ready)
    del keep  # closing it would end this process: that is what it is for


def test_a_descriptor_that_is_none_is_refused(
    calls: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PS_READY_FD", "999")
    assert main(["server"]) == 2
    assert "PS_READY_FD = '999' is not an open file descriptor" in capsys.readouterr().err


@pytest.mark.parametrize("dashes", [[], ["--"]])
def test_what_follows_the_script_is_the_scripts(calls: list[tuple[Any, ...]], dashes: list[str]) -> None:
    Path("x.py").touch()
    rest = ["--lr", "3", "--help", "-w", "--", "y"]
    assert main(["worker", "--scheduler", "a", *dashes, "x.py", *rest]) == 5
    assert main(["run", "-w", "2", *dashes, "x.py", *rest]) == 6
    assert calls[0] == (Script("x.py"), rest, ProcessConfig(scheduler="tcp://a:7070"))
    assert (calls[1][0].script, calls[1][0].args) == (Script("x.py"), tuple(rest))


def test_run_hands_on_what_was_set_and_how_many(calls: list[tuple[Any, ...]]) -> None:
    Path("x.py").touch()
    Path("paramserver.toml").write_text('servers = 2\noptimizer = "adam"\ndevice = "cpu"')
    assert main(["run", "-w", "3", "--run-dir", "r", "x.py"]) == 6
    plan = calls[0][0]
    assert (plan.servers, plan.workers) == (2, 3)
    assert plan.job == {"servers": 2, "workers": 3, "optimizer": "adam"}
    assert plan.process == ProcessConfig(device="cpu", run_dir="r")
    assert plan.toml == str(Path("paramserver.toml").resolve())


@pytest.mark.parametrize(
    ("text", "words"),
    [("def f():\n    1 / 0\nf()\n", "line 2, in f"), ("def f(:\n", "SyntaxError")],
)
def test_a_script_that_raises_is_shown_without_what_started_it(text: str, words: str) -> None:
    Path("boom.py").write_text(text)
    program = [sys.executable, "-m", "ps.cli", "worker", "boom.py"]
    done = subprocess.run(program, capture_output=True, text=True, timeout=30)
    assert done.returncode == 1
    assert words in done.stderr
    assert "boom.py" in done.stderr
    assert "click" not in done.stderr
    assert "runpy" not in done.stderr
