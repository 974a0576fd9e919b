"""What each process of a job on Ray is: its command line, its environment, and its keys."""

from __future__ import annotations

import dataclasses
import math
import os
import types
from pathlib import Path
from typing import Any

import ps
from ps import blas
from ps.config import ProcessConfig
from ps.engines.workload import STATE, Workload
from ps.keys.cluster_keys import create_cluster
from ps.launch.run_keys import RunKeys
from ps.ray.options import Bundle, RayOptions
from ps.ray.start import ProcessStart

CONNECT = 120.0
"""Seconds for which members wait for the scheduler."""
MOST_THREADS = 64
SCHEDULER: Bundle = types.MappingProxyType({"CPU": 0.1})
"""What the scheduler is given, which is never on the way of data."""


class RayCommands:
    """The processes of a job by role and rank. ``directory`` is private to this run."""

    def __init__(self, work: Workload, options: RayOptions, directory: Path, *, is_placed: bool) -> None:
        """``is_placed``: Ray has put the script where actors are started. Raises ConfigError."""
        self._work, self._options = work, options
        self._cwd = None if is_placed else os.getcwd()  # noqa: PTH109
        given: str | None = work.process.get("keys")
        if given is None and not work.is_open:
            given = str(directory / "keys")
            create_cluster(Path(given), self.servers, work.seats)
        self._keys = RunKeys(ProcessConfig(keys=given, insecure=work.is_open), directory)

    @property
    def servers(self) -> int:
        """How many servers are started."""
        return self._work.servers + self._work.standbys

    @property
    def roles(self) -> list[tuple[str, int]]:
        """All processes, in the order of their places."""
        members = [("server", rank) for rank in range(self.servers)]
        return [("scheduler", 0), *members, *(("worker", rank) for rank in range(self._work.seats))]

    def bundle(self, role: str) -> Bundle:
        """Return what a process of a role is given."""
        return {"scheduler": SCHEDULER, "server": self._options.server, "worker": self._options.worker}[role]

    @property
    def operator(self) -> str | None:
        """The folder of keys for whoever asks the scheduler; None without any."""
        return self._keys.operator

    def threads(self, role: str) -> int:
        """Return how many threads a process takes: those of its share of the processors, unless it was said."""
        asked = self._work.process.get("threads")
        return int(asked or min(MOST_THREADS, max(1, math.ceil(self.bundle(role).get("CPU", 0)))))

    def start(self, role: str, rank: int, address: str | None, life: int) -> ProcessStart:
        """Return a process to start, in the ``life``-th life of the job; ``address``: the scheduler's."""
        kept = {name: value for name, value in self._work.process.items() if name != "run_dir"}
        settings: dict[str, Any] = {"port": 0 if role == "scheduler" else None}
        if role != "scheduler":
            settings |= {"scheduler": address, "connect_timeout": kept.get("connect_timeout", CONNECT)}
            settings |= {"threads": self.threads(role)}
        if role == "worker":
            settings |= {"local_rank": 0}  # Ray shows each actor its own GPUs alone
        elif role == "server" and not self._work.standbys:
            settings |= {"rank": rank}
        if (state := kept.get(STATE)) is not None:
            settings[STATE] = state if role == "scheduler" else f"{state}.d/{role}-{rank}"
        if role != "server" and (record := self._work.process.get("run_dir")) is not None:
            settings["run_dir"] = record if life == 1 else f"{record}-{life}"
        work = dataclasses.replace(self._work, process=kept)
        suggested = {"PS_SUGGESTED_RANK": str(rank)} if role == "worker" else {}
        env = dict.fromkeys(blas.VARIABLES, str(self.threads(role))) | suggested | dict(self._options.env)
        return ProcessStart(
            role,
            rank,
            tuple(work.words(role, settings)),
            env,
            _files(self._keys.folder(role, rank)),
            self._cwd,
            self._work.grace,
            ps.__version__,
        )


def _files(folder: str | None) -> dict[str, bytes]:
    """Return the files of a folder of keys."""
    if folder is None:
        return {}
    return {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir()) if path.is_file()}
