"""psctl scheduler, server, worker: one role, here, in the foreground."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import runpy
import traceback
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

import click

from ps import descriptors
from ps.cli.help import HelpfulCommand
from ps.cli.logs import log_by_hand, say, say_json
from ps.cli.options import TWINS, job_options, process_options, read_settings, script_arguments
from ps.cli.ready import announcer
from ps.config import SCHEDULER_PORT, ProcessConfig
from ps.config.values import FILE
from ps.descriptors import take_descriptor
from ps.errors import PSError, UsageError
from ps.launch import account, parent, rundir
from ps.launch.readiness import READY
from ps.launch.scheduler_record import SchedulerRecord
from ps.log_line import JSON
from ps.memory import uncollected
from ps.protocol import address_file
from ps.regular_file import reason, refuse_pipe, shown
from ps.script import Script
from ps.sink import kept_going

SCRIPT_SETTINGS = {"allow_interspersed_args": False}


@click.command(
    cls=HelpfulCommand,
    examples="psctl scheduler -s 2 -w 4 --host 10.0.0.1 --state scheduler.db",
    notes={"Settings": TWINS},
)
@job_options
@process_options("scheduler")
@click.pass_obj
def scheduler(has_launcher: bool, /, **options: Any) -> int:
    """Run the scheduler: it seats the members, hands out the job and watches who is alive."""
    with uncollected():
        from ps.server.scheduler.service import serve

    descriptors.claim("a scheduler")
    settings = read_settings(options)
    explicit = settings.explicit_job()
    loaded = settings.process()
    process = loaded.config
    if loaded.sources["port"] == "default":
        process = dataclasses.replace(process, port=_port_of(process.scheduler))

    def describe(address: str) -> str:
        return f"scheduler at {address}; join with: psctl worker --scheduler {address} SCRIPT"

    parent.untie()
    fd = take_descriptor(account.VARIABLE)  # of psctl run, which starts the others once this one is ready
    is_first = fd is not None and READY in os.environ  # not one that it starts again
    as_json = partial(say_json, "scheduler") if process.log_format == JSON else None
    announce = announcer(has_launcher, describe, as_json)
    with contextlib.ExitStack() as held:
        tell = account.teller(fd)
        if process.run_dir is not None and not has_launcher:
            goes_on = process.state is not None and Path(process.state).exists()
            tell = SchedulerRecord(held.enter_context(rundir.claimed(process.run_dir, goes_on=goes_on))).tell
        if not has_launcher:
            log_by_hand("scheduler", process.log_format)
        told = None if has_launcher else as_json or say
        try:
            return serve(explicit, process, ready=announce, tell=tell, is_first=is_first, say=told)
        except PSError as error:
            if process.address_file is not None:  # of one that has listened all are told who have found it
                address_file.write_end(process.address_file, error)
            raise


@click.command(
    cls=HelpfulCommand,
    examples="psctl server --scheduler 10.0.0.1:7070 --host 10.0.0.2",
    notes={"Settings": TWINS},
)
@process_options("server")
@click.pass_obj
def server(has_launcher: bool, /, **options: Any) -> int:
    """Run one server: it holds a share of the model and applies what workers push."""
    with uncollected():
        from ps.server.shard.service import serve

    descriptors.claim("a server")
    process = _member(options)
    parent.untie()
    if not has_launcher:
        log_by_hand("server", process.log_format)
    as_json = partial(say_json, "server") if process.log_format == JSON else None
    return serve(process, ready=announcer(has_launcher, lambda address: f"server at {address}", as_json))


@click.command(
    cls=HelpfulCommand,
    context_settings=SCRIPT_SETTINGS,
    examples="psctl worker --scheduler 10.0.0.1:7070 train.py --epochs 3",
    notes={"Settings": TWINS},
)
@process_options("worker")
@script_arguments
@click.pass_obj
def worker(has_launcher: bool, /, script: Script, args: tuple[str, ...], **options: Any) -> int:
    """Run SCRIPT as one worker of a cluster. Everything after SCRIPT is the script's."""
    with uncollected():
        from ps.worker import run_script

    script.check()
    descriptors.demand("a worker")  # what the script's process may open stays as it is
    try:
        process = _member(options)
        parent.untie()
        if not has_launcher:
            log_by_hand("worker", process.log_format)
        with kept_going("stdout"):
            return run_script(script, list(args), process)
    except PSError:
        raise
    except Exception as error:
        traceback.print_exception(error.with_traceback(_from_script(error.__traceback__)))
        return PSError.exit_code


def _from_script(trace: TracebackType | None) -> TracebackType | None:
    """Return a traceback without the frames above the script: how it was started is not its author's concern."""
    from ps.worker import script

    above = {
        __file__,
        script.__file__,
        runpy.__file__,
        "<frozen runpy>",
        str(Path(parent.__file__).with_name("called.py")),
    }
    while trace is not None and trace.tb_frame.f_code.co_filename in above:
        trace = trace.tb_next
    return trace


def _member(options: dict[str, Any]) -> ProcessConfig:
    process = read_settings(options).process().config
    scheduler = process.scheduler or f"tcp://127.0.0.1:{SCHEDULER_PORT}"
    if scheduler.startswith(FILE):  # a script may change its directory
        scheduler = f"{FILE}{Path(scheduler.removeprefix(FILE)).absolute()}"
    return dataclasses.replace(process, scheduler=scheduler, trace=_trace_file(process.trace))


def _trace_file(name: str | None) -> str | None:
    """Return where the trace is to go, whatever directory a script changes to; UsageError when it cannot go there."""
    if name is None:
        return None
    path = Path(name).absolute()
    try:
        refuse_pipe(path)
        path.open("ab").close()
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot write the trace to {shown(name)}: {reason(error)}") from None
    return str(path)


def _port_of(address: str | None) -> int:
    port = (address or "").rpartition(":")[2]
    return int(port) if port.isascii() and port.isdecimal() else SCHEDULER_PORT
