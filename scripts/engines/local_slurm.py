"""LocalSlurm: a Slurm cluster of several nodes on this host, for trials: munged, slurmctld and a slurmd for each node.

Needs root and Debian's slurmctld, slurmd, slurm-client and munge. All nodes have this host's address and names that
nobody can resolve, as on many a real cluster.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

PROGRAMS = ("slurmctld", "slurmd", "sbatch", "munged", "mungekey")
MARK = "LOCAL_SLURM_NODE"
"""The variable by which a node's own processes, which Slurm starts for steps, are told from others'."""
PATIENCE = 30.0
"""Seconds that a daemon has to come up, or a state to be reached."""

CONF = """\
ClusterName=trial
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CryptoType=crypto/munge
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=1,sched_interval=1,batch_sched_delay=0,defer_batch=0
MpiDefault=none
ReturnToService=2
SlurmdTimeout=10
KillWait=15
MinJobAge=300
JobRequeue=1
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
SwitchType=switch/none
{nodes}
PartitionName=all Nodes=n[1-{count}] Default=YES MaxTime=INFINITE State=UP OverSubscribe=NO
"""


def missing() -> str:
    """Return why there can be no such cluster here; nothing if there can."""
    if os.geteuid() != 0:
        return "only root can start slurmd"
    lacking = [name for name in PROGRAMS if shutil.which(name, path=_path()) is None]
    return (
        f"not installed: {', '.join(lacking)} (apt-get install slurmctld slurmd slurm-client munge)" if lacking else ""
    )


def _path() -> str:
    return f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


def free_ports(count: int) -> list[int]:
    """Return so many ports on which nobody listens now."""
    with contextlib.ExitStack() as held:
        socks = [held.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [sock.getsockname()[1] for sock in socks]


@dataclass
class LocalSlurm:
    """A running cluster; ``env`` has what its clients need."""

    folder: Path
    count: int
    cpus: int
    env: dict[str, str] = field(default_factory=dict)
    daemons: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def begin(self) -> None:
        """Start the daemons, and return once all nodes are idle."""
        controller, *ports = free_ports(1 + self.count)
        nodes = "\n".join(
            f"NodeName=n{number} NodeHostname={socket.gethostname()} NodeAddr=127.0.0.1 Port={port} CPUs={self.cpus} "
            "RealMemory=1000 State=UNKNOWN"
            for number, port in enumerate(ports, 1)
        )
        conf = self.folder / "slurm.conf"
        (self.folder / "state").mkdir()
        about = {"host": socket.gethostname(), "controller": controller, "folder": self.folder, "count": self.count}
        conf.write_text(CONF.format(nodes=nodes, **about))
        self.env = {**os.environ, "SLURM_CONF": str(conf), "PATH": _path()}
        munge = self.folder / "munge"
        munge.mkdir(mode=0o700)
        self.folder.chmod(0o755)
        self._run("mungekey", "--create", "--keyfile", str(munge / "munge.key"))
        files = ("key-file", "munge.key"), ("pid-file", "munge.pid"), ("log-file", "munge.log"), ("seed-file", "seed")
        where = [f"--{name}={munge / file}" for name, file in files]
        self._start("munged", "--foreground", "--force", f"--socket={self.folder}/munge.socket", *where)
        self.wait_for(lambda: (self.folder / "munge.socket").exists(), "munged")
        self._start("slurmctld", "-D", "-f", str(conf))
        for number in range(1, self.count + 1):
            self.start_node(f"n{number}")
        self.wait_for(lambda: self.states() == ["idle"] * self.count, "idle nodes")

    def start_node(self, name: str) -> None:
        """Start a node's slurmd."""
        self._start("slurmd", "-D", "-f", self.env["SLURM_CONF"], "-N", name, key=name)

    def lose_node(self, name: str) -> None:
        """Have a node be gone as by a power cut: its slurmd and all that it has started are killed."""
        daemon = self.daemons.pop(name)
        mark = f"{MARK}={name}".encode()
        steps = [pid for pid in _all_processes() if pid != daemon.pid and mark in _environment(pid)]
        for pid in {*steps, *(child for step in steps for child in _descendants(step))}:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        daemon.kill()
        daemon.wait()

    def states(self) -> list[str]:
        """Return the nodes' states."""
        found = self.client("sinfo", "-h", "-N", "-o", "%T")
        return [line.rstrip("*") for line in found.stdout.split()]

    def client(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command of Slurm's, and return what it says."""
        return subprocess.run(words, env=self.env, capture_output=True, text=True, timeout=60, check=False)

    def job(self, number: str) -> dict[str, str]:
        """Return what scontrol shows of a job."""
        shown = self.client("scontrol", "show", "job", "-o", number).stdout.split()
        return dict(word.split("=", 1) for word in shown if "=" in word)

    def wait_for(self, reached: Callable[[], bool], what: str, limit: float = PATIENCE) -> None:
        """Return once something is so. Raises TimeoutError."""
        deadline = time.monotonic() + limit
        while not reached():
            if time.monotonic() > deadline:
                raise TimeoutError(f"no {what} after {limit:g} s; the logs are in {self.folder}")
            time.sleep(0.1)

    def end(self) -> None:
        """End all daemons and what they have started."""
        self.client("scancel", "--signal=KILL", "--full", f"--user={os.getuid()}")
        for name in reversed(self.daemons):
            self.daemons[name].terminate()
        for daemon in self.daemons.values():
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()

    def _run(self, *words: str) -> None:
        subprocess.run(words, env=self.env, check=True, stdout=subprocess.DEVNULL)

    def _start(self, *words: str, key: str = "") -> None:
        log = (self.folder / f"{key or words[0]}.out").open("wb")
        self.daemons[key or words[0]] = subprocess.Popen(
            words,
            env={**self.env, MARK: key},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        log.close()


@contextlib.contextmanager
def local_slurm(folder: Path, count: int = 3, cpus: int = 8) -> Iterator[LocalSlurm]:
    """Have such a cluster for a while; ``folder`` is empty and stays."""
    cluster = LocalSlurm(folder, count, cpus)
    try:
        cluster.begin()
        yield cluster
    finally:
        cluster.end()


def _all_processes() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal()]


def _environment(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return []


def _descendants(pid: int) -> list[int]:
    try:
        children = [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []
    return [*children, *(each for child in children for each in _descendants(child))]
