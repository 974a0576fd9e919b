"""ps.ray.run: a job on a Ray cluster, from a program or a notebook."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from ps.engines.workload import Workload
from ps.errors import StateError
from ps.launch.keywords import called_with
from ps.launch.scope import interrupt
from ps.launch.screen import Screen
from ps.ray.job import run_job
from ps.ray.options import read_options
from ps.script import Script
from ps.sink import kept_going

CALLER = "ps.ray.run"


def run(
    script: str,
    /,
    *args: str,
    resources: Mapping[str, float] | None = None,
    server_resources: Mapping[str, float] | None = None,
    address: str = "auto",
    strategy: str = "PACK",
    wait: float = 120.0,
    retries: int = 3,
    working_dir: str | None = None,
    env: Mapping[str, str] | None = None,
    module: bool = False,
    **settings: Any,
) -> None:
    """Train with ``script`` on a Ray cluster, and return when the job has ended in good order.

    ``args`` are the script's; with ``module`` it is a module's name, as ``python -m`` takes it. ``settings`` are the
    flags of ``psctl run`` as keywords: ``servers=2, workers=4, mode="ssp", staleness=3``. ``resources`` are what each
    worker is given, ``server_resources`` each server (``{"CPU": 1}`` each unless told otherwise; GPU, memory in bytes,
    and custom resources as Ray knows them); a process takes as many threads as it has CPU. All are taken at once, in
    one placement group of that ``strategy`` (PACK, SPREAD, STRICT_PACK, STRICT_SPREAD), for which it waits ``wait``
    seconds. ``address`` is the cluster's (``"auto"``: the one that this machine is part of); a connection that the
    program has already is used. ``working_dir`` is a folder that Ray sends to all nodes; without, and without that of
    a Ray job, processes work in this program's folder, if a node has it. ``env`` are variables of all processes.

    Raises what failed first as the error of its exit code, with its last lines: ServerLost, PeerLost, ConnectTimeout
    or another PSError. Raises UsageError and ConfigError for what cannot be, ConnectTimeout where no cluster answers or
    it has no room, StateError in a process that is a worker already. KeyboardInterrupt and SIGTERM end the job first.
    """
    if scheduler := os.environ.get("PS_SCHEDULER"):
        raise StateError(
            f"{CALLER} starts a job of its own, and this process is a worker already, of the job at {scheduler}"
        )
    options = read_options(resources, server_resources, address, strategy, wait, retries, working_dir, env, CALLER)
    what = Script(script, is_module=module)
    if working_dir is None:
        what.check()
    work = Workload.of(called_with(settings, CALLER), what, tuple(map(str, args)))
    with kept_going("stdout", "stderr"):
        result = run_job(work, options, Screen())
    if result.signal:
        interrupt(result.signal)
    if result.failed_first is not None:
        raise result.error()
