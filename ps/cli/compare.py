"""psctl compare: the same script centralized, data parallel, model parallel and federated, and one report of it."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from ps.cli.help import HelpfulCommand, SectionOption
from ps.cli.options import TWINS, job_options_of, process_options, read_settings, say_untracked, script_arguments
from ps.cli.roles import SCRIPT_SETTINGS
from ps.cli.value import place, real, whole
from ps.config.values import LONGEST_WAIT, MOST_PROCESSES
from ps.script import Script

F = TypeVar("F", bound=Callable[..., Any])

EXAMPLES = """\
psctl compare train.py --epochs 3    everything, into runs/compare
psctl compare --clients 20 --rounds 30 --non-iid dirichlet:0.3 train.py
psctl compare --only sync,federated-iid --no-dropout --out runs/two train.py"""

RUNS = """\
centralized, sync, async, ssp, pipeline, federated-iid, federated-non-iid; then each again, with
one worker killed half-way (federated: the share --drop of the clients; centralized: the one process).
pipeline is run where the script's model is a ps.Pipeline, each worker with its stages, as many as there
are workers or what --stages says; else it is left out, and the report says why.
A model is evaluated every --eval-every batches of one process; with more workers after as many
examples, so after fewer steps; in federated runs each round.
The script says what to evaluate: kv.evaluate(mlp.accuracy, test). Every run's record and output
are in its folder of --out; a run that fails is told of in the report, and the others are run.
The exit code is 0 when all runs without drop-outs finished, and 1 otherwise."""


def _own(*names: str, **given: Any) -> Callable[[F], F]:
    return click.option(*names, cls=SectionOption, section="Comparison", **given)


@click.command(
    cls=HelpfulCommand,
    context_settings=SCRIPT_SETTINGS,
    examples=EXAMPLES,
    notes={"Runs": RUNS, "Settings": TWINS},
)
@_own("--only", metavar="RUNS", default="", help="names of the runs that are wanted, with commas (all)")
@_own("--clients", metavar="N", type=whole(1, MOST_PROCESSES), default=10, help="clients of the federated runs (10)")
@_own("--non-iid", metavar="TEXT", default="shards:2", help="the non-IID division, such as dirichlet:0.3 (shards:2)")
@_own("--dropout/--no-dropout", default=True, help="run everything again with participants killed (true)")
@_own(
    "--drop",
    metavar="X",
    type=real(above=0, high=0.999),
    default=0.3,
    help="the share of clients that are killed (0.3)",
)
@_own(
    "--timeout",
    metavar="X",
    type=real(above=0, high=LONGEST_WAIT),
    default=600.0,
    help="seconds that a run may take (600)",
)
@_own(
    "--out", metavar="DIR", type=place(), default="runs/compare", help="an empty folder for the report (runs/compare)"
)
@job_options_of(("mode", "partition"), workers=4, eval_every=20)
@process_options("compare")
@script_arguments
def compare(
    script: Script,
    args: tuple[str, ...],
    only: str,
    clients: int,
    non_iid: str,
    dropout: bool,
    drop: float,
    timeout: float,
    out: str,
    **options: Any,
) -> int:
    """Run SCRIPT centralized, distributed, as a pipeline and federated, and write one report.

    It is a table, report.json and report.html.

    report.html is one file whose plots can be zoomed and show their values, drawn by Plotly
    (pip install plotly).

    Everything after SCRIPT is passed to the script, untouched. --workers counts those of the runs
    that are not federated.
    """
    script.check()

    from ps.compare import case, comparison, page, report, table
    from ps.cores import cores
    from ps.launch.scope import signals_into
    from ps.launch.screen import Screen
    from ps.protocol.query import fetch_status
    from ps.sink import kept_going
    from ps.whole import write_whole

    settings = read_settings(options)
    say_untracked(settings, "psctl compare")
    explicit = settings.explicit_job()
    names = [name.strip() for name in only.split(",") if name.strip()]
    found = case.cases(explicit, clients=clients, non_iid=non_iid, only=names)
    plan = comparison.ComparisonPlan(
        script,
        args,
        found,
        drop if dropout else None,
        explicit.get("seed", 0),
        timeout,
        comparison.prepare(out),
        str(Path(settings.toml.path).absolute()) if settings.toml.path else "",
        cores(),
        settings.process().config.grace,
    )
    received: list[int] = []
    with kept_going("stdout"), signals_into(received):
        screen = Screen()
        if not page.has_library():
            screen.say(page.ADVICE)
        callbacks = comparison.Callbacks(
            fetch_status, lambda: bool(received), lambda: len(received) > 1, screen.say, screen.progress
        )
        results, dropouts = comparison.run_all(plan, {**os.environ, **settings.handed_on()}, callbacks)
        screen.close()
        told = report.build(plan, _machine(cores()), results, dropouts)
        for part in table.tables(told):
            screen.show(part)
        write_whole(plan.out / comparison.REPORT, json.dumps(told, indent=1, allow_nan=False) + "\n")
        report_file = plan.out / comparison.REPORT
        if page.has_library():
            report_file = plan.out / comparison.PAGE
            write_whole(report_file, page.page(told, page.library()))
        screen.say(f"the report is {os.path.relpath(report_file)}")
    if received:
        return 128 + received[0]
    due = [result for result in results if not result.case.impossible or result.case.name in names]
    return 0 if all(result.outcome.ended == "finished" for result in due) else 1


def _machine(count: int) -> dict[str, Any]:
    import numpy

    return {
        "cores": count,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "numpy": numpy.__version__,
        "paramserver": sys.modules["ps"].__version__,
    }
