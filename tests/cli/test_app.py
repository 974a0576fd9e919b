"""Promises of psctl as a whole: help that helps, errors in one line, exit codes as documented."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import ps
import ps.launch.cluster
from ps import errors
from ps.cli import main
from ps.cli.app import psctl
from ps.server.shard import service

COMMANDS = (
    "run",
    "render",
    "demo",
    "compare",
    "scheduler",
    "server",
    "worker",
    "status",
    "top",
    "page",
    "checkpoint",
    "drain",
    "export",
    "follow",
    "helper",
    "ping",
    "doctor",
    "chaos",
    "keys",
    "trace",
    "partition",
    "pipeline",
    "simulate",
    "privacy",
    "config",
)


@pytest.mark.parametrize("words", [[], ["trace"]])
def test_a_command_that_is_given_nothing_shows_its_page(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 0
    shown = capsys.readouterr()
    assert not shown.err and "Usage:" in shown.out and "Commands:" in shown.out
    assert max(map(len, shown.out.splitlines())) <= 100


def test_the_commands_are_those_of_the_readme_in_this_order(capsys: pytest.CaptureFixture[str]) -> None:
    assert tuple(sorted(psctl.load())) == tuple(sorted(COMMANDS))
    assert main(["--help"]) == 0
    page = capsys.readouterr().out
    positions = [page.index(f"\n  {name} ") for name in COMMANDS if name in page]
    assert len(positions) == len(COMMANDS)


def test_a_role_loads_neither_the_other_commands_nor_the_other_roles() -> None:
    code = """import sys
from ps.cli.app import psctl
import ps.server.scheduler.service
psctl.main(["scheduler", "--help"], standalone_mode=False)
print(*(name for name in sys.modules if name.startswith("ps.") or name == "rich"))"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    loaded = out.splitlines()[-1].split()
    assert "ps.cli.roles" in loaded
    assert not {"ps.cli.run", "ps.cli.compare", "ps.cli.simulate", "ps.server.shard", "ps.worker", "rich"} & {*loaded}


def test_a_wrong_name_is_told_from_one_that_is_near(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulat"]) == 2
    assert "simulate" in capsys.readouterr().err


@pytest.mark.parametrize("command", COMMANDS)
def test_every_help_page_shows_an_example_and_fits(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    page = capsys.readouterr().out
    assert f"psctl {command}" in page.split("Examples:")[1]
    assert max(map(len, page.splitlines())) <= 100


def test_the_help_page_documents_every_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    main(["run", "--help"])
    documented = capsys.readouterr().out.split("Exit codes:")[1]
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    for code in {getattr(kind, "exit_code", 0) for kind in kinds} | {130, 143}:
        assert f" {code}  " in documented


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert ps.__version__ in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["run"], "Missing argument 'SCRIPT'. Try: psctl run --help"),
        (["runn"], "No such command 'runn'. Did you mean 'run'? Try: psctl --help"),
        (["run", "gone.py"], "there is no script gone.py; the directory is "),
        (["run", "."], "is a directory without a __main__.py"),
        (["run", "--workrs", "3", "x.py"], "no such option: --workrs; did you mean --workers?"),
        (["run", "-w", "0", "x.py"], "workers = '0' (flag --workers): must be a whole number, at least 1"),
        (["run", "-w", "2", "--backup-workers", "2", "x.py"], "must be less than workers = 2"),
        (["run", "--optimizer", "adm:lr=1", "x.py"], "optimizer = 'adm:lr=1' (flag --optimizer)"),
        (["run", "--config", "gone.toml", "x.py"], "--config: there is no file gone.toml"),
        (["worker", "--mode", "ssp", "x.py"], "--mode is a setting of the job: give it to psctl scheduler"),
        (["worker", "gone.py"], "there is no script gone.py"),
        (
            ["status", "--timeout", "0"],
            "timeout = '0' (flag --timeout): must be a finite number, greater than 0 and at most 1000000000",
        ),
        (["ping", "http://x"], "'http://x' is no address; it looks like tcp://host:7070"),
    ],
)
def test_what_cannot_be_meant_gets_one_line_and_exit_code_2(
    argv: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("x.py").touch()
    assert main(argv) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("psctl: error: ")
    assert words in shown.err
    assert shown.err.count("\n") == 1


@pytest.mark.parametrize(
    ("raised", "code", "shown"),
    [
        (errors.ConnectTimeout("no reply\nfrom tcp://a:1"), 3, "psctl: error: no reply from tcp://a:1\n"),
        (errors.LayoutMismatch("tensor w"), 7, "psctl: error: tensor w\n"),
        (KeyboardInterrupt(), 130, ""),
        (SystemExit(9), 9, ""),
        (SystemExit("enough"), 1, "enough\n"),
        (SystemExit(None), 0, ""),
    ],
)
def test_what_a_role_raises_becomes_its_exit_code(
    raised: BaseException,
    code: int,
    shown: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def serve(*args: object, **kwargs: object) -> int:
        raise raised

    monkeypatch.setattr(service, "serve", serve)
    assert main(["server"]) == code
    assert capsys.readouterr().err.removeprefix("\n") == shown


def test_what_nobody_expected_keeps_its_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def serve(*args: object, **kwargs: object) -> int:
        raise ZeroDivisionError("what")

    monkeypatch.setattr(service, "serve", serve)
    assert main(["server"]) == 1
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_that_comes_while_a_module_makes_a_class_is_no_crash(
    number: int, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Asked:
        def __set_name__(self, owner: type, name: str) -> None:
            os.kill(os.getpid(), number)

    monkeypatch.setattr(service, "serve", lambda *args, **kwargs: type("Made", (), {"it": Asked()}))
    assert main(["server"]) == code
    assert capsys.readouterr().err.removeprefix("\n") == ""


def test_sigterm_is_143_and_the_previous_handler_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "serve", lambda *args, **kwargs: os.kill(os.getpid(), signal.SIGTERM))
    before = signal.getsignal(signal.SIGTERM)
    assert main(["server"]) == 143
    assert signal.getsignal(signal.SIGTERM) == before


def test_the_help_page_does_not_wait_for_numpy_or_zeromq() -> None:
    program = (
        "import sys; from ps.cli import main; main(['run', '--help'])\n"
        "print([m for m in ('numpy', 'zmq', 'rich.live', 'sqlite3') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.rstrip().endswith("[]")


def test_a_reader_that_goes_away_is_no_crash() -> None:
    done = subprocess.run(
        f"{shlex.quote(sys.executable)} -m ps.cli config --json | true; exit ${{PIPESTATUS[0]}}",
        shell=True,
        executable="/bin/bash",
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode in (0, 1)
    assert done.stderr == ""


def test_flags_of_psctl_behind_the_script_are_the_scripts_and_that_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("train.py").touch()
    given: list[tuple[str, ...]] = []
    monkeypatch.setattr(ps.launch.cluster, "run", lambda plan, *rest: given.append(plan.args) or 0)
    assert main(["run", "train.py", "--mode", "async", "--epochs=3"]) == 0
    assert "--mode after train.py goes to the script; psctl's own flags come before it" in capsys.readouterr().err
    assert main(["run", "train.py", "--epochs=3"]) == 0
    assert not capsys.readouterr().err
    assert given == [("--mode", "async", "--epochs=3"), ("--epochs=3",)]


def test_an_error_is_a_line_that_can_be_read_whatever_it_quotes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["x\n" + "y" * 100_000]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and len(told) < 2100
