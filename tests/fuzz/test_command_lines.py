"""Promises of psctl whatever is typed: no traceback, a documented exit code, one line for an error, and an end."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from support import command_lines

COUNT, SEED = 300, 19


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    command_lines.furnish(tmp_path)


def test_no_command_line_ends_in_a_traceback_or_not_at_all() -> None:
    rng = random.Random(SEED)
    seen = set()
    with command_lines.nothing_is_started():
        for number in range(COUNT):
            line = command_lines.draw(rng)
            seen.add(line.words[0])
            assert not (wrong := command_lines.judge(line)), f"seed={SEED}, number {number}: {line}: {wrong}"
    assert len(seen) >= 10  # all commands come up


@pytest.mark.parametrize(
    ("words", "wrong"),
    [(["config", "--rounds", "3"], ""), (["config", "--rounds", "9" * 30], ""), (["ping", "127.0.0.1:9"], "")],
)
def test_good_lines_and_bad_ones_pass(words: list[str], wrong: str) -> None:
    with command_lines.nothing_is_started():
        assert command_lines.judge(command_lines.CommandLine(words)) == wrong


def test_a_traceback_an_odd_exit_code_and_a_hang_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    line = command_lines.CommandLine(["config"])
    monkeypatch.setattr(command_lines, "LIMIT", 0.05)

    def fail(words: list[str]) -> int:
        raise ZeroDivisionError("of nobody's")

    def wait(words: list[str]) -> int:
        import time

        return time.sleep(20) or 0

    for stub, words in ((fail, "it raises ZeroDivisionError"), (wait, "it hangs"), (lambda _: 99, "exit code 99")):
        monkeypatch.setattr(command_lines, "run_command", stub)
        assert command_lines.judge(line).startswith(words)
