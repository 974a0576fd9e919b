"""Promise: a torch script is started like any other, and its loader processes do no harm."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path

import pytest

from support.cluster import Process
from support.libraries import demand

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

Command = Callable[..., Process]
SCRIPTS = Path(__file__).with_name("scripts")


def test_loader_processes_start_after_the_connection_and_draw_other_numbers_on_each_worker(forked: Command) -> None:
    demand("torch", "the script is about it")
    run = forked("run", "-s", 1, "-w", 2, SCRIPTS / "torch_loader.py", loaded=["torch"])
    assert run.wait(100) == 0, run.text
    batches = [line.partition("batch ")[2] for line in run.lines if "batch " in line]
    read = [(line.split()[:2], ast.literal_eval(line.split(" ", 2)[2].replace("] [", "], ["))) for line in batches]
    for epoch in "01":
        seen = [index for (_, number), (indices, _) in read if number == epoch for index in indices]
        assert sorted(seen) == list(range(40))
    drawn = [number for _, (_, numbers) in read for number in numbers]
    assert len(set(drawn)) == len(drawn) == 80
    ends = [line.partition("weights ")[2].split()[1:] for line in run.lines if "weights " in line]
    assert len(ends) == 2 and ends[0] == ends[1] and ends[0][1] == "8"
