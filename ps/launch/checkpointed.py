"""Checkpointed: what a local run does for its job's checkpoints: takes their folder, and asks for the last one."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ps.checkpoint.identity import identity
from ps.checkpoint.place import is_address
from ps.config.mode import FEDERATED
from ps.dataclass import dataclass
from ps.errors import CheckpointError, ConfigError, PSError
from ps.launch.child import Child
from ps.launch.lifeline import AFTER_WORKERS, SPARE
from ps.launch.plan import Plan
from ps.launch.policy import Exit
from ps.lock import wait_for_lock
from ps.protocol.messages import CheckpointMade, CheckpointRequest

if TYPE_CHECKING:
    from ps.checkpoint.claim import Claim

NAP = 0.05
_LOCK = "run.lock"
HALF = 0.5
"""The part of the grace that the last checkpoint may take."""
ASKING = 1.0
"""Seconds within which a scheduler says at the end which checkpoint is whole."""
RESERVE = 0.1
"""The part that is left for the end itself."""


@dataclass(frozen=True, slots=True)
class Checkpointed:
    """The folder that a run has taken; ``fd`` is handed to every process of it, and by that they are known to live."""

    claim: Claim
    fd: int | None

    def plan(self, plan: Plan) -> Plan:
        """Return the plan of the job as it goes on."""
        life = self.claim.life
        job = {**plan.job, **self.claim.settings()}
        return dataclasses.replace(plan, job=job, life=life.number if life else 0)

    @property
    def run(self) -> str:
        """What this run and those before it in the folder have in common."""
        return self.claim.life.run if self.claim.life else ""


def with_state(plan: Plan) -> Plan:
    """Return a plan whose federated job keeps its rounds in the folder for checkpoints. Raises ConfigError."""
    directory, process = plan.job.get("checkpoint_dir"), plan.process
    if plan.job.get("mode") not in FEDERATED or directory is None:
        return plan
    if is_address(directory) or plan.job.get("resume") is not None:
        raise ConfigError("a federated job keeps each round in a folder of this machine, and goes on with the last one")
    if process.state is not None:
        raise ConfigError("state and checkpoint_dir: a federated job keeps its rounds in the one or in the other")
    folder = Path(directory).absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot write to {directory}: {error.strerror}") from None
    return dataclasses.replace(plan, process=dataclasses.replace(process, state=str(folder / "job.db")))


@contextlib.contextmanager
def checkpointed(plan: Plan, say: Callable[[str], None], stop: Sequence[object]) -> Iterator[Checkpointed | None]:
    """Take the folder that a plan's settings name; None where they name none.

    It waits, until there is anything in ``stop``, for the processes of an earlier run on this machine to end; those
    that do not within their grace are fenced off. Raises ConfigError and CheckpointError.
    """
    directory, resume = plan.job.get("checkpoint_dir"), plan.job.get("resume")
    if directory is None and resume is None:
        if plan.job.get("checkpoint_every") is not None:
            raise ConfigError("checkpoint_every needs a folder: give --checkpoint-dir too")
        yield None
        return
    if plan.job.get("mode") in FEDERATED:  # ``with_state`` has it keep its rounds there
        yield None
        return
    directory, resume = (_absolute(name) if name else None for name in (directory, resume))
    known = identity(plan.script, plan.args, plan.job, plan.process.data)
    with _lock(directory or _folder_of(resume), plan.process.grace, say, stop) as fd:
        from ps.checkpoint.claim import claim  # and with it NumPy, which a launcher else does without

        found = claim(directory, resume, known, say)
        if text := found.describe():
            say(text)
        yield Checkpointed(found, fd)


def _absolute(name: str) -> str:
    return name if is_address(name) else str(Path(name).absolute())


def _folder_of(resume: str | None) -> str:
    """Return the folder of a checkpoint that is named, or of what is named itself."""
    from ps.checkpoint.manifest import FOLDER, split_name

    assert resume is not None
    folder, name = split_name(resume)
    return folder if FOLDER.fullmatch(name) else resume


@contextlib.contextmanager
def _lock(directory: str, grace: float, say: Callable[[str], None], stop: Sequence[object]) -> Iterator[int | None]:
    """Hold a file of the folder, if it is one of this machine, for as long as a process of the run lives."""
    if is_address(directory):
        yield None
        return
    try:
        Path(directory).mkdir(parents=True, exist_ok=True)
        limit = grace + AFTER_WORKERS + SPARE
        fd, is_shared = wait_for_lock(Path(directory) / _LOCK, limit, "this folder", say, stop)
    except OSError as error:
        raise ConfigError(f"cannot write checkpoints to {directory}: {error.strerror}") from None
    try:
        if is_shared:
            say("they still live: this run takes the folder over, and theirs may write nothing more there")
        yield fd
    finally:
        os.close(fd)


class LastCheckpoint:
    """Asks a scheduler for a checkpoint before the run's processes are ended, on a thread of its own."""

    def __init__(self, address: str, limit: float, keys: str | None = None) -> None:
        self.text = ""
        self._about = address, limit, keys
        self._thread = threading.Thread(target=self._run, name="last-checkpoint", daemon=True)
        self._thread.start()

    @property
    def done(self) -> bool:
        """Whether there is an answer, or none is waited for any more."""
        return not self._thread.is_alive()

    def _run(self) -> None:
        from ps.protocol.query import ask

        address, limit, keys = self._about
        try:
            made = ask(address, CheckpointRequest(1, True), CheckpointMade, limit, keys)
        except PSError as error:
            self.text = f"no checkpoint was made at the end: {error}"
            return
        newest = (
            f"the newest whole checkpoint is {made.folder}, of step {made.step}" if made.folder else "none is whole"
        )
        self.text = f"the last checkpoint failed: {made.why}; {newest}" if made.why else newest


