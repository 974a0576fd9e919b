"""Promises of psctl render: it lists, prints or writes, and what an engine cannot is one line."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from ps.cli import main
from ps.engines.registry import MODULES, engine
from ps.engines.yaml_text import yaml_text
from support.rendered import HOSTILE

Output = pytest.CaptureFixture[str]


def test_all_engines_are_listed_with_what_they_get(capsys: Output) -> None:
    assert main(["render", "--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(MODULES)
    assert [name for name, line in zip(MODULES, lines, strict=True) if "psctl run --on" in line] == ["slurm", "ray"]


@pytest.mark.parametrize("name", MODULES)
def test_each_engine_has_a_page_of_help_and_its_options_in_the_form_of_ours(name: str, capsys: Output) -> None:
    assert main(["render", name, "--help"]) == 0
    page = capsys.readouterr().out
    assert all(option.flag in page for option in engine(name).options)


def test_what_is_rendered_is_printed_and_said_how_it_was_made(capsys: Output, tmp_path: Path) -> None:
    assert main(["render", "compose", "-s", "1", "-w", "2", "train.py", "-w", "9"]) == 0
    found = yaml.safe_load(capsys.readouterr().out)
    assert found["services"]["worker"]["deploy"]["replicas"] == 2
    assert found["services"]["worker"]["command"][-2:] == ["-w", "9"]


def test_a_chart_needs_a_folder_and_is_written_into_it(capsys: Output, tmp_path: Path) -> None:
    assert main(["render", "helm", "-w", "2", "train.py"]) == 2
    assert "these are 5 files: say with --out into which folder" in capsys.readouterr().err
    assert main(["render", "helm", "-w", "2", "--out", str(tmp_path / "a" / "chart"), "train.py"]) == 0
    found = sorted(path.name for path in (tmp_path / "a" / "chart").iterdir())
    assert found == ["Chart.yaml", "templates", "values.yaml"]
    (tmp_path / "file").write_text("")
    assert main(["render", "helm", "-w", "2", "--out", str(tmp_path / "file"), "train.py"]) == 2
    assert "cannot write to" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["render", "slurm", "--cpus-per-task", "0", "x.py"], "must be a whole number, at least 1"),
        (["render", "slurm", "--trace", "t", "x.py"], "trace: processes on several hosts have a file each"),
        (["render", "nomad", "x.py"], "No such command 'nomad'"),
        (["run", "--on", "nomad", "{script}"], "there is no engine 'nomad'; there are slurm, "),
        (["run", "--on", "compose", "{script}"], "psctl does not start jobs on compose; psctl render compose writes"),
        (["run", "--on", "slurm", "-o", "gpus=1", "{script}"], "slurm has no option 'gpus'; it has name, time, "),
        (["run", "--on", "slurm", "-o", "gpus", "{script}"], "-o 'gpus' is no NAME=VALUE"),
        (["run", "-o", "a=b", "{script}"], "-o is for the engine that --on names"),
    ],
)
def test_what_an_engine_cannot_is_one_line(words: list[str], why: str, capsys: Output, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("")
    assert main([word.replace("{script}", str(tmp_path / "train.py")) for word in words]) == 2
    said = capsys.readouterr().err
    assert why in said and said.count("\n") == 1


@pytest.mark.parametrize(
    "word", [*HOSTILE, "a\n", "a\nb\n", "a\nb", "  a\nb\n", "a \nb\n", "a\n\nb\n", "\ta", "1", "~", "|"]
)
def test_yaml_says_every_text_as_it_is(word: str) -> None:
    value = {word or "k": [word, {"x": word, "y": [[word]]}, {}, [], 1, 1.5, True, None]}
    assert yaml.safe_load(yaml_text(value)) == value
    assert yaml.safe_load(yaml_text(word)) == word
