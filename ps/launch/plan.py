"""Plan: which processes a local cluster has, with their commands and environments. Starts nothing."""

from __future__ import annotations

import shlex
import types
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ps import blas, interpreter
from ps.config import PIPELINE, JobConfig, ProcessConfig, flags_of
from ps.config.load import without_ours
from ps.config.values import MOST_PROCESSES
from ps.dataclass import dataclass
from ps.errors import ConfigError
from ps.script import Script
from ps.text import counted

if TYPE_CHECKING:
    from ps.launch.call import FunctionCall

PROGRAM = interpreter.command("ps.cli")
_NONE: Mapping[str, int] = types.MappingProxyType({})


def check_count(servers: int, workers: int) -> None:
    """Raise ConfigError for more processes than are started on one machine."""
    if servers + workers > MOST_PROCESSES:
        raise ConfigError(
            f"servers = {servers} and workers = {workers} are {servers + workers} processes, and at most "
            f"{MOST_PROCESSES} are started on one machine. Try: psctl scheduler, server and worker on several, or, for "
            f"thousands of clients, psctl simulate"
        )


@dataclass(frozen=True, slots=True)
class Plan:
    """A script, how many processes run it, and the settings that flags, environment and TOML gave.

    ``job`` holds the job's explicit settings; ``toml`` is the path of the TOML file they come from, if any;
    ``call`` has the function that the script is to call, where it is ours.
    """

    script: Script
    args: tuple[str, ...]
    servers: int
    workers: int
    job: Mapping[str, Any]
    process: ProcessConfig
    toml: str = ""
    program: tuple[str, ...] = PROGRAM
    call: FunctionCall | None = None
    life: int = 0
    """Which run this is of those that have had its folder of checkpoints; 0 without one."""

    def __post_init__(self) -> None:
        check_count(self.all_servers, self.workers + self.spares)
        if self.spares and self.call is not None:
            raise ConfigError("spares = 1 or more needs a script: who takes another's place runs it from its beginning")

    @property
    def standbys(self) -> int:
        """How many servers are started beside the others, each of which goes on for one that dies."""
        return self.servers * int(self.job.get("replicas", 0))

    @property
    def all_servers(self) -> int:
        """How many servers are started."""
        return self.servers + self.standbys

    @property
    def spares(self) -> int:
        """How many workers are started beside the others, where the settings say that it is such a job."""
        return int(self.job.get("spares", 0)) if self.job.get("mode") in PIPELINE else 0

    @property
    def elastic(self) -> bool:
        """Whether there may be fewer workers, so that one that is killed is started again and joins anew."""
        return self.job.get("min_workers") is not None

    def _port(self, scheduler: str | None) -> int:
        return int(scheduler.rpartition(":")[2]) if scheduler else self.process.port

    def _is_seated(self, role: str) -> bool:
        """Whether processes of a role have the ranks that the scheduler gives them."""
        seated = {"scheduler": True, "worker": self.elastic, "server": self.standbys > 0}
        return seated[role]

    def command(self, role: str) -> list[str]:
        """Return the command line of a process of this role."""
        if role == "worker":
            return [*self.program, role, *self.script.flags, "--", self.script.name, *self.args]
        return [*self.program, role, *(self._job_flags() if role == "scheduler" else ())]

    def restart_command(self, address: str, state: str) -> str:
        """Return what to type to bring a dead scheduler back where the others look for it.

        It listens where it did, which need not be the host that is told to others (``advertise`` in the TOML file).
        """
        where = ["--host", self.process.host, "--port", address.rpartition(":")[2], "--state", state]
        return shlex.join(
            ["psctl", "scheduler", *where, *self._key_flags("scheduler"), *self._plugin_flags(), *self._job_flags()]
        )

    def hands(self, role: str, rank: int) -> Mapping[str, int]:
        """Return the descriptors that a process inherits, by the variables that name them."""
        return _NONE if self.call is None or role != "worker" else self.call.hands(rank)

    def join_command(self, address: str) -> str:
        """Return what to type to add a worker, of a pipeline a spare; nothing where nobody else has the function."""
        if self.call is not None:
            return ""
        dashes = ["--"] if self.script.name.startswith("-") else []
        script = [*self.script.flags, *dashes, self.script.name, *self.args]
        return shlex.join(
            ["psctl", "worker", "--scheduler", address, *self._key_flags("worker-0"), *self._plugin_flags(), *script]
        )

    def begun(self, address: str) -> list[str]:
        """Return what is said once all are started."""
        spares = f", {counted(self.spares, 'spare')}" if self.spares else ""
        servers = counted(self.servers, "server")
        servers += f", {counted(self.standbys, 'standby server')}" if self.standbys else ""
        said = [f"{servers}, {counted(self.workers, 'worker')}{spares}, scheduler at {address}"]
        if join := self.join_command(address):
            said.append(f"another {'spare' if self.job.get('mode') in PIPELINE else 'worker'} can join with: {join}")
        if str(self.job.get("secure")).partition(":")[0] == "helper":
            said.append(f"its clients wait for a helper, if there is none yet: psctl helper --scheduler {address}")
        return said

    def environment(
        self,
        base: Mapping[str, str],
        role: str,
        rank: int,
        *,
        scheduler: str | None,
        runtime_dir: str,
        run_dir: str,
        trace: str | None,
        state: str | None,
        cores: int,
        keys: str | None = None,
    ) -> dict[str, str]:
        """Return the environment of one process: ``base`` with our own variables replaced by the plan's.

        ``scheduler`` is where it listens, also one that is started again: the others look for it there.
        ``state`` is the file of this process, which a server or worker of a job that is not federated leaves alone.
        """
        process = ProcessConfig(
            scheduler=scheduler,
            host=self.process.host,
            port=self._port(scheduler) if role == "scheduler" else 0,
            rank=None if self._is_seated(role) else rank,
            suggested_rank=rank if self.elastic and role == "worker" else None,
            local_rank=rank if role == "worker" else None,
            device=self.process.device,
            threads=self.process.threads,
            kernels=self.process.kernels,
            run_dir=run_dir if role == "worker" else None,
            trace=trace,
            save=self.process.save if role == "worker" else None,
            save_every=self.process.save_every if role == "worker" else 0,
            save_masters=self.process.save_masters and role == "worker",
            data=self.process.data,
            state=state,
            runtime_dir=runtime_dir,
            plugins=self.process.plugins,
            grace=self.process.grace,
            connect_timeout=self.process.connect_timeout,
            keys=keys,
            insecure=self.process.insecure,
        )
        threads = str(blas.share(cores, self.workers))
        defaults = {"PYTHONUNBUFFERED": "1", **dict.fromkeys(blas.VARIABLES, threads)}
        toml = {"PS_CONFIG": self.toml} if self.toml else {}
        toml |= {"PS_LIFE": str(self.life)} if self.life and role != "server" else {}
        return {**defaults, **without_ours(base), **process.to_env(), **toml}

    def _key_flags(self, name: str) -> list[str]:
        """Return what a process needs that is started by hand; keys that were made for this run are found without."""
        keys = self.process.keys
        return ["--keys", f"{keys}/{name}"] if keys else ["--insecure"] * self.process.insecure

    def _plugin_flags(self) -> list[str]:
        return [word for module in self.process.plugins or () for word in ("--plugin", module)]

    def _job_flags(self) -> list[str]:
        job = {**self.job, "servers": self.servers, "workers": self.workers}
        return flags_of(JobConfig, job)
