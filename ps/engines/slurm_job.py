"""A job of Slurm's: submitted, followed and ended."""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from ps.errors import ConnectTimeout, PSError, UsageError
from ps.launch.scope import signals_into

PATIENCE = 60.0
"""Seconds that a command of Slurm's may take."""
LOOK = 1.0
"""Seconds between two looks at a job's state."""
NAP = 0.2
"""Seconds between two looks at its output."""
GONE = 300.0
"""Seconds for which a controller that does not answer is asked again."""
ENDING = 120.0
"""Seconds within which a cancelled job ends: its grace, and Slurm's own."""
ENDED = (
    *("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED"),
    *("REVOKED", "TIMEOUT"),
)
"""States that a job does not leave any more."""

Ask = Callable[..., str]


def ask(*words: str, text: str | None = None) -> str:
    """Run a command of Slurm's and return what it prints. Raises UsageError, ConnectTimeout or PSError in one line."""
    if shutil.which(words[0]) is None:
        raise UsageError(f"{words[0]} is not on this machine: psctl run --on slurm is for one where sbatch works")
    try:
        done = subprocess.run(
            words, input=text, capture_output=True, text=True, errors="replace", timeout=PATIENCE, check=False
        )
    except subprocess.TimeoutExpired:
        raise ConnectTimeout(f"{words[0]} has not answered for {PATIENCE:g} s: is slurmctld up? Try: sinfo") from None
    if done.returncode:
        said = " ".join(done.stderr.split()) or f"exit code {done.returncode}"
        if "Unable to contact slurm controller" in said:
            raise ConnectTimeout(f"{said}. Is slurmctld up? Try: sinfo")
        raise PSError(said)
    return done.stdout


class SlurmJob:
    """One job, by its number."""

    def __init__(self, number: str, ask: Ask = ask) -> None:
        self.number = number
        self._ask = ask
        self._asked = 0.0
        self._unheard: float | None = None
        """Since when the controller has not answered."""
        self.about: Mapping[str, str] = {}

    @classmethod
    def submit(cls, script: str, ask: Ask = ask) -> SlurmJob:
        """Submit a batch script. Raises UsageError where Slurm refuses it, ConnectTimeout where it does not answer."""
        try:
            said = ask("sbatch", "--parsable", text=script)
        except PSError as error:
            if type(error) is not PSError:
                raise
            raise UsageError(f"Slurm refuses the job: {error}") from None
        number = said.strip().partition(";")[0]
        if not number.isdecimal():
            raise PSError(f"sbatch says {said.strip()!r:.80}, which is no number of a job")
        return cls(number, ask)

    def look(self, now: float) -> None:
        """Ask for the state, if it is time. Raises ConnectTimeout once nobody has answered for long."""
        if now - self._asked < LOOK:
            return
        self._asked = now
        try:
            shown = self._ask("scontrol", "show", "job", "-o", self.number)
        except (ConnectTimeout, PSError) as error:
            if type(error) not in (ConnectTimeout, PSError):
                raise
            self._unheard = now if self._unheard is None else self._unheard
            if now - self._unheard > GONE:
                raise ConnectTimeout(
                    f"nothing was heard of job {self.number} for {GONE:g} s: {error}. It may go on; end it with: "
                    f"scancel {self.number}"
                ) from None
            return
        self._unheard = None
        self.about = dict(re.findall(r"(\w+)=(\S*)", shown.splitlines()[0]))  # of a job in parts the first one's

    @property
    def state(self) -> str:
        """What the controller said last."""
        return self.about.get("JobState", "")

    @property
    def ended(self) -> bool:
        """Whether it is over; a job that is to be queued again is not."""
        return self.state in ENDED

    @property
    def output(self) -> str:
        """The file that its output goes to, once that is known."""
        return self.about.get("StdOut", "")

    @property
    def restarts(self) -> int:
        """How often it was queued again."""
        return int(self.about.get("Restarts", "0") or 0)

    @property
    def status(self) -> int:
        """With what psctl ends for it: its own exit code, and no 0 unless it was completed."""
        code, _, signal = self.about.get("ExitCode", "").partition(":")
        found = int(code or 0) or (128 + int(signal) if signal not in ("", "0") else 0)
        if self.state == "CANCELLED":
            return found or 143
        return found or (0 if self.state == "COMPLETED" else 4 if self.state == "NODE_FAIL" else 1)

    def cancel(self) -> None:
        """Have Slurm end it. Whoever cannot is told how."""
        try:
            self._ask("scancel", self.number)
        except PSError as error:
            raise PSError(f"cannot end job {self.number}: {error}. Try: scancel {self.number}") from None


class Tail:
    """What is added to a file, once it is there."""

    def __init__(self) -> None:
        self._at = 0

    def read(self, name: str) -> bytes:
        """Return what is new."""
        if not name:
            return b""
        try:
            with Path(name).open("rb") as file:
                file.seek(self._at)
                found = file.read(1 << 20)
        except OSError:
            return b""
        self._at += len(found)
        return found


def run_job(script: str, say: Callable[[str], None]) -> int:
    """Submit a job, show what it prints, end it with this process; return its exit code."""
    received: list[int] = []
    with signals_into(received):
        job = SlurmJob.submit(script)
        say(f"job {job.number} of Slurm's is submitted; Ctrl-C ends it")
        try:
            signum = _follow(job, say, received)
        except BaseException:
            with contextlib.suppress(PSError):
                job.cancel()
            raise
        return 128 + signum if signum else job.status


def _follow(job: SlurmJob, say: Callable[[str], None], received: list[int]) -> int:
    """Return once the job is over, with the signal that ended it here, if one did."""
    tail, said, signum, until = Tail(), "", 0, 0.0
    while True:
        now = time.monotonic()
        job.look(now)
        sys.stdout.buffer.write(tail.read(job.output))
        sys.stdout.flush()
        if job.ended:
            while more := tail.read(job.output):
                sys.stdout.buffer.write(more)
            sys.stdout.flush()
            say(f"job {job.number} is over: {job.state}, exit code {job.status}")
            return signum
        if received and (not signum or len(received) > 1):
            signum = signum or received[0]
            received.clear()
            say(f"ending job {job.number}")
            job.cancel()
            until = until or now + ENDING
        if until and now > until:
            raise PSError(f"job {job.number} has not ended {ENDING:g} s after scancel; see: squeue -j {job.number}")
        what = f"{job.state} {job.about.get('Reason', '')}".replace(" None", "").strip()
        if what != said and job.state == "PENDING":
            say(f"job {job.number} waits in the queue: {what}")
        elif what != said and job.state == "RUNNING":
            again = ", again" if job.restarts else ""
            say(f"job {job.number} runs on {job.about.get('NodeList', '?')}{again}")
        said = what
        time.sleep(NAP)
