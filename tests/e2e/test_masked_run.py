"""A run under masks: its sums are right, and of no client is anything told that is its own, wherever one looks."""

from __future__ import annotations

import json
import re
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ps.protocol.query import fetch_status
from support.cluster import DIGITS, SCRIPTS, Process, wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(90)]

OWN = re.compile(r"\b(?:0\.?7351\d+|4096\d3|0\.?3173\d+|735[01]\d*e-\d+|317[23]\d*e-\d+)\b")
"""What is a client's own: its loss, its examples, what it measured; not a few digits within a key's many."""


def told(folder: Path) -> Iterator[tuple[str, str]]:
    """Everything that was written, by whom."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield str(path.relative_to(folder)), path.read_bytes().decode("latin-1")


@pytest.mark.parametrize("secure", [True, False])
@pytest.mark.parametrize("how", [(), ("--batches",)])
def test_of_no_client_anything_is_told_that_is_its_own(
    forked: Callable[..., Process], tmp_path: Path, how: tuple[str, ...], secure: bool
) -> None:
    masks = ("--secure", "pairwise", "--secure-min", 3) if secure else ()
    job = ("--mode", "federated", "--rounds", 8, "--partition", "own", "--eval-every", 1, *masks)
    files = ("--state", tmp_path / "state.db", "--run-dir", tmp_path / "run", "--trace", tmp_path / "trace")
    run = forked("run", "-s", 2, "-w", 4, *job, *files, SCRIPTS / "private.py", *how)
    address = run.wait_for(r"scheduler at (tcp://\S+)")[1]
    pictures: list[str] = []

    def look() -> bool:
        try:
            pictures.append(json.dumps(fetch_status(address)))
        except Exception:  # it is over
            return True
        return run.code is not None

    wait_until(look)
    assert run.wait() == 0, run.text
    assert "final 0.500 0.500" in run.text
    everything = [*told(tmp_path), ("status", "\n".join(pictures)), ("output", run.text)]
    found = [(name, match[0]) for name, text in everything if (match := OWN.search(text))]
    if secure:
        assert not found
        assert not (tmp_path / "run" / "shares.jsonl").exists()
    else:
        names = {name for name, _ in found}
        assert {"status", "run/metrics.jsonl", "run/rounds.jsonl"} <= names, "these numbers would be seen here"


def test_a_client_that_is_killed_is_left_out_and_the_sum_is_that_of_the_others(
    command: Callable[..., Process], tmp_path: Path
) -> None:
    job = ("--mode", "federated", "--rounds", 12, "--secure", "pairwise", "--secure-min", 3)
    run = command("run", "-s", 2, "-w", 5, *job, "--heartbeat-timeout", 2, DIGITS)
    address = run.wait_for(r"scheduler at (tcp://\S+)")[1]
    wait_until(lambda: fetch_status(address).get("federated", {}).get("round", 0) >= 2)
    pid = next(worker["pid"] for worker in fetch_status(address)["workers"] if worker["rank"] == 3)
    Process.signal_pid(pid, signal.SIGKILL)
    run.wait_for(r"worker 3 failed \(killed by SIGKILL\): starting it again")
    assert run.wait() == 0, run.text
    assert float(run.wait_for(r"test accuracy (\S+)")[1]) > 0.9
    assert "12 of 12 rounds" in run.text


@pytest.mark.parametrize("algorithm", ["fedavg", "fedbuff:4"])
def test_a_helper_has_the_masks_taken_off_and_ends_with_the_job(forked: Callable[..., Process], algorithm: str) -> None:
    job = ("--mode", "federated", "--rounds", 6, "--secure", "helper", "--secure-min", 3, "--algorithm", algorithm)
    run = forked("run", "-s", 2, "-w", 5, *job, DIGITS)
    address = run.wait_for(r"scheduler at (tcp://\S+)")[1]
    helper = forked("helper", "--scheduler", address)
    assert run.wait() == 0, run.text
    assert float(run.wait_for(r"test accuracy (\S+)")[1]) > 0.85
    assert helper.wait() == 0, helper.text
    assert "6 sums were told" in helper.text


def test_a_helper_that_wants_more_clients_than_there_are_tells_nothing(forked: Callable[..., Process]) -> None:
    job = ("--mode", "federated", "--rounds", 2, "--secure", "helper", "--secure-min", 3)
    run = forked("run", "-s", 1, "-w", 3, *job, DIGITS)
    helper = forked("helper", "--scheduler", run.wait_for(r"scheduler at (tcp://\S+)")[1], "--least", 4)
    helper.wait_for("a sum is not told: 3 clients that this helper lists are in the sum; it wants 4")
    run.wait_for("the helper does not tell this sum of masks")
    status = fetch_status(run.wait_for(r"scheduler at (tcp://\S+)")[1])
    assert status["federated"]["round"] == 0


def test_a_helper_may_be_there_before_the_run_that_it_helps(forked: Callable[..., Process]) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    helper = forked("helper", "--scheduler", f"tcp://127.0.0.1:{port}")
    helper.wait_for("waiting 60 s for a scheduler")
    job = ("--mode", "federated", "--rounds", 2, "--secure", "helper", "--secure-min", 3)
    run = forked("run", "--port", port, "-s", 1, "-w", 4, *job, DIGITS)
    assert run.wait() == 0, run.text
    assert helper.wait() == 0, helper.text
    assert "2 sums were told" in helper.text
