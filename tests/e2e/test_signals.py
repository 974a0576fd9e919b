"""Ctrl-C and SIGTERM end a run within five seconds, and nothing is left: no process, no file."""

from __future__ import annotations

import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ps.protocol.query import fetch_status
from support.cluster import TRAIN, Process, is_running, wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(60)]


@pytest.fixture
def temporary() -> Iterator[Path]:
    """Return an empty directory with a short path."""
    path = Path(tempfile.mkdtemp(prefix="e2e-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


def shared_memory() -> set[str]:
    return {path.name for path in Path("/dev/shm").glob("ps*")} if Path("/dev/shm").is_dir() else set()


@pytest.mark.parametrize(
    ("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)], ids=["INT", "TERM", "KILL"]
)
def test_a_signal_ends_everything_and_leaves_nothing(
    command: Callable[..., Process], temporary: Path, monkeypatch: pytest.MonkeyPatch, signum: int, code: int
) -> None:
    before = shared_memory()
    run = command("run", "-s", 2, "-w", 2, TRAIN, "--steps", 10**6, "--nap", 0.002, "--shout", TMPDIR=str(temporary))
    address = run.wait_for(r"scheduler at (tcp://\S+)")[1]
    run.wait_for("clock 5 of rank 1")
    monkeypatch.setenv("PS_RUNTIME_DIR", str(temporary))  # where its keys are
    wait_until(
        lambda: len(fetch_status(address)["workers"]) == 2, 5.0
    )  # one that was given may be told again for 0.1 s
    status = fetch_status(address)
    pids = [member["pid"] for role in ("servers", "workers") for member in status[role]]
    pids.append(Process.child(run.pid, "scheduler"))
    assert len(pids) == 5 and all(map(is_running, pids))
    asked = time.monotonic()
    run.signal(signum)
    assert run.wait() == code
    wait_until(lambda: not any(map(is_running, pids)), 8.0)
    assert time.monotonic() - asked < 5.0
    assert "Traceback" not in run.text, run.text
    assert list(temporary.iterdir()) == []
    assert shared_memory() <= before


def test_a_run_that_ends_by_itself_leaves_nothing_either(command: Callable[..., Process], temporary: Path) -> None:
    run = command("run", "-s", 2, "-w", 2, TRAIN, "--steps", 5, TMPDIR=str(temporary))
    assert run.wait() == 0, run.text
    assert list(temporary.iterdir()) == []


def test_roles_started_by_hand_tidy_up_when_they_are_ended(start: Callable[..., object]) -> None:
    cluster = start(servers=2, workers=1)
    (worker,) = cluster.train(1, "--steps", 10**6, "--nap", 0.002, "--shout")
    worker.wait_for("clock 5 ")
    asked = time.monotonic()
    for process in (worker, *cluster.servers, cluster.scheduler):
        process.signal(signal.SIGTERM)
    codes = [process.wait() for process in (worker, *cluster.servers, cluster.scheduler)]
    assert time.monotonic() - asked < 5.0
    assert set(codes) <= {143, 4, 0}, codes
    assert [path.name for path in cluster.directory.iterdir()] == []
