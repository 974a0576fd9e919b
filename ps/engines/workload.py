"""Workload: a job as an engine is to run it: a script, how many processes of which role, and each one's command."""

from __future__ import annotations

import re
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ps.config import PIPELINE, JobConfig, ProcessConfig, flags_of, settings_of
from ps.config.mode import FEDERATED
from ps.config.settings import Settings
from ps.dataclass import dataclass
from ps.errors import ConfigError
from ps.script import Script

_NONE: Mapping[str, Any] = types.MappingProxyType({})
ENGINES_OWN = ("host", "port", "runtime_dir", "restarts", "page_host", "page_port", "page_token")
"""Settings of psctl run that an engine decides about."""
STATE = "state"
PLACED = (STATE, "keys")
"""Settings of a process of which an engine alone knows where they are there."""


@dataclass(frozen=True, slots=True)
class Workload:
    """``job`` and ``process`` hold the settings that were given; ``program`` is how psctl is started there."""

    script: Script
    args: tuple[str, ...]
    servers: int
    workers: int
    job: Mapping[str, Any]
    process: Mapping[str, Any]
    mode: str = "sync"
    grace: float = 25.0
    program: tuple[str, ...] = ("psctl",)
    typed: str = ""
    """The command that this was made by, for a comment."""

    @classmethod
    def of(cls, settings: Settings, script: Script, args: tuple[str, ...], typed: str = "") -> Workload:
        """Return what settings ask for. Raises ConfigError for those that have no meaning on several hosts."""
        job, loaded = settings.job().config, settings.process()
        table = settings_of(ProcessConfig)
        given = {k: v for k, v in loaded.given().items() if "run" in table[k].roles and k not in ENGINES_OWN}
        explicit = settings.explicit_job()
        if "page" in given:
            raise ConfigError("page: the job runs elsewhere; look at it with psctl page --scheduler ADDRESS")
        if "trace" in given:
            raise ConfigError("trace: processes on several hosts have a file each; give it to one of them by hand")
        if job.mode in FEDERATED and (folder := explicit.pop("checkpoint_dir", None)) is not None:
            given.setdefault(STATE, f"{folder}/job.db")  # as psctl run has it
        explicit |= {"servers": job.servers, "workers": job.workers}
        return cls(
            script,
            args,
            job.servers,
            job.workers,
            explicit,
            given,
            job.mode,
            loaded.config.grace,
            typed=typed,
        )

    @property
    def name(self) -> str:
        """What the job is called unless somebody says so: after its script, of letters, digits and dashes."""
        stem = self.script.name.rpartition(".")[2] if self.script.is_module else Path(self.script.name).stem
        return re.sub(r"[^a-z0-9]+", "-", stem.lower()).strip("-")[:40].strip("-") or "job"

    @property
    def made_by(self) -> str:
        """A line of comment that says by which command it was made, where that is known."""
        return f"# Made by: {' '.join(self.typed.split())}\n" if self.typed else ""

    @property
    def seats(self) -> int:
        """How many workers are started: the job's, and in a pipeline its spares."""
        return self.workers + (int(self.job.get("spares", 0)) if self.mode in PIPELINE else 0)

    @property
    def standbys(self) -> int:
        """How many servers are to be started beside the others, each of which goes on for one that dies."""
        return self.servers * int(self.job.get("replicas", 0))

    @property
    def keeps(self) -> bool:
        """Whether the job goes on from what it has kept when it is started again."""
        return "checkpoint_dir" in self.job or "resume" in self.job or STATE in self.process

    @property
    def is_open(self) -> bool:
        """Whether the job is to do without keys."""
        return bool(self.process.get("insecure"))

    def demand_none(self, engine: str, *names: str) -> None:
        """Raise ConfigError for a setting that means nothing where processes share no disk."""
        for name in names:
            if name in self.process:
                raise ConfigError(f"{name}: processes that {engine} starts have no disk in common to keep it on")

    def words(self, role: str, settings: Mapping[str, Any] = _NONE) -> list[str]:
        """Return the command of a role, without the program: its flags, and a worker's script.

        ``settings`` are the engine's, of the process and of the job; those of None are left out, those that the user
        gave win but for what an engine alone knows.
        """
        table = settings_of(ProcessConfig)
        own = {name: value for name, value in self.process.items() if role in table[name].roles and name not in PLACED}
        process = {**own, **{k: v for k, v in settings.items() if k in table and v is not None}}
        flags = [word for name in table if name in process for word in _flag(name, process[name])]
        if role == "scheduler":
            flags += ["--gather"]  # an engine starts all at once, or keeps what it has of them for nothing
            flags += flags_of(JobConfig, {**{k: v for k, v in settings.items() if k not in table}, **self.job})
        if role != "worker":
            return [role, *flags]
        return [role, *flags, *self.script.flags, "--", self.script.name, *self.args]


def _flag(name: str, value: Any) -> list[str]:
    if name == "plugins":
        return [word for module in value for word in ("--plugin", module)]
    return flags_of(ProcessConfig, {name: value})
