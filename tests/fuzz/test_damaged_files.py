"""Promises of files that are damaged or none at all: one line of ours, whatever kind of file it is, and an end."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from support import damaged_files

COUNT, SEED = 400, 19


@pytest.fixture
def kinds(tmp_path: Path) -> tuple[damaged_files.Kind, ...]:
    return damaged_files.kinds(tmp_path / "good")


def test_no_damaged_file_is_a_traceback_or_a_hang(tmp_path: Path, kinds: tuple[damaged_files.Kind, ...]) -> None:
    for number in range(COUNT):
        rng = random.Random(f"{SEED} {number}")
        done, wrong = damaged_files.judge(rng, kinds[number % len(kinds)], tmp_path / "damaged")
        assert not wrong, f"seed={SEED}, number {number}: {done}: {wrong}"


def test_a_reader_that_raises_or_waits_is_seen(
    tmp_path: Path, kinds: tuple[damaged_files.Kind, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(damaged_files, "LIMIT", 0.05)

    def fail(path: Path) -> None:
        raise KeyError("x")

    def wait(path: Path) -> None:
        import time

        time.sleep(20)

    for read, words in ((fail, "x.toml: KeyError"), (wait, "x.toml: it hangs")):
        kind = damaged_files.Kind("x.toml", kinds[0].make, read)
        assert damaged_files.judge(random.Random(0), kind, tmp_path / "damaged")[1].startswith(words)
