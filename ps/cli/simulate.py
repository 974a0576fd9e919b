"""psctl simulate: a federation of thousands of clients on this machine, in virtual time."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ps.cli.help import EXIT_CODES, HelpfulCommand, SectionOption
from ps.cli.options import TWINS, job_options, process_options, read_settings, say_untracked
from ps.cli.value import place, real, whole
from ps.config import Settings
from ps.config.setting import shorten
from ps.errors import ConfigError, UsageError
from ps.number import MOST_CLIENTS, parse_whole
from ps.whole import check_writable, write_whole

if TYPE_CHECKING:
    from ps.simulate.simulation import Moment, Scenario
    from ps.simulate.traces import Traces

F = TypeVar("F", bound=Callable[..., Any])

EXAMPLES = """\
psctl simulate --clients 1000 --clients-per-round 50 --rounds 20
psctl simulate --dataset digits --clients 20 --partition shards:2 --rounds 100 --target 0.9
psctl simulate --clients 500 --algorithm fedbuff:10 --speed classes:slow=0.5,factor=10
psctl simulate --clients 500 --clients-per-round 20 --availability diurnal --json out.json"""

TRACES = """\
--speed         constant:step=0.01, lognormal:median=0.01,sigma=0.5, or
                classes:slow=0.5,factor=10,step=0.01: seconds of one local step
--bandwidth     unlimited, constant:up=1e6,down=5e6, or
                lognormal:up=1e6,down=5e6,sigma=0.5: bytes a second
--availability  always, onoff:on=600,off=300, exponential:on=600,off=300, or
                diurnal:day=86400,share=0.5,spread=0.1
