"""Every mode trains real data, alone and on a cluster; the bound of SSP holds, async waits for nobody."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ps.config import MODES
from support.cluster import DIGITS, ROOT, TRAIN, Process
from support.libraries import demand

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

Command = Callable[..., Process]
MNIST = str(ROOT / "ps" / "examples" / "mnist.py")
MNIST_DATA = Path(os.environ.get("PS_TEST_DATA") or os.environ.get("PS_DATA") or ROOT.parent / "shared/data/mnist")
needs_mnist = pytest.mark.skipif(
    not MNIST_DATA.is_dir(), reason=f"no MNIST in {MNIST_DATA}; PS_DATA=DIR says where it is"
)


def accuracy(process: Process) -> float:
    return float(process.wait_for(r"test accuracy ([0-9.]+)")[1])


def record(directory: Path) -> dict[str, Any]:
    summary: dict[str, Any] = json.loads((directory / "summary.json").read_text())
    return summary


@pytest.mark.parametrize("mode", ["sync", "async", "ssp"])
def test_digits_is_learnt_in_every_mode(forked: Command, tmp_path: Path, mode: str) -> None:
    demand("sklearn", "the digits come with it")
    epochs = 20 if mode == "async" else 10  # rank 0 measures when it is done, which here is when the other is not
    run = forked("run", "-s", 2, "-w", 2, "--mode", mode, "--run-dir", tmp_path / "run", DIGITS, "--epochs", epochs)
    assert run.wait(100) == 0, run.text
    assert accuracy(run) >= 0.95
    summary = record(tmp_path / "run")
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert (summary["mode"], summary["exit_status"], summary["deaths"]) == (mode, 0, [])
    assert summary["total_steps"] == len(lines) == sum(row["steps"] for row in summary["per_worker"])
    assert summary["bytes_up"] > 0 and summary["bytes_down"] > 0
    assert {"loss", "samples_per_s", "bytes_up", "bytes_down", "wait_s", "staleness"} <= json.loads(lines[-1]).keys()


def test_digits_is_learnt_by_clients_that_keep_their_shares_and_the_screen_says_how_well(
    forked: Command,
) -> None:
    demand("sklearn", "the digits come with it")
    run = forked("run", "-w", 2, "--mode", "federated", "--rounds", 12, "--partition", "dirichlet:1", DIGITS)
    assert run.wait(100) == 0, run.text
    assert accuracy(run) >= 0.9
    measured = run.wait_for(r"measured after round 12: accuracy ([0-9.]+)")
    assert float(measured[1]) == pytest.approx(accuracy(run), abs=1e-3)
    assert "epochs = 10 of kv.batches does not count in a federated job: a client trains 1 epoch" in run.text


def test_digits_is_learnt_without_a_cluster(forked: Command) -> None:
    demand("sklearn", "the digits come with it")
    run = forked(DIGITS, program=(sys.executable,))
    assert run.wait(60) == 0, run.text
    assert accuracy(run) >= 0.95


BY_DIGITS = pytest.mark.long("digits is learnt in every mode, and MNIST in two")


@needs_mnist
@pytest.mark.parametrize(
    "mode",
    [
        mode if mode in ("sync", "federated") else pytest.param(mode, marks=BY_DIGITS)
        for mode, traits in MODES.items()
        if not traits.pipeline
    ],
)
def test_real_mnist_is_learnt_by_two_workers_in_every_mode(forked: Command, mode: str) -> None:
    options = ("--data", MNIST_DATA, "--model", "mlp", "--limit", 6000, "--batch-size", 50)
    run = forked("run", "-s", 2, "-w", 2, "--mode", mode, MNIST, *options)
    assert run.wait(100) == 0, run.text
    assert accuracy(run) >= 0.85


@needs_mnist
@pytest.mark.slow
@pytest.mark.skipif("PS_TEST_SLOW" not in os.environ, reason="minutes of work; PS_TEST_SLOW=1 runs it")
@pytest.mark.timeout(1500)
def test_the_cnn_is_98_percent_right_on_mnist_with_two_workers(forked: Command, tmp_path: Path) -> None:
    run = forked("run", "-s", 2, "-w", 2, "--run-dir", tmp_path / "run", MNIST, "--data", MNIST_DATA)
    assert run.wait(1400) == 0, run.text
    print(f"accuracy {accuracy(run)} after {record(tmp_path / 'run')['wall_s']} s")
    assert accuracy(run) >= 0.98


def test_ssp_never_exceeds_its_bound_and_the_fast_worker_reaches_it(forked: Command, tmp_path: Path) -> None:
    options = ("-s", 2, "-w", 3, "--mode", "ssp", "--staleness", 3, "--run-dir", tmp_path / "run")
    run = forked("run", *options, "--optimizer", "sgd:lr=0.002", TRAIN, "--steps", 25, "--slow", "1:0.05")
    assert run.wait() == 0, run.text
    summary = record(tmp_path / "run")
    assert summary["max_staleness"] == 3
    assert [row["steps"] for row in summary["per_worker"]] == [25, 25, 25]


def test_async_waits_for_nobody(forked: Command, tmp_path: Path) -> None:
    options = ("-w", 2, "--mode", "async", "--run-dir", tmp_path / "run", "--optimizer", "sgd:lr=0.002")
    gate = tmp_path / "gate"  # at which the slow one stands until the fast one, which began with it, is done
    slow_one = ("--slow", "1:0.05", "--gate", f"1@1:{gate}")
    run = forked("run", *options, TRAIN, "--steps", 40, "--barrier-at", 0, *slow_one)
    run.wait_for(r"result rank=0")
    gate.touch()
    assert run.wait() == 0, run.text
    fast, slow = record(tmp_path / "run")["per_worker"]
    assert fast["steps"] == slow["steps"] == 40
    assert slow["max_staleness"] > 5  # the fast one did many steps in one of the slow one's
    assert fast["samples_per_s"] > 3 * slow["samples_per_s"]


def test_a_backup_worker_does_not_slow_the_others_and_sees_whole_versions_only(forked: Command, tmp_path: Path) -> None:
    options = ("-s", 2, "-w", 3, "--backup-workers", 1, "--chunk-size", 1024, "--run-dir", tmp_path / "run")
    script = str(Path(TRAIN).with_name("versions.py"))
    run = forked("run", *options, script, 60, "2:0.1")
    assert run.wait() == 0, run.text
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert all(row["torn"] == 0 for row in rows)
    walls = {int(m.split()[0]): float(m.split()[1]) for line in run.lines for m in [line.partition("seconds ")[2]] if m}
    assert walls[0] < 4.0 and walls[1] < 4.0, walls  # 60 steps at the slow one's pace would take 6 s
    assert sum(row["rank"] == 2 for row in rows) < 60
