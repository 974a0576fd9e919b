"""ProcessConfig: the settings of one process: where it listens, whom it joins, which device and files it uses."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Mapping
from typing import Any

from ps import native
from ps.config.setting import check_ranges, env_of, setting
from ps.config.values import ADDRESS, ADVERTISED, DEVICE, HOST, LONGEST_WAIT, MODULES, PATH
from ps.dataclass import dataclass
from ps.log_line import FORMATS, TEXT
from ps.number import MOST_CLIENTS, MOST_STEPS

ALL = ("run", "scheduler", "server", "worker")
MEMBERS = ("server", "worker")
RANKS = ("RANK", "SLURM_PROCID", "JOB_COMPLETION_INDEX")
LOCAL_RANKS = ("LOCAL_RANK", "SLURM_LOCALID")

_NO_SOURCES: Mapping[str, str] = types.MappingProxyType({})


@dataclass(frozen=True, slots=True)
class ProcessConfig:
    """The settings of one process, every one with a default."""

    scheduler: str | None = setting(
        None,
        "address of the scheduler to join, tcp://host:port; file:PATH has it say there where it is (--address-file)",
        kind=ADDRESS,
        roles=(*MEMBERS, "status", "top", "page", "follow"),
    )
    host: str = setting(
        "127.0.0.1", "address to listen on and, without --advertise, be reached at", kind=HOST, roles=ALL
    )
    advertise: str | None = setting(
        None,
        "HOST or HOST:PORT at which others reach this process, where it is not the one it listens on",
        kind=ADVERTISED,
        roles=("scheduler", *MEMBERS),
    )
    address_file: str | None = setting(
        None,
        "file for the address that is listened on, for others' --scheduler file:PATH",
        kind=PATH,
        roles=("scheduler",),
    )
    gather: bool = setting(
        False,
        "count --start-timeout from the scheduler's own start, not from the first member: something starts all at once",
        roles=("scheduler",),
    )
    port: int = setting(
        0, "port to listen on; 0 takes a free one", low=0, high=65535, roles=("run", "scheduler", "server")
    )
    keys: str | None = setting(
        None,
        "folder with this process's keys and those of whom it lets in, see psctl keys; of psctl run: as psctl keys "
        "init makes it",
        kind=PATH,
        roles=(*ALL, "status", "top", "page", "follow", "ping"),
    )
    insecure: bool = setting(False, "without keys, listen on other addresses than loopback as well", roles=ALL)
    rank: int | None = setting(
        None, "rank to demand; the scheduler assigns one otherwise", low=0, high=MOST_CLIENTS - 1, roles=MEMBERS
    )
    suggested_rank: int | None = setting(
        None,
        "rank that Slurm, Kubernetes or torchrun suggests; given where it is free",
        low=0,
        high=MOST_CLIENTS - 1,
        fallbacks=RANKS,
    )
    local_rank: int | None = setting(
        None,
        "number among the workers of this host",
        low=0,
        high=MOST_CLIENTS - 1,
        roles=("worker",),
        fallbacks=LOCAL_RANKS,
    )
    device: str = setting(
        "auto",
        "where to compute: auto, cpu, cuda, cuda:N",
        kind=DEVICE,
        roles=("run", "worker"),
    )
    threads: int = setting(
        0,
        "threads for the arithmetic of one process; 0: its share of the cores",
        low=0,
        high=64,
        roles=("run", *MEMBERS),
    )
    kernels: str = setting(
        native.AUTO,
        "loops for the arithmetic: compiled ones (native), where an installation has them (auto), or numpy; same bits",
        native.CHOICES,
        roles=("run", *MEMBERS),
    )
    run_dir: str | None = setting(
        None, "directory for the record: metrics.jsonl, summary.json", kind=PATH, roles=("run", "scheduler", "worker")
    )
    trace: str | None = setting(None, "file for a timeline in Chrome-trace format", kind=PATH, roles=("run", *MEMBERS))
    save: str | None = setting(
        None,
        "file for the trained model, in the safetensors format; {clock} in its name is replaced by the clock",
        kind=PATH,
        roles=("run", "worker"),
    )
    save_every: int = setting(
        0,
        "write --save every N steps (federated: rounds), and at the end; 0: only at the end",
        low=0,
        high=MOST_STEPS,
        roles=("run", "worker"),
    )
    save_masters: bool = setting(
        False,
        "have --save write float32 masters of what is trained in half precision, for --init to go on with",
        roles=("run", "worker"),
    )
    track: str | None = setting(
        None,
        "show losses, evaluations and rounds in tensorboard, mlflow, wandb or trackio",
        roles=("run", "worker"),
    )
    track_dir: str | None = setting(
        None,
        "folder that --track writes to; none: as the tracker's own variables have it",
        kind=PATH,
        roles=("run", "worker"),
    )
    page: bool = setting(False, "serve a page that shows the run while it lasts, see psctl page", roles=("run",))
    page_host: str = setting(
        "127.0.0.1",
        "address to serve the page on; other than loopback only with --page-token",
        kind=HOST,
        roles=("run", "page"),
    )
    page_port: int = setting(
        7080, "port to serve the page on; 0 takes a free one", low=0, high=65535, roles=("run", "page")
    )
    page_token: str | None = setting(
        None, "file with the token that whoever looks at the page has to bring", kind=PATH, roles=("run", "page")
    )
    data: str | None = setting(None, "directory of the data sets", kind=PATH, roles=("run", "worker"))
    state: str | None = setting(
        None,
        "file from which a scheduler, or a server or client of a federated job, goes on after a restart; of psctl run: "
        "the scheduler's, with those of the others in FILE.d beside it",
        kind=PATH,
        roles=("run", "scheduler", *MEMBERS),
    )
    runtime_dir: str | None = setting(
        None, "directory for sockets and temporary files", kind=PATH, roles=("run", *MEMBERS)
    )
    plugins: tuple[str, ...] | None = setting(
        None,
        "module with algorithms, aggregators, optimizers, codecs or partitions of your own; may be repeated; each role "
        "needs it",
        kind=MODULES,
        roles=(*ALL, "compare", "simulate", "partition"),
    )
    grace: float = setting(
        25.0,
        "seconds that processes have to end after SIGTERM or Ctrl-C before they are killed",
        low=0,
        high=LONGEST_WAIT,
        roles=(*ALL, "compare"),
    )
    restarts: int = setting(
        3,
        "how often psctl run restarts the scheduler, a server or client of a federated job, or a worker of -w 2:8",
        low=0,
        high=1000,
        roles=("run",),
    )
    log_format: str = setting(
        TEXT, "what is printed of a role or a run: lines for people, or json, an object in each", FORMATS, roles=ALL
    )
    connect_timeout: float = setting(
        30.0, "seconds to wait for the scheduler to answer", low=0.1, high=LONGEST_WAIT, roles=ALL
    )

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as plain values."""
        return dataclasses.asdict(self)

    def to_env(self) -> dict[str, str]:
        """Return the ``PS_*`` variables from which ``process_from_env`` makes the same configuration."""
        return env_of(ProcessConfig, self.to_dict())

    def check(self, sources: Mapping[str, str] = _NO_SOURCES) -> None:
        """Raise ConfigError when a value is out of range."""
        check_ranges(self, sources)
