"""Promises of the help pages: every example on them works as it stands, within seconds, and they fit 80 columns.

Those that start processes are taken as far as the settings that the processes would get.
"""

from __future__ import annotations

import contextlib
import shlex
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import numpy as np
import pytest

import ps.engines.slurm_job
import ps.following.follower
import ps.helper.process
import ps.launch.cluster
import ps.launch.page_process
import ps.monitor.serving
import ps.ray.job
import ps.worker
from ps.chaos.attacker import Attacker
from ps.cli import main
from ps.cli.app import psctl
from ps.compare import comparison
from ps.keys.key_folder import add, create
from ps.protocol import query
from ps.protocol.messages import CheckpointMade, Drained
from ps.server.shard import service
from ps.trace import start
from ps.weights_file import write_weights
from support.kept import folder_with

pytestmark = pytest.mark.usefixtures("forked_roles")

SECONDS = 60.0
"""Of this process's own time, at most: seconds where nothing else runs."""


def commands(group: Any = psctl, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield every command with the words that lead to it."""
    yield path, group
    for name, command in group.load().items() if isinstance(group, click.Group) else ():
        yield from commands(command, (*path, name))


PAGES = dict(commands())
EXAMPLES = [
    line.split("|")[0].split(" > ")[0].split("    ")[0].strip()
    for command in PAGES.values()
    for line in command._sections.parts.get("Examples", "").splitlines()
]


class Over(contextlib.nullcontext[tuple[()]]):
    """A job that has nothing to show any more."""

    job = "a1"


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Whatever an example starts ends at once, well; the list says what it was."""
    found: list[str] = []

    def noted(name: str) -> Any:
        def run(*args: Any, **kwargs: Any) -> int:
            found.append(name)
            return 0

        return run

    def compared(*args: Any) -> Any:
        found.append("compare")
        raise SystemExit(0)

    def followed(address: str, **given: Any) -> Over:
        found.append("follow")
        return Over(())

    monkeypatch.setitem(sys.modules, "ps.server.scheduler.service", SimpleNamespace(serve=noted("scheduler")))  # type: ignore[arg-type]
    monkeypatch.setattr(service, "serve", noted("server"))
    monkeypatch.setattr(ps.worker, "run_script", noted("worker"), raising=False)
    monkeypatch.setattr(ps.launch.cluster, "run", noted("run"))
    monkeypatch.setattr(ps.engines.slurm_job, "run_job", noted("slurm"))
    monkeypatch.setattr(ps.ray.job, "run_job", lambda *args: SimpleNamespace(status=noted("ray")()))
    monkeypatch.setattr(ps.launch.page_process, "page_socket", contextlib.nullcontext)
    monkeypatch.setattr(ps.launch.page_process, "page_address", lambda *args: "http://127.0.0.1:7080/")
    monkeypatch.setattr(ps.monitor.serving, "watcher_of", lambda *args: SimpleNamespace(look=lambda: None))
    monkeypatch.setattr(ps.monitor.serving, "serve", noted("page"))
    monkeypatch.setattr(comparison, "run_all", compared)
    monkeypatch.setattr(ps.following.follower, "follow", followed)
    made: dict[Any, Any] = {CheckpointMade: CheckpointMade(1, 420, "step-000420", ""), Drained: Drained(1, "")}
    ask = query.ask
    monkeypatch.setattr(query, "ask", lambda *args: made[args[2]] if args[2] in made else ask(*args))
    monkeypatch.setattr(Attacker, "run", lambda self, faults, duration: "its time is over")
    monkeypatch.setattr(ps.helper.process, "serve", noted("helper"))
    monkeypatch.setattr(query, "fetch_status", lambda *args: {"phase": "running"})
    monkeypatch.setattr(query, "ping", lambda *args: {"role": "server", "rank": 0, "version": 1, "ms": 0.3})
    return found


@pytest.fixture
def folder(tmp_path: Path) -> None:
    """The files that examples name."""
    (tmp_path / "train.py").write_text("")
    (tmp_path / "token.txt").write_text("0123456789abcdef")
    write_weights(tmp_path / "model.safetensors", {"w": np.zeros(3)}, {})
    folder_with(tmp_path / "checkpoints", 420)
    (tmp_path / "package").mkdir()
    for name in ("__init__.py", "train.py"):
        (tmp_path / "package" / name).write_text("")
    for rank, name in enumerate(("a.json", "b.json", "trace.json")):
        trace = start(name, "worker", rank)
        trace.add("send", trace.now(), clock=0, chunk=0)
        trace.close()
    create(tmp_path / "keys", "scheduler", "scheduler", signing=False)
    create(tmp_path / "theirs", "hospital-a", "client", signing=False)
    (tmp_path / "theirs" / "public.key").rename(tmp_path / "hospital-a.key")
    add(tmp_path / "keys", "hospital-a", tmp_path / "hospital-a.key")


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_of_a_help_page_works_as_it_stands(
    example: str,
    started: list[str],
    folder: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = shlex.split(example)
    while "=" in words[0]:
        monkeypatch.setenv(*words.pop(0).split("=", 1))
    program, *argv = words
    assert program == "psctl"
    if "--watch" in argv:
        monkeypatch.setattr(time, "sleep", _stop)
    began = time.process_time()
    code = main(argv)
    told = capsys.readouterr()
    assert code == (130 if "--watch" in argv else 0), told.err
    assert time.process_time() - began < SECONDS
    assert (told.out.strip() or started) and "not reached" not in told.out


def _stop(seconds: float) -> None:
    raise KeyboardInterrupt


def test_every_command_has_an_example() -> None:
    assert [path for path, command in PAGES.items() if "Examples" not in command._sections.parts] == []
    assert len(EXAMPLES) > 30


@pytest.mark.parametrize("path", PAGES, ids=" ".join)
def test_a_help_page_fits_80_columns(
    path: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main([*path, "--help"]) == 0
    page = capsys.readouterr().out
    assert [line for line in page.splitlines() if len(line) > 80] == []
