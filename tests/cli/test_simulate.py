"""Promises of psctl simulate: settings mean what they mean elsewhere, and what cannot be meant is refused in a line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ps.cli import main
from ps.cores import cores

pytestmark = pytest.mark.usefixtures("forked_roles")

SMALL = ["--clients", "12", "--clients-per-round", "4", "--rounds", "3", "--examples", "600", "--processes", "1"]


def simulated(argv: list[str], capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert main(["simulate", *SMALL, *argv, "--json", "-"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_tables_show_rounds_accuracy_and_what_clients_moved(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = tmp_path / "report.json"
    assert main(["simulate", *SMALL, "--dropout", "0.3", "--target", "0.99", "--json", str(out)]) == 0
    text = capsys.readouterr().out
    found = json.loads(out.read_text())
    assert [row["round"] for row in found["evaluations"]] == [0, 1, 2, 3]
    for row in found["evaluations"]:
        assert f"{row['accuracy']:.4f}" in text
    for words in ("0.99 not reached", "updates/s on 1 process", "dropped out: ", "of 12 clients", "client accuracy"):
        assert words in text
    assert found["job"]["workers"] == 12 and found["job"]["mode"] == "federated"


def test_flags_variables_and_toml_set_the_job_as_everywhere(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = simulated(["--seed", "5", "--partition", "shards:2"], capsys)
    Path("paramserver.toml").write_text('partition = "shards:2"')
    monkeypatch.setenv("PS_SEED", "5")
    found = simulated([], capsys)
    assert {**found, "real": {}} == {**flags, "real": {}}
    assert simulated(["--seed", "6"], capsys)["weights"] != found["weights"]


def test_a_tracker_of_the_environment_means_nothing_and_a_line_says_so(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PS_TRACK", "tensorboard")
    for words in (["simulate", "--rounds", "0"], ["compare", "--clients", "2", "--only", "none", "nowhere.py"]):
        main(words)
    assert capsys.readouterr().err.count("track = tensorboard (") == 1, "of a script that is not there nothing else"
    main(["simulate", "--rounds", "0"])
    assert "means nothing to psctl simulate: psctl run heeds it" in capsys.readouterr().err


def test_traces_may_come_from_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    Path("t.csv").write_text("seconds_per_step\n100\n")
    assert simulated(["--traces", "t.csv"], capsys)["virtual_s"] > 300 > simulated([], capsys)["virtual_s"]


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--mode", "ssp"], "psctl simulate is for mode = federated, not ssp"),
        (["-w", "3"], "12 clients and workers = 3 mean the same"),
        (["--speed", "fast"], "unknown speed 'fast'"),
        (["--dropout", "2"], "dropout = '2' (flag --dropout): must be a finite number, at least 0 and at most 1"),
        (["--model", "rnn"], "model 'rnn': there are cnn, mlp, softmax"),
        (["--dataset", "cifar"], "there are digits, mnist, synthetic"),
        (["--dataset", "digits", "--data", "x"], "leave one of them out"),
        (["--data", ""], "data = '' (flag --data): must be a path"),
        (["--dataset", "mnist"], "Pass --data DIR or set PS_DATA"),
        (["--model", "mlp", "--hidden", "ten"], "expected widths such as 200"),
        (["--model", "mlp", "--hidden", "999999999999"], "(--hidden, --features) need "),
        (["--target", "1.5"], "target = '1.5' (flag --target): must be a finite number, greater than 0 and at most 1"),
        (["--traces", "nowhere.csv"], "there is no file of traces nowhere.csv"),
        (["--traces", "nowhere.csv", "--dropout", "0.1"], "leave --dropout out"),
        (["--clients-per-round", "99"], "clients_per_round = 99 must be at most workers = "),
        (["--algorithm", "fedavgg"], "did you mean 'fedavg'"),
        (["--json", "nowhere/out.json"], "cannot write the report to nowhere/out.json: No such file"),
    ],
)
def test_what_cannot_be_meant_is_one_line_and_exit_code_2(
    argv: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["simulate", *SMALL, *argv]) == 2
    told = capsys.readouterr()
    assert words in told.err
    assert told.err.count("\n") == 1 and not told.out


def test_there_are_no_more_processes_than_cores_and_a_line_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", *SMALL, "--rounds", "1", "--processes", "100000", "--json", "-"]) == 0
    told = capsys.readouterr()
    assert json.loads(told.out)["real"]["processes"] == max(2, cores())
    assert "--processes 100000 would wait for each other" in told.err
