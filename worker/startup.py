"""connect: from the environment and a script's wishes to a KV."""

from __future__ import annotations

import contextlib
import dataclasses
import faulthandler
import os
import sys
import tempfile
from collections.abc import Mapping
from typing import Any

from ps import blas, native, plugins, sigterm, xp
from ps.config import JobConfig, ProcessConfig, Toml, explicit_job, find_toml, job_from, merge, process_from_env
from ps.cores import cores, threads_for
from ps.errors import UsageError
from ps.memory import keep_freed_memory
from ps.record_lives import FIRST
from ps.state_file import StateFile
from ps.threads import ThreadTeam
from ps.trace import Trace, start
from ps.track.registry import demand_tracker
from ps.worker.cluster import ClusterStore
from ps.worker.federated.client_checkpoint import kept_rank
from ps.worker.federated.store import FederatedStore
from ps.worker.kv import KV
from ps.worker.last_cut import LastCut
from ps.worker.local import LocalStore
from ps.worker.saving import NO_MASTERS, Saving
from ps.worker.session import Session
from ps.worker.step_log import StepLog
from ps.worker.store import Store
from ps.worker.tracking import track
from ps.worker.uncaught import report_in_one_line

CLUSTER = ("servers", "workers", "backup_workers", "aggregator", "stages", "pipeline_workers", "compress_activations")
"""Settings that mean nothing where there is one process."""
FEDERATED = ("mode", "algorithm", "clients_per_round", "min_clients", "transport")
"""Settings that, in a federated job, mean nothing either: one client alone trains as any process does."""


def connect(**defaults: Any) -> KV:
    """Join the job this process was started for, or train alone when there is none.

    ``defaults`` are the script's wishes for the job, in the command line's spelling (``mode="ssp"``,
    ``staleness=2``, ``optimizer="adam:lr=1e-3"``); flags, ``PS_*`` variables and a TOML file win over them. A
    cluster is found by ``PS_SCHEDULER``, which ``psctl run`` and ``psctl worker`` set. Use as a context manager.

    Raises ConfigError for settings that cannot be, UsageError for a run directory or a file that cannot be written,
    ConnectTimeout when nobody answers or the job stays incomplete, Refused when the scheduler says no.
    """
    keep_freed_memory()
    _tell_of_crashes()
    toml = find_toml(os.environ)
    process = process_from_env(os.environ, toml)
    plugins.load(process.plugins or ())
    native.choose(process.kernels)
    wishes, _ = merge(JobConfig, script=defaults)
    xp.device(process.device)  # what cannot be had is said before anybody counts on this worker
    saving = Saving(process.save, process.save_every, masters=process.save_masters)
    saving.check()
    if process.track is not None:
        demand_tracker(process.track)
    run_dir = process.run_dir if process.track is None else process.run_dir or tempfile.mkdtemp(prefix="ps-track-")
    log = StepLog(run_dir, int(life) if (life := os.environ.get("PS_LIFE", "")).isdecimal() else FIRST)
    trace = start(process.trace, "worker", 0 if process.scheduler is None else None)
    store: Store
    if process.scheduler is None:
        store, neighbours = LocalStore(_alone(wishes, toml), trace), 1
    else:
        report_in_one_line()
        store, neighbours = _joined(process, wishes, trace)
        trace.seat(store.rank)
        if store.cut_plan is not None and store.job.checkpoint_dir is not None and not store.job.federated:
            sigterm.first(LastCut(store.cut_plan, process.grace).may_end)
        if store.job.pipeline and process.save is not None and process.save_masters:
            store.close("--save-masters cannot be had with stages on several workers")
            raise UsageError(f"--save-masters with mode = {store.job.mode}: {NO_MASTERS}")
    if process.track is not None:
        track(process, store, log)
    device = xp.device(process.device, store.rank if process.local_rank is None else process.local_rank)
    device.use()
    blas.take(blas.share(cores(), neighbours), os.environ)
    return KV(store, device, log, trace, ThreadTeam(threads_for(process.threads, cores(), neighbours)), saving)


def _tell_of_crashes() -> None:
    """Have Python say where a script crashed, as one does that writes to weights which are the servers' memory."""
    if not faulthandler.is_enabled() and sys.__stderr__ is not None:
        with contextlib.suppress(OSError, ValueError):  # closed, or no file
            faulthandler.enable(sys.__stderr__)


def _joined(process: ProcessConfig, wishes: Mapping[str, Any], trace: Trace) -> tuple[Store, int]:
    """Join the job, as the client that the state file is of, if it is of one; return how many share this host."""
    state_file = StateFile.open(process.state)
    try:
        rank = kept_rank(state_file) if process.rank is None else process.rank
        session = Session(dataclasses.replace(process, rank=rank), wishes, trace)
    except BaseException:
        state_file.close()
        raise
    if session.job.federated:
        return FederatedStore(session, state_file), session.neighbours
    state_file.close()
    return ClusterStore(session), session.neighbours


def _alone(wishes: Mapping[str, Any], toml: Toml) -> JobConfig:
    """Return the job of a process that trains without a cluster."""
    explicit = explicit_job({}, os.environ, toml)
    federated = explicit.get("mode", wishes.get("mode")) == "federated"
    idle = CLUSTER + FEDERATED if federated else CLUSTER
    given, wished = ({k: v for k, v in values.items() if k not in idle} for values in (explicit, wishes))
    return job_from(given, wished)