def save_last(
    address: str,
    scheduler: Child,
    children: Sequence[Child],
    grace: float,
    tick: Callable[[], bool],
    hurried: Callable[[], bool],
    signal: int,
    say: Callable[[str], None],
    keys: str | None = None,
) -> Exit | None:
    """Have what was trained be on the disk before anybody is ended; return how the scheduler ended if that failed.

    A job whose workers are done makes its last checkpoint by itself, and is waited for. ``tick`` looks after the
    processes, ``hurried`` says whether somebody has had enough, ``signal`` is what ended the run, if anything has.
    ``keys``: of whoever asks the scheduler, where they were given.
    """
    is_done = all(child.exit is not None and not child.exit.code for child in children if child.role == "worker")
    asked = None if is_done or scheduler.exit is not None else LastCheckpoint(address, HALF * grace, keys)
    until = time.monotonic() + (1 - RESERVE) * grace
    while scheduler.poll() is None and time.monotonic() < until and not hurried():
        if (asked is not None and asked.done) or (is_done and signal):
            break
        tick()
        time.sleep(NAP)
    if asked is not None and asked.done:
        say(asked.text)
    if scheduler.exit is not None and scheduler.exit.code == CheckpointError.exit_code:
        return scheduler.exit
    if is_done and scheduler.exit is None and not signal and not hurried():
        say(f"there was no time for a last checkpoint (--grace {grace:g}): {_newest(address, keys)}")
        return Exit("scheduler", 0, CheckpointError.exit_code)
    return None


def _newest(address: str, keys: str | None) -> str:
    """Say which checkpoint is whole, as far as the scheduler says so."""
    from ps.protocol.query import fetch_status

    with contextlib.suppress(PSError):
        found = fetch_status(address, ASKING, keys).get("checkpoint") or {}
        return f"{found['folder']} is the newest whole one" if found.get("folder") else "none is whole"
    return "the scheduler does not say which is the newest whole one"
