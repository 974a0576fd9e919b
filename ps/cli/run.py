"""psctl run: a whole cluster on this machine, for as long as the script runs."""

from __future__ import annotations

import os
from typing import Any

import click

from ps import descriptors
from ps.cli.help import EXIT_CODES, HelpfulCommand, SectionOption
from ps.cli.options import TWINS, job_options, process_options, read_settings, script_arguments
from ps.cli.roles import SCRIPT_SETTINGS
from ps.config import Settings
from ps.errors import UsageError
from ps.launch.checks import check_files
from ps.log_line import JSON
from ps.script import Script

EXAMPLES = """\
psctl run -s 2 -w 4 train.py --epochs 3
psctl run -w 4 --mode ssp --staleness 3 --optimizer adam:lr=1e-3 train.py
psctl run -w 4 -m package.train --epochs 3    a module, as python -m
psctl run -s 2 -w 4 --run-dir runs/first train.py    leaves metrics.jsonl and summary.json
psctl run -w 8 --mode federated --run-dir runs/fed train.py    leaves rounds.jsonl as well
psctl run -w 8 --mode federated --state job.db train.py    goes on when it is given again
psctl run -w 2:8 train.py    goes on with two or more of eight workers
psctl run -w 4 --spares 1 --mode pipeline train.py    goes on when a stage is killed
psctl run -w 4 --save model.safetensors train.py    leaves the trained model
psctl run -w 4 --init model.safetensors train.py    begins with it
psctl run -w 4 --checkpoint-dir kept --checkpoint-every 30s train.py    goes on when given again
psctl run -w 4 --resume kept/step-000400 train.py --epochs 9    goes back to that step
psctl run -w 2 --track tensorboard train.py    shows its curves there; mlflow, wandb, trackio
psctl run --on slurm -o time=01:00:00 -s 2 -w 8 train.py    on Slurm's machines
psctl run --on ray -o cpus=2 -s 2 -w 8 train.py    on a Ray cluster
psctl run -w 2 --trace trace.json train.py    leaves a timeline for https://ui.perfetto.dev"""

FAILURES = """\
A worker that fails leaves the others running; a server that fails ends the run; without its
scheduler training goes on. The run's exit code is that of the process that failed first; a
scheduler without which all ended well is none. Workers that joined from elsewhere are waited for,
those that were declared dead are not.
With --workers 2:8 a worker that is killed is no failure: it is started again, up to --restarts
times (3), and joins anew.
With --spares 1 a worker of a pipeline that is killed is no failure: a spare takes its place.
With --mode federated a server that fails is started again, up to --restarts times (3), and goes
on with the weights that it has on disk. So is a client that is killed, or whose script raises an
exception after it has joined: it goes on with the round that it was at."""


OURS = ("-s", "-w", "--servers", "--workers", "--mode", "--transport", "--run-dir")
"""Flags of ours that are easily put behind the script, where they are the script's."""


@click.command(
    cls=HelpfulCommand,
    context_settings=SCRIPT_SETTINGS,
    examples=EXAMPLES,
    notes={"Failures": FAILURES, "Settings": TWINS, "Exit codes": EXIT_CODES},
)
@job_options
@process_options("run")
@click.option(
    "--on", metavar="ENGINE", cls=SectionOption, section="Elsewhere", help="engine to run the job on: slurm, ray"
)
@click.option(
    "-o",
    "engine_options",
    metavar="NAME=VALUE",
    multiple=True,
    cls=SectionOption,
    section="Elsewhere",
    help="option of that engine, as psctl render ENGINE --help lists them; may be repeated",
)
@script_arguments
def run(script: Script, args: tuple[str, ...], on: str | None, engine_options: tuple[str, ...], **options: Any) -> int:
    """Start a scheduler, servers and workers on this machine; each worker runs SCRIPT.

    Everything after SCRIPT is passed to the script, untouched. With --on slurm or ray it is on the machines of that.
    """
    if engine_options and on is None:
        raise UsageError("-o is for the engine that --on names")
    script.check()
    settings = read_settings(options)
    if on is not None:
        return _run_on(on, engine_options, settings, script, args)
    descriptors.demand("psctl run")
    job = settings.job().config
    process = settings.process().config
    check_files(job, process)
    from ps.launch.cluster import run as run_cluster
    from ps.launch.plan import Plan
    from ps.launch.screen import Screen
    from ps.protocol.query import fetch_status
    from ps.sink import kept_going

    screen = Screen(as_json=process.log_format == JSON)
    if misplaced := [word for word in args if word.partition("=")[0] in OURS]:
        screen.say(f"{' '.join(misplaced)} after {script.name} goes to the script; psctl's own flags come before it")
    plan = Plan(script, args, job.servers, job.workers, settings.explicit_job(), process, toml=settings.toml.path)
    with kept_going("stdout"):
        return run_cluster(plan, os.environ, screen, fetch_status)


def _run_on(name: str, given: tuple[str, ...], settings: Settings, script: Script, args: tuple[str, ...]) -> int:
    """Have an engine run the job."""
    from ps.cli.logs import say
    from ps.engines.registry import engine
    from ps.engines.workload import Workload

    found = engine(name)
    if found.run is None:
        raise UsageError(f"psctl does not start jobs on {name}; psctl render {name} writes what it runs")
    options: dict[str, Any] = {}
    repeats = {option.name for option in found.options if option.repeats}
    for text in given:
        key, sign, value = text.partition("=")
        key = key.removeprefix("--").replace("-", "_")
        if not sign:
            raise UsageError(f"-o {text!r:.60} is no NAME=VALUE")
        options[key] = (*options.get(key, ()), value) if key in repeats else value
    work = Workload.of(settings, script, args)
    return found.run(work, found.read(options), say)
