"""Promises of psctl compare: what it refuses, and a report of real runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ps.cli import main
from ps.compare import page as page_module

SCRIPT = """
import json, os, sys, time
import numpy as np
import ps

x = np.linspace(-1, 1, 256, dtype=np.float32).reshape(64, 4)
y = x @ np.array([1, -2, 3, 0.5], np.float32)
with ps.connect(optimizer="sgd:lr=0.1") as kv:
    params = kv.init({"w": np.zeros(4, np.float32)})

    def evaluate():
        error = float(np.mean((x @ params["w"] - y) ** 2))
        line = {"t": time.time(), "rank": kv.rank, "clock": kv.clock, "accuracy": 1 / (1 + error)}
        if kv.rank == 0:
            with open(os.environ["PS_RUN_DIR"] + "/evaluations.jsonl", "a") as lines:
                lines.write(json.dumps(line) + chr(10))

    for a, b in kv.batches((x, y), batch_size=8, epochs=int(sys.argv[1])):
        kv.step({"w": a.T @ (a @ params["w"] - b) / len(a)})
        time.sleep(float(sys.argv[2]))  # a training long enough to have a middle
    kv.barrier()
    evaluate()
"""


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["compare", "gone.py"], "there is no script gone.py"),
        (
            ["compare", "--drop", "1", "x.py"],
            "drop = '1' (flag --drop): must be a finite number, greater than 0 and at most 0.999",
        ),
        (
            ["compare", "--timeout", "nan", "x.py"],
            "timeout = 'nan' (flag --timeout): must be a finite number, greater than 0",
        ),
        (["compare", "--non-iid", "shard:2", "x.py"], "partition 'shard'; did you mean 'shards'?"),
        (["compare", "--only", "centralized", "--non-iid", "shard:2", "x.py"], "partition = 'shard:2'"),
        (["compare", "--only", "centralized", "--backup-workers", "99", "x.py"], "the run sync: backup_workers = 99 "),
        (["compare", "--only", "sync", "--rounds", "0", "x.py"], "rounds = '0' (flag --rounds): must be"),
        (["compare", "--only", "sync", "--aggregator", "mien", "x.py"], "aggregator = 'mien'"),
        (["compare", "-w", "1000", "-s", "2", "x.py"], "at most 1000 are started on one machine"),
        (["compare", "--out", "/", "x.py"], "/ is not empty"),
        (["compare", "--only", "sync,ring", "x.py"], "--only ring: there is no such run"),
        (["compare", "--mode", "ssp", "x.py"], "the comparison goes through several; choose with --only"),
        (["compare", "--partition", "iid", "x.py"], "choose with --non-iid"),
        (["compare", "--out", ".", "x.py"], ". is not empty; remove it, or try: --out "),
        (
            ["compare", "--clients", "0", "x.py"],
            "clients = '0' (flag --clients): must be a whole number, at least 1 and at most 1000",
        ),
    ],
)
def test_what_cannot_be_meant_gets_one_line_and_exit_code_2(
    argv: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("x.py").touch()
    assert main(argv) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert words in shown.err
    assert shown.err.count("\n") == 1
    assert [path.name for path in Path().iterdir()] == ["x.py"]


@pytest.fixture(autouse=True)
def library(monkeypatch: pytest.MonkeyPatch) -> None:
    """Something that draws, whether Plotly is installed or not."""
    monkeypatch.setattr(page_module, "has_library", lambda: True)
    monkeypatch.setattr(page_module, "library", lambda: "/* what draws */")


@pytest.mark.e2e
@pytest.mark.usefixtures("forked_roles")
def test_without_plotly_there_are_the_numbers_and_a_line_says_how_to_get_the_page(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page_module, "has_library", lambda: False)
    Path("train.py").write_text(SCRIPT)
    assert main(["compare", "--only", "centralized", "--no-dropout", "--out", "out", "train.py", "1", "0"]) == 0
    assert [run["ended"] for run in json.loads(Path("out/report.json").read_text())["runs"]] == ["finished"]
    assert not Path("out/report.html").exists()
    told = capsys.readouterr()
    assert "Centralized" in told.out and "the report is out/report.json" in told.err
    assert "Try: pip install plotly" in told.err


@pytest.mark.e2e
@pytest.mark.usefixtures("forked_roles")
def test_two_paradigms_are_run_and_reported(capsys: pytest.CaptureFixture[str]) -> None:
    Path("train.py").write_text(SCRIPT)
    flags = ["--only", "centralized,sync", "-w", "2", "--no-dropout", "--out", "out", "--timeout", "60"]
    assert main(["compare", *flags, "train.py", "5", "0"]) == 0
    report = json.loads(Path("out/report.json").read_text())
    alone, sync = report["runs"]
    assert [run["ended"] for run in report["runs"]] == ["finished", "finished"]
    assert alone["examples"] == sync["examples"] == 5 * 64
    assert (alone["update"]["count"], sync["update"]["count"]) == (40, 20)
    assert (alone["bytes_up"], sync["bytes_up"]) == (0, 2 * 20 * 4 * 4)
    assert alone["final"] > sync["final"] > 0.2  # twice as many updates
    assert report["dropouts"] == []
    page = Path("out/report.html").read_text()
    assert "Distributed, sync" in page
    shown = capsys.readouterr()
    assert "Distributed, sync" in shown.out
    assert "the report is out/report.html" in shown.err


@pytest.mark.e2e
@pytest.mark.usefixtures("forked_roles")
def test_there_is_a_report_when_every_run_fails(capsys: pytest.CaptureFixture[str]) -> None:
    Path("train.py").write_text("raise SystemExit('no data here')")
    assert main(["compare", "--only", "centralized,sync", "-w", "1", "--out", "out", "train.py"]) == 1
    report = json.loads(Path("out/report.json").read_text())
    assert [(run["ended"], run["status"]) for run in report["runs"]] == [("failed", 1), ("failed", 1)]
    assert all("no data here" in "\n".join(run["tail"]) for run in report["runs"])
    assert [run["ended"] for run in report["dropouts"]] == ["not run", "not run"]
    assert "no data here" in Path("out/report.html").read_text()
    assert "last lines of sync:" in capsys.readouterr().out


@pytest.mark.e2e
@pytest.mark.usefixtures("forked_roles")
def test_a_worker_is_killed_half_way_and_the_others_go_on() -> None:
    Path("train.py").write_text(SCRIPT)
    flags = ["--only", "sync", "-w", "2", "--heartbeat-timeout", "20", "--out", "out", "--timeout", "60"]
    assert main(["compare", *flags, "train.py", "25", "0.02"]) == 0
    (run,) = json.loads(Path("out/report.json").read_text())["dropouts"]
    assert (run["killed"], run["finished"], run["status"]) == ([1], True, 137)
    assert 0 <= run["killed_clock"] < run["of_clock"] == 100
    assert 0 < run["pause_s"] < 15  # until the dead worker was missed, long before the time-out
    assert run["final"] > 0.2


def test_its_page_has_its_own_defaults_and_not_what_it_goes_through_itself(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "--help"]) == 0
    page = " ".join(capsys.readouterr().out.split())
    assert (
        "number of workers the job starts with, or fewest and most: 2:8 (4)" in page
        and "0: only at the end (20)" in page
    )
    assert "--mode " not in page and "--partition " not in page
