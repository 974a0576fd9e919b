"""SavedRun: what ``psctl run --state FILE`` leaves in FILE and in FILE.d, so that the same command goes on."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from ps.dataclass import dataclass
from ps.errors import ConfigError
from ps.launch.lifeline import AFTER_WORKERS, SPARE
from ps.lock import Lock, wait_for_lock
from ps.server.scheduler.saved_job import SavedJob


@dataclass(frozen=True, slots=True)
class SavedRun:
    """What is there of an earlier run. Every process of this one is handed ``fd``, and by that is known to live."""

    file: Path
    folder: Path
    fd: int
    job: SavedJob

    def path(self, role: str, rank: int) -> str:
        """Return the file of a server or a client."""
        return str(self.folder / f"{role}-{rank}")

    @property
    def goes_on(self) -> bool:
        """Whether there are rounds to go on with. Of any other job the servers keep nothing: a new one begins."""
        return self.job.has_rounds and not self.has_ended

    @property
    def has_ended(self) -> bool:
        """Whether there is nothing left to do."""
        return self.job.phase == "ended"

    def check(self, servers: int) -> None:
        """Raise ConfigError where it could not be gone on with."""
        if not self.job.phase and any(self.folder.glob("server-*.model")):
            raise ConfigError(
                f"{self.file} is gone, but {self.folder} has what the servers of its job kept: bring the file back, or "
                f"move the folder away to begin anew"
            )
        had = self.job.servers or servers
        if self.goes_on and had != servers:
            raise ConfigError(f"the model of the job in {self.file} is on {had} servers: give -s {had}")

    def describe(self) -> str:
        """Return in a line what becomes of the job, or nothing for a new one."""
        of = f" after {len(self.job.history)} rounds" if self.job.history else ""
        if self.has_ended:
            return f"the job in {self.file} has ended in good order{of}; for another one give another --state"
        if self.goes_on:
            return f"going on with the job in {self.file}{of}; what servers and clients have kept is in {self.folder}"
        return ""


@contextlib.contextmanager
def saved_run(file: str, grace: float, say: Callable[[str], None], stop: Sequence[object]) -> Iterator[SavedRun]:
    """Take the file for this run, and what is beside it.

    Waits, until there is anything in ``stop``, for the processes of a run whose launcher was killed: they have up to
    ``grace`` to end.
    Raises ConfigError when another run has the file, when it is none of ours or when it cannot be written.
    """
    path = Path(file).absolute()
    folder = path.with_name(f"{path.name}.d")
    lock = Lock(folder / "run", what=file, advice="give every run a --state of its own")
    living = folder / "processes.lock"
    try:
        limit = grace + AFTER_WORKERS + SPARE
        fd, is_shared = wait_for_lock(living, limit, "this --state", say, stop)
        try:
            if is_shared:
                raise ConfigError(
                    f"processes of an earlier run with this --state still live after {limit:.0f} s; end those that "
                    f"have {living} open (fuser shows them)"
                )
            yield SavedRun(path, folder, fd, SavedJob.read(path))
        finally:
            os.close(fd)
    finally:
        with contextlib.suppress(OSError):
            living.unlink()
        lock.release()
        with contextlib.suppress(OSError):
            folder.rmdir()  # nothing was kept
