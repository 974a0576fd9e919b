"""psctl demo: something to see right after the installation, in any folder."""

from __future__ import annotations

import os
import shlex
from importlib import resources
from typing import Any

import click

from ps import descriptors
from ps.cli.help import EXIT_CODES, HelpfulCommand, broken
from ps.cli.options import TWINS, job_options, process_options, read_settings
from ps.launch.checks import check_files
from ps.script import Script

MODULE = "ps.examples.demo"
SERVERS, WORKERS = 2, 4
COLUMNS = 80

EXAMPLES = """\
psctl demo
psctl demo --mode async    nobody waits for anybody
psctl demo --mode federated --partition shards:2    every worker a client with its own data"""

NEXT = """\
That was:
  {command}

The script is yours to copy and change:
  {path}

Try next:
  psctl demo --mode async                    nobody waits for anybody
  psctl demo --mode federated --rounds 20    each worker keeps its own data
  psctl compare -m {module:<26} all of these side by side
  psctl simulate --clients 1000 --clients-per-round 50 --rounds 50
  psctl run --help                           how to run a script of your own"""


@click.command(cls=HelpfulCommand, examples=EXAMPLES, notes={"Settings": TWINS, "Exit codes": EXIT_CODES})
@job_options
@process_options("run")
def demo(**options: Any) -> int:
    """Train a small model on a cluster on this machine: 2 servers and 4 workers, some seconds, nothing to download."""
    descriptors.demand("psctl demo")
    settings = read_settings(options)
    process = settings.process().config

    from ps.config import JobConfig, flags_of, job_from
    from ps.launch.cluster import run as run_cluster
    from ps.launch.plan import Plan
    from ps.launch.screen import Screen
    from ps.protocol.query import fetch_status
    from ps.sink import kept_going

    explicit = {"servers": SERVERS, "workers": WORKERS, **settings.explicit_job()}
    job = job_from(explicit)
    check_files(job, process)
    plan = Plan(
        Script(MODULE, is_module=True), (), job.servers, job.workers, explicit, process, toml=settings.toml.path
    )
    with kept_going("stdout"):
        screen = Screen()
        screen.say(
            f"training a perceptron on made-up pictures: {job.servers} servers, {job.workers} workers, {job.mode}"
        )
        status = run_cluster(plan, os.environ, screen, fetch_status)
        if status == 0:
            path = resources.files("ps.examples").joinpath("demo.py")
            command = shlex.join(["psctl", "run", *flags_of(JobConfig, explicit), "-m", MODULE])
            lines = broken(command, COLUMNS - 2)
            click.echo(NEXT.format(command="\n  ".join(lines), module=MODULE, path=path))
    return status
