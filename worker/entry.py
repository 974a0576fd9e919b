"""connect: from the environment and a script's wishes to a KV."""

from __future__ import annotations

import logging
import os
from typing import Any

from ps import xp
from ps.config import explicit_job, find_toml, job_from, process_from_env
from ps.memory import keep_freed_memory
from ps.worker.cluster import ClusterStore
from ps.worker.kv import KV
from ps.worker.local import LocalStore
from ps.worker.record import StepLog
from ps.worker.store import Store


def connect(**defaults: Any) -> KV:
    """Join the job this process was started for, or train alone when there is none.

    ``defaults`` are the script's wishes for the job, in the command line's spelling (``mode="ssp"``,
    ``staleness=2``, ``optimizer="adam:lr=1e-3"``); flags, ``PS_*`` variables and a TOML file win over them. A
    cluster is found by ``PS_SCHEDULER``, which ``psctl run`` and ``psctl worker`` set. Use as a context manager.

    Raises ConfigError for settings that cannot be, ConnectTimeout when nobody answers or the job stays incomplete,
    Refused when the scheduler says no.
    """
    logging.basicConfig(level=logging.WARNING, format="%(name)s: %(message)s")
    keep_freed_memory()
    toml = find_toml(os.environ)
    process = process_from_env(os.environ, toml)
    device = xp.device(process.device, process.local_rank or 0)
    device.use()
    store: Store
    if process.scheduler is not None:
        store = ClusterStore(process, defaults)
    else:
        alone = {"workers": 1, "servers": 1}
        explicit = {**explicit_job({}, os.environ, toml), **alone}
        explicit.pop("backup_workers", None)
        wishes = {key: value for key, value in defaults.items() if key not in (*alone, "backup_workers")}
        store = LocalStore(job_from(explicit, wishes))
    return KV(store, device, StepLog(process.run_dir, store.rank))
