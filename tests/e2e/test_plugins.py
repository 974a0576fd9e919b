"""Promises of plug-ins among processes: psctl run hands them on, and a role that lacks one says so in a line."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ps.errors import ConfigError
from support.cluster import TRAIN, Process

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(90)]

PLUGIN = ("--plugin", "ps.examples.plugins")


def test_a_run_hands_its_plug_ins_to_all_that_it_starts(forked: Callable[..., Process]) -> None:
    job = ("--optimizer", "signum:0.003", "--aggregator", "vote", "--schedule", "triangle:200")
    run = forked("run", "-s", 1, "-w", 2, *PLUGIN, *job, TRAIN, "--steps", 5)
    assert run.wait(80.0) == 0, run.text


@pytest.mark.parametrize("role", ["server", "worker"])
def test_a_role_without_the_plug_in_ends_with_a_line_that_says_what_to_do(
    forked: Callable[..., Process], role: str
) -> None:
    job = ("-s", 1, "-w", 1, "--optimizer", "signum", "--start-timeout", 20)
    scheduler = forked("scheduler", "--port", 0, *PLUGIN, *job)
    address = scheduler.wait_for(r"scheduler at (tcp://\S+);")[1]
    roles = {"server": ["server", "--scheduler", address], "worker": ["worker", "--scheduler", address]}
    scripts = {"server": [], "worker": [TRAIN, "--steps", "5"]}
    for other in {*roles} - {role}:
        forked(*roles[other], *PLUGIN, *scripts[other])
    left_out = forked(*roles[role], *scripts[role])
    assert left_out.wait() == ConfigError.exit_code, left_out.text
    [line] = [line for line in left_out.text.splitlines() if "unknown optimizer 'signum'" in line]
    assert "--plugin" in line
    assert "Traceback" not in left_out.text
