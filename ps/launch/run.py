"""ps.run: a cluster on this machine around a function, from a notebook or a program."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from typing import Any

from ps import descriptors
from ps.errors import JobEnded, StateError, UsageError
from ps.launch.call import FunctionCall, name_of
from ps.launch.checks import check_files
from ps.launch.cluster import run_to_end
from ps.launch.import_path import import_path
from ps.launch.keywords import called_with
from ps.launch.plan import Plan
from ps.launch.run_result import RunResult
from ps.launch.scope import interrupt
from ps.launch.screen import Screen
from ps.log_line import JSON
from ps.protocol.query import fetch_status
from ps.script import Script
from ps.sink import kept_going

CALLER = "ps.run"


def run(function: Callable[..., Any], /, *args: Any, **settings: Any) -> Any:
    """Call ``function(*args)`` in each worker of a new cluster on this machine, and return what rank 0 returned.

    ``settings`` are the flags of ``psctl run`` as keywords, with the same meaning, bounds and defaults:
    ``ps.run(train, 0.1, servers=2, workers=4, mode="ssp", staleness=3, save="model.safetensors")``; ``config`` names a
    TOML file. The function connects by itself, as a script does (``with ps.connect() as kv:``). What workers print is
    shown as they print it. An interrupt ends all processes in order, a second one at once.

    Workers are new processes: the function and what it refers to are pickled by value (cloudpickle), so it may stand
    in a notebook; modules are imported anew. What it returns on rank 0 is pickled too; what it returns elsewhere is
    dropped.

    Raises what the function raised, if that ended a worker and failed first, with its traceback there as the cause;
    for what else failed first, the error of its exit code: ServerLost, PeerLost, ConnectTimeout, UnsavedModel or
    another PSError. Raises UsageError for a function or a result that cannot be pickled, ConfigError for settings that
    cannot be, StateError in a process that is a worker already, JobEnded when the job of ``state`` has ended before.
    """
    if not callable(function):
        raise UsageError(f"ps.run takes a function to call in each worker, not {function!r:.60}")
    if address := os.environ.get("PS_SCHEDULER"):
        raise StateError(
            f"ps.run starts a cluster of its own, and this process is a worker already, of the job at {address}: call "
            f"{name_of(function)} itself, or take PS_SCHEDULER out of the environment"
        )
    descriptors.demand(CALLER)
    found = called_with(settings, CALLER)
    job, process = found.job().config, found.process().config
    check_files(job, process)
    with contextlib.ExitStack() as held:
        call = FunctionCall(function, args, job.workers)
        held.callback(call.close)
        held.enter_context(kept_going("stdout", "stderr"))
        script = Script("ps.launch.called", is_module=True)
        screen = Screen(as_json=process.log_format == JSON)
        plan = Plan(
            script, (), job.servers, job.workers, found.explicit_job(), process, toml=found.toml.path, call=call
        )
        result = run_to_end(plan, {**os.environ, **import_path(os.environ)}, screen, fetch_status)
        if result.signal:
            interrupt(result.signal)
        if result.failed_first is not None:
            _fail(result, call)
        if not result.began:
            raise JobEnded(f"the job in {process.state} has ended before; for another one give another state")
        return call.returned(0)


def _fail(result: RunResult, call: FunctionCall) -> None:
    first = result.failed_first
    assert first is not None
    if first.role == "worker" and (error := call.raised(first.rank)) is not None:
        raise error
    raise result.error()
