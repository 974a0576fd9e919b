"""Ray: actors that start a job's processes on the nodes of a cluster; and a line for its jobs, which do that there."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from ps.config import JobConfig, ProcessConfig, flags_of
from ps.config.values import FLOAT, INT, PATH, TEXT
from ps.engines.engine import EngineOption, Files, Given, JobEngine, Say
from ps.engines.workload import Workload
from ps.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from ps.ray.options import RayOptions

FILE = "job.sh"
OPTIONS = (
    EngineOption("address", TEXT, "auto", "the cluster: HOST:PORT of its head; auto: the one this machine is part of"),
    EngineOption("cpus", FLOAT, 1.0, "CPU of each worker, and its threads", 0, 4096),
    EngineOption("gpus", FLOAT, 0.0, "GPUs of each worker", 0, 64),
    EngineOption("server_cpus", FLOAT, 1.0, "CPU of each server, and its threads", 0, 4096),
    EngineOption("resource", TEXT, (), "another resource of each worker, as --resource ssd=1", repeats=True),
    EngineOption("server_resource", TEXT, (), "another resource of each server", repeats=True),
    EngineOption("strategy", TEXT, "PACK", "how the placement group lies: PACK, SPREAD, STRICT_PACK, STRICT_SPREAD"),
    EngineOption("wait", FLOAT, 120.0, "seconds to wait for all of that", 0, 1e9),
    EngineOption("retries", INT, 3, "how often the job begins again from what it has kept", 0, 10_000),
    EngineOption("working_dir", PATH, None, "a folder that Ray sends to all nodes, where processes work"),
    EngineOption("env", TEXT, (), "a variable of all processes, as --env OMP_NUM_THREADS=4", repeats=True),
)
SCRIPT = """\
#!/bin/sh
{made}# Submit it with: ray job submit --working-dir . -- sh {file}
exec {command}
"""


def render(work: Workload, given: Given) -> Files:
    """Return a script for ``ray job submit``. Raises ConfigError for options that cannot be."""
    _options(given)
    words = ["psctl", "run", "--on", "ray"]
    for option in OPTIONS:
        values = given[option.name] if option.repeats else (given[option.name],)
        shown = [option.kind.show(value) for value in values if value is not None and value != option.default]
        words += [word for each in shown for word in ("-o", f"{option.name}={each}")]
    words += flags_of(JobConfig, work.job)
    plugins = work.process.get("plugins") or ()
    words += [word for module in plugins for word in ("--plugin", module)]
    words += flags_of(ProcessConfig, {name: value for name, value in work.process.items() if name != "plugins"})
    words += [*work.script.flags, "--", work.script.name, *work.args]
    return {FILE: SCRIPT.format(made=work.made_by, file=FILE, command=shlex.join(words))}


def run(work: Workload, given: Given, say: Say) -> int:
    """Have a Ray cluster run a job, and follow it to its end; return its exit code."""
    options = _options(given)
    from ps.launch.screen import Screen
    from ps.ray.job import run_job
    from ps.sink import kept_going

    with kept_going("stdout"):
        return run_job(work, options, Screen()).status


def _options(given: Given) -> RayOptions:
    from ps.ray.options import read_options

    worker = {"CPU": given["cpus"], "GPU": given["gpus"], **_amounts("resource", given["resource"])}
    server = {"CPU": given["server_cpus"], **_amounts("server_resource", given["server_resource"])}
    return read_options(
        worker,
        server,
        given["address"],
        given["strategy"],
        given["wait"],
        given["retries"],
        given["working_dir"],
        _pairs("env", given["env"]),
        "ray",
    )


def _pairs(option: str, texts: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for text in texts:
        name, sign, value = text.partition("=")
        if not sign or not name:
            raise UsageError(f"{option} {text!r:.60} is no NAME=VALUE")
        found[name] = value
    return found


def _amounts(option: str, texts: tuple[str, ...]) -> dict[str, float]:
    try:
        return {name: float(value) for name, value in _pairs(option, texts).items()}
    except ValueError:
        raise ConfigError(f"{option} {texts!r:.80}: an amount is a number, as in {option}=ssd=1") from None


ENGINE = JobEngine(
    "ray",
    "a line for ray job submit",
    "psctl render ray -s 2 -w 4 train.py > job.sh",
    OPTIONS,
    render,
    run,
)