--traces FILE   .json (a list of objects) or .csv, a row for each client with any of
                seconds_per_step, up, down, dropout, on, off"""

MODELS = """\
A file of your own defines init(seed) -> {name: float32 array}, loss_and_grad(params, x, y) ->
(loss, {name: array}), predict(params, x), accuracy(params, (x, y)): what the modules of
ps.models have; and, if no --dataset is given, data() -> ((x, y), (x, y)), train and test,
or client_data(client) -> (x, y), what this client has, and test_data() -> (x, y).
Or, to train with anything: init(seed), fit(params, round) -> (params, examples, metrics) as
for ps.federated.Client, with round.client, round.seed, round.epochs and round.steps, and
evaluate(params) -> {"accuracy": …}. Virtual time then counts --local-steps, or batches of
client_size(client) -> examples if there is such a function."""

REPEATABLE = """\
The same seed gives the same rounds and the same weights, bit for bit, whatever the number of
processes. Time is virtual: it passes as the traces have it, and not as this machine does."""

DEFAULT_CLIENTS = 100
DEFAULT_PROCESSES = 2
MOST_LAYERS, MOST_WIDTH = 100, 10**12


def _option(*names: str, **more: Any) -> Callable[[F], F]:
    return click.option(*names, cls=SectionOption, section="Simulation", **more)


@click.command(
    cls=HelpfulCommand,
    examples=EXAMPLES,
    notes={"Models": MODELS, "Traces": TRACES, "Repeatable": REPEATABLE, "Settings": TWINS, "Exit codes": EXIT_CODES},
)
@_option(
    "--clients", type=whole(1, MOST_CLIENTS), metavar="N", help=f"number of clients ({DEFAULT_CLIENTS}); also --workers"
)
@_option(
    "--model",
    type=place(),
    default="softmax",
    metavar="[softmax|mlp|cnn|FILE.py]",
    help="what is trained (softmax); see Models",
)
@_option("--hidden", default="200", metavar="N,N", help="mlp: widths of the hidden layers (200)")
@_option(
    "--dataset", metavar="[synthetic|digits|mnist]", help="examples (those of FILE.py, mnist with --data, synthetic)"
)
@_option("--data", metavar="PATH", type=place(), help="folder with MNIST's files (PS_DATA)")
@_option("--examples", type=whole(2, 1 << 40), default=20_000, metavar="N", help="synthetic: how many (20000)")
@_option("--features", type=whole(1, 1 << 40), default=60, metavar="N", help="synthetic: of each example (60)")
@_option("--batch-size", type=whole(0, 1 << 40), default=10, metavar="N", help="examples of a step; 0: all (10)")
@_option("--speed", default="constant", metavar="TEXT", help="seconds of a local step, see below (constant)")
@_option("--bandwidth", default="unlimited", metavar="TEXT", help="clients' lines, see below (unlimited)")
@_option("--availability", default="always", metavar="TEXT", help="when clients are there, see below (always)")
@_option(
    "--dropout", type=real(low=0, high=1), default=0.0, metavar="X", help="probability that a task is broken off (0)"
)
@_option("--traces", metavar="FILE", type=place(), help="what each client is like, instead of the four above")
@_option(
    "--processes",
    type=whole(1, MOST_CLIENTS),
    default=DEFAULT_PROCESSES,
    metavar="N",
    help="that compute clients; at most a core each (2)",
)
@_option("--target", type=real(above=0, high=1), metavar="X", help="end when the test accuracy is at least this")
@_option("--record", metavar="FILE", type=place(), help="write a line of JSON for each round as it closes")
@_option(
    "--json", "json_file", metavar="FILE", type=place(), help="write the report as JSON; - prints it instead of tables"
)
@job_options
@process_options("simulate")
def simulate(json_file: str | None, record: str | None, **options: Any) -> int:
    """Simulate a federated job: the real scheduler and servers, thousands of clients, virtual time.

    Every setting of a job counts as it would with --mode federated; each client holds its part of the examples as
    --partition divides them.
    """
    settings = read_settings(_job_options(options))
    say_untracked(settings, "psctl simulate")
    os.environ.update(settings.handed_on())
    scenario = _scenario(settings, options)
    out = None if json_file in (None, "-") else check_writable(json_file, "the report")

    from ps.config import job_from
    from ps.launch.pace import Pace, with_left
    from ps.launch.screen import Screen
    from ps.simulate.report import report
    from ps.simulate.round_file import RoundFile
    from ps.simulate.simulation import simulate as run

    screen, pace, begun, planned = Screen(), Pace(), time.monotonic(), job_from(scenario.job).rounds
    pace.note(0.0, 0)
    with contextlib.ExitStack() as held:
        held.callback(screen.close)
        rounds = held.enter_context(RoundFile(record, scenario, screen.say)) if record else None

        def watch(moment: Moment) -> None:
            if rounds is not None:
                rounds.add(moment)
            pace.note(time.monotonic() - begun, moment.version)
            where = with_left(f"round {moment.version:,} of {planned:,}", pace.left(planned))
            screen.progress(where, [_progress(moment)], moment.version / planned)

        found = report(scenario, run(scenario, watch))
    if json_file == "-":
        click.echo(json.dumps(found, indent=2))
        return 0

    from ps.cli.outcome import evaluation_table, outcome_table

    screen.show(evaluation_table(found))
    screen.show(outcome_table(found))
    if out is not None:
        write_whole(out, json.dumps(found, indent=2) + "\n")
    return 0


def _scenario(settings: Settings, options: dict[str, Any]) -> Scenario:
    from ps.config import job_from
    from ps.simulate.examples import knows_clients, load
    from ps.simulate.model import is_file
    from ps.simulate.simulation import Scenario

    given = settings.explicit_job()
    mode, workers, clients = given.get("mode", "federated"), given.get("workers"), options["clients"]
    if mode != "federated":
        raise ConfigError(f"psctl simulate is for mode = federated, not {mode}. Try: psctl run --mode {mode}")
    if None not in (workers, clients) and workers != clients:
        raise ConfigError(f"{clients} clients and workers = {workers} mean the same: give only one of them")
    explicit = {**given, "mode": "federated", "workers": clients or workers or DEFAULT_CLIENTS}
    name = _dataset(options)
    if is_file(name) and knows_clients(name):
        if "partition" in given:
            raise ConfigError(f"{name} says what each client has: leave --partition out")
        explicit["partition"] = "own"
    job = job_from(explicit)
    explicit.pop("heartbeat_timeout", None)  # clients of a simulation say when they are gone
    return Scenario(
        explicit,
        load(name, options["data"], job.seed, options["examples"], options["features"], clients=job.workers),
        options["model"],
        _widths(options["hidden"]),
        options["batch_size"],
        _traces(options, job.seed),
        _processes(options["processes"]),
        job.eval_every or max(1, job.rounds // 20),
        options["target"],
        job.heartbeat_timeout,
    )


def _traces(options: dict[str, Any], seed: int) -> Traces:
    from ps.simulate.availability import parse_availability
    from ps.simulate.speed import parse_bandwidth, parse_speed
    from ps.simulate.traces import Drawn, Recorded

    if options["traces"]:
        context = click.get_current_context()
        for name in ("speed", "bandwidth", "availability", "dropout"):
            if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE:
                raise ConfigError(f"--traces says what every client is like: leave --{name} out")
        return Recorded.read(options["traces"], seed)
    speed, bandwidth = parse_speed(options["speed"]), parse_bandwidth(options["bandwidth"])
    return Drawn(seed, speed, bandwidth, parse_availability(options["availability"]), options["dropout"])


def _processes(wanted: int) -> int:
    """Return how many processes compute: more than there are cores would only wait for each other."""
    from ps.cores import cores

    most = max(cores(), DEFAULT_PROCESSES)
    if wanted > most:
        click.echo(
            f"psctl: --processes {wanted} would wait for each other on {cores()} cores: {most} are taken", err=True
        )
    return min(wanted, most)


def _dataset(options: dict[str, Any]) -> str:
    from ps.simulate.examples import brings_data
    from ps.simulate.model import has_fit, is_file

    name, folder, model = options["dataset"], options["data"], options["model"]
    if folder and name not in (None, "mnist"):
        raise UsageError(f"--data says where MNIST is, and --dataset {name} needs no folder: leave one of them out")
    if is_file(model) and has_fit(model):
        if name is not None or folder:
            raise ConfigError(
                f"clients of {model} train by its fit, on data of their own: leave --dataset and --data out"
            )
        return str(model)
    if name is None and not folder and is_file(model):
        if not brings_data(model):
            raise ConfigError(f"{model} has no function data; say which examples to train on with --dataset")
        return str(model)
    return name or ("mnist" if folder else "synthetic")


def _job_options(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options that are settings: those of the simulation itself have other meanings."""
    from ps.config import JobConfig, settings_of

    kept = (*settings_of(JobConfig), "config_file", "plugins")
    return {name: value for name, value in options.items() if name in kept}


def _widths(text: str) -> tuple[int, ...]:
    try:
        widths = tuple(parse_whole(part.strip()) for part in text.split(",")[: MOST_LAYERS + 1])
    except ValueError:
        widths = ()
    if not 1 <= len(widths) <= MOST_LAYERS or min(widths) < 1 or max(widths) > MOST_WIDTH:
        raise ConfigError(
            f"--hidden {shorten(text)}: expected widths such as 200 or 200,200, up to {MOST_LAYERS} of {MOST_WIDTH:,}"
        )
    return widths


def _progress(moment: Moment) -> str:
    from ps.cli.outcome import format_time

    accuracy = "" if moment.accuracy is None else f" · accuracy {moment.accuracy:.4f}"
    return f"{format_time(moment.seconds)} of virtual time · {moment.trained:,} updates{accuracy}"
