"""The README tells the truth: its links lead somewhere, its flags and errors exist, its script trains."""

import re
from pathlib import Path

import pytest

from ps import errors
from ps.aggregators import AGGREGATORS
from ps.algorithms import ALGORITHMS
from ps.cli.app import psctl
from ps.config import JobConfig, ProcessConfig, settings_of
from ps.optim import OPTIMIZERS, SCHEDULES
from ps.partition import PARTITIONERS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_every_link_leads_to_a_file() -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", README)
    assert links
    for link in links:
        assert (ROOT / link).exists(), link


def test_every_script_it_names_exists() -> None:
    for path in set(re.findall(r"\bscripts/[\w/.]+\w", README)):
        assert (ROOT / path).exists(), path


def test_every_flag_is_a_flag() -> None:
    settings = {**settings_of(JobConfig), **settings_of(ProcessConfig)}
    known = {row.flag for row in settings.values()} | {"--scale"}
    known |= {flag for command in psctl.commands.values() for param in command.params for flag in param.opts}
    known |= {"--help"}
    known |= set(re.findall(r'"(--[\w-]+)"', "".join(path.read_text() for path in (ROOT / "scripts").rglob("*.py"))))
    flags = set(re.findall(r"(?<![\w-])(--[a-z][\w-]+)", README))
    assert flags <= known, flags - known


def test_every_optimizer_and_schedule_is_named() -> None:
    for name in (*OPTIMIZERS, *SCHEDULES):
        assert re.search(rf"`{name}[`:]", README) or name == "warmup", name


def test_every_algorithm_rule_and_partition_is_named() -> None:
    for name in (*ALGORITHMS, *AGGREGATORS, *PARTITIONERS):
        assert re.search(rf"`{name}[`:]", README), name


def test_every_command_is_named() -> None:
    for name in psctl.commands:
        assert f"psctl {name}" in README, name


def test_the_exit_codes_are_those_of_the_errors() -> None:
    text = README.split("Exit codes:")[1].split("\n\n")[0]
    told = {int(code) for code in re.findall(r"\b(\d+) [A-Za-z]", text)}
    raised = {value.exit_code for value in vars(errors).values() if isinstance(value, type)}
    assert raised | {0, 130, 143} == told


def test_the_training_script_of_the_readme_trains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("sklearn", reason="the digits come with scikit-learn")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PS_SCHEDULER", raising=False)
    code = re.search(r"```python\n(.*?)```", README, re.DOTALL)
    assert code is not None
    exec(compile(code[1], "README.md", "exec"), {"__name__": "readme"})
    accuracy = re.search(r"test accuracy ([\d.]+)", capsys.readouterr().out)
    assert accuracy is not None
    assert float(accuracy[1]) >= 0.95
