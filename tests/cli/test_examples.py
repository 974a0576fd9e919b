"""Promise: every example on the help pages of simulate and partition works as it stands, within seconds."""

from __future__ import annotations

import shlex
import time

import pytest

from ps.cli import main, partition, simulate

EXAMPLES = [*simulate.EXAMPLES.splitlines(), *partition.EXAMPLES.splitlines()]
SECONDS = 60.0
"""Of this process's own time, at most: seconds where nothing else runs."""


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_of_a_help_page_works_as_it_stands(example: str, capsys: pytest.CaptureFixture[str]) -> None:
    program, *argv = shlex.split(example.split("|")[0])
    assert program == "psctl"
    began = time.process_time()
    assert main(argv) == 0, capsys.readouterr().err
    assert time.process_time() - began < SECONDS
    said = capsys.readouterr().out
    assert said.strip() and "not reached" not in said
