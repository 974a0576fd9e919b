"""The documents tell the truth: links lead somewhere, flags, commands and errors exist, the script trains."""

import re
import shlex
from pathlib import Path

import click
import pytest

from ps import errors
from ps.aggregators import AGGREGATORS
from ps.algorithms import ALGORITHMS
from ps.cli.app import psctl
from ps.cli.help import HelpfulGroup
from ps.config import JobConfig, ProcessConfig, settings_of
from ps.optim import OPTIMIZERS, SCHEDULES
from ps.partition import PARTITIONERS
from support.documents import FILES, ROOT, TEXTS, in_backticks, indented

README = TEXTS["README.md"]
ALL = "\n".join(TEXTS.values())
OTHERS = {"--scale", "--build", "--no-recreate", "--rm", "--no-deps", "--entrypoint", "--volumes"} | {
    "--health-cmd",
    "--include",
    "--engines",
    "--long",
    "--variant",
    "--wheel-dir",
}
"""Flags of docker compose, debootstrap and pip, and of our tests."""
each = pytest.mark.parametrize("name", TEXTS)


def commands_of(text: str) -> list[str]:
    """Return the calls of psctl in a document, without prompts, comments and what is piped on."""
    lines = [line for block in indented(text) for line in block] + in_backticks(text)
    return [line for line in lines if re.match(r"psctl [a-z]+( |$)", line)]


def test_the_first_page_can_be_read_at_one_sitting() -> None:
    assert len(README.splitlines()) <= 170


def test_every_document_is_looked_at() -> None:
    found = {
        *ROOT.glob("[a-z]*/README.md"),
        *ROOT.glob("scripts/**/README.md"),
        *ROOT.glob("*.md"),
        *ROOT.glob("*/SECURITY.md"),
    }
    assert found == set(FILES)


@each
def test_every_link_leads_to_a_file(name: str) -> None:
    for link in re.findall(r"\]\(([^)#:]+)\)", TEXTS[name]):
        assert ((ROOT / name).parent / link).exists(), link


@each
def test_every_document_is_reached_from_the_first(name: str) -> None:
    assert name == "README.md" or f"]({name})" in README


@each
def test_every_script_it_names_exists(name: str) -> None:
    for path in set(re.findall(r"\bscripts/[\w/.]+\w", TEXTS[name])):
        assert (ROOT / path).exists(), path


@each
def test_every_test_it_names_exists(name: str) -> None:
    for path in set(re.findall(r"`([\w/]*test_\w+\*?\.py)`", TEXTS[name])):
        assert list((ROOT / "tests").glob(path.removeprefix("tests/"))), path


@each
def test_every_flag_is_a_flag(name: str) -> None:
    settings = {**settings_of(JobConfig), **settings_of(ProcessConfig)}
    known = {row.flag for row in settings.values()} | OTHERS
    commands = [*psctl.load().values()]
    commands += [each for group in commands if isinstance(group, HelpfulGroup) for each in group.load().values()]
    known |= {flag for command in commands for param in command.params for flag in param.opts}
    known |= {"--help"}
    scripts = [path for path in (ROOT / "scripts").rglob("*") if path.is_file() and path.suffix in ("", ".py")]
    known |= set(re.findall(r'"(--[\w-]+)"', "".join(path.read_text() for path in scripts)))
    flags = set(re.findall(r"(?<![\w-])(--[a-z][\w-]+)", TEXTS[name]))
    assert flags <= known, flags - known


@each
def test_every_command_can_be_typed(name: str) -> None:
    for line in commands_of(TEXTS[name]):
        if "…" in line or "FILE" in line or "HOST" in line or "SPEC" in line or "COMMAND" in line:
            continue  # a pattern, not a call
        _, word, *arguments = shlex.split(line)
        command = psctl.load()[word]
        context = click.Context(command, info_name=word, **command.context_settings)
        command.make_parser(context).parse_args(list(arguments))  # raises where an option is none of this command's


def test_commands_are_found_in_documents() -> None:
    assert commands_of("x\n\n    a$ psctl ping 10.0.0.1     # one\n\n`psctl run -w 2 a.py` psctl status") == [
        "psctl ping 10.0.0.1",
        "psctl run -w 2 a.py",
    ]
    assert len(commands_of(ALL)) > 20


def test_every_optimizer_and_schedule_is_named() -> None:
    for name in (*OPTIMIZERS, *SCHEDULES):
        assert re.search(rf"`{name}[`:]", ALL) or name == "warmup", name


def test_every_algorithm_aggregator_and_partition_is_named() -> None:
    for name in (*ALGORITHMS, *AGGREGATORS, *PARTITIONERS):
        assert re.search(rf"`{name}[`:]", ALL), name


def test_every_command_is_named() -> None:
    for name in psctl.load():
        assert f"psctl {name}" in TEXTS["ps/README.md"], name


def test_the_exit_codes_are_those_of_the_errors() -> None:
    text = TEXTS["ps/README.md"].split("Exit codes: ")[1].split("\n\n")[0]
    told = {int(code) for code in re.findall(r"\b(\d+) [A-Za-z]", text)}
    raised = {
        value.exit_code
        for value in vars(errors).values()
        if isinstance(value, type) and issubclass(value, errors.PSError)
    }
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
