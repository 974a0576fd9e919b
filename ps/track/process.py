"""TrackerProcess: a process beside the training that follows its record and writes to a tracker.

What it is told goes through a pipe that is never waited for, with a bounded queue before it; the steps it reads from
the record's files. So a tracker that is down, slow or silent costs the training nothing but that it is said once.
"""

from __future__ import annotations

import collections
import contextlib
import json
import os
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from ps import interpreter
from ps.record_lives import RecordLife

MOST_UNSENT = 1000
"""Messages for a process that takes none, at most; the oldest go first."""
PATIENCE = 10.0
"""Seconds that it has to end, at most, after the training has."""
MOST_SAID = 20
"""Lines that it may say."""


class Untracked:
    """A run without a tracker."""

    def note(self, status: Mapping[str, Any]) -> None:
        """Do nothing."""

    def settle(self, settings: Mapping[str, Any]) -> None:
        """Do nothing."""

    def close(self, rounds: Sequence[Mapping[str, Any]] = ()) -> None:
        """Do nothing."""


class TrackerProcess:
    """The side of whoever starts it."""

    def __init__(
        self,
        name: str,
        folder: Path,
        about: Mapping[str, Any],
        say: Callable[[str], None],
        plugins: tuple[str, ...] = (),
    ) -> None:
        """``folder``: where the record is; ``about``: project, name and directory of the run; ``say`` tells people."""
        self._name, self._say = name, say
        self._unsent: collections.deque[bytes] = collections.deque(maxlen=MOST_UNSENT)
        self._heard = b""
        self._said = 0
        self._lock = threading.Lock()
        self._settings: Any = None
        self._rounds = -1
        command = [*interpreter.command("ps.launch.tracked"), name, str(folder), *plugins]
        self._process: subprocess.Popen[bytes] | None = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for the training; this one ends after it
        )
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            os.set_blocking(pipe.fileno(), False)
        self._tell(dict(about))

    def note(self, status: Mapping[str, Any]) -> None:
        """Take a job's status: its settings, and the rounds that are new."""
        job, rounds = status.get("job"), (status.get("federated") or {}).get("history") or ()
        if job and self._settings is None and status.get("phase") != "waiting":
            self.settle(job)
        if fresh := [entry for entry in rounds if entry["round"] > self._rounds]:
            self._rounds = fresh[-1]["round"]
            self._tell({"rounds": fresh})
        self._go_on()

    def settle(self, settings: Mapping[str, Any]) -> None:
        """Tell the job's settings: the run begins."""
        self._settings = dict(settings)
        self._tell({"settings": self._settings})

    def close(self, rounds: Sequence[Mapping[str, Any]] = ()) -> None:
        """Have it write what is left, and end; it is ended after a while, whatever it does."""
        process = self._process
        if process is None:
            return
        self.note({"federated": {"history": list(rounds)}})
        self._tell({"end": True})
        deadline = time.monotonic() + PATIENCE
        while process.poll() is None and time.monotonic() < deadline:
            self._go_on()
            time.sleep(0.02)
        self._go_on()
        if process.poll() is None:
            process.kill()
            process.wait()
            self._tell_people(f"did not take the last values within {PATIENCE:g} s; the run there is not complete")
        self._process = None
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            with contextlib.suppress(OSError):
                pipe.close()

    def _tell(self, message: Mapping[str, Any]) -> None:
        self._unsent.append(json.dumps(message, default=str).encode() + b"\n")
        self._go_on()

    def _go_on(self) -> None:
        """Send what there is room for, and hear what is said; never wait."""
        with self._lock:
            self._exchange()

    def _exchange(self) -> None:
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            return
        with contextlib.suppress(OSError):  # full, or gone
            while self._unsent:
                sent = os.write(process.stdin.fileno(), self._unsent[0])
                rest = self._unsent.popleft()[sent:]
                if rest:
                    self._unsent.appendleft(rest)
        with contextlib.suppress(OSError):
            while data := os.read(process.stdout.fileno(), 4096):
                self._heard += data
        *lines, self._heard = self._heard.split(b"\n")
        for line in lines:
            self._tell_people(line.decode(errors="replace"))

    def _tell_people(self, text: str) -> None:
        self._said += 1
        if self._said <= MOST_SAID:
            self._say(f"--track {self._name}: {text}")


class TrackingSettings(Protocol):
    """What the settings of a process say of it."""

    @property
    def track(self) -> str | None: ...

    @property
    def track_dir(self) -> str | None: ...

    @property
    def run_dir(self) -> str | None: ...

    @property
    def plugins(self) -> tuple[str, ...] | None: ...


def tracking(
    process: TrackingSettings,
    script: str,
    folder: Path,
    say: Callable[[str], None],
    life: RecordLife | None = None,
) -> TrackerProcess | Untracked:
    """Start what follows the record in a folder, if the run is to be tracked.

    The script is the project, and the run is called as the folder of its record, or by the time. ``life`` is that of a
    job with checkpoints; the record may be that of its run since it has begun.
    """
    if process.track is None:
        return Untracked()
    project = Path(script).stem or "paramserver"
    run = process.run_dir
    since = life.run if life is not None else time.strftime("%Y%m%d-%H%M%S")
    name = Path(run).absolute().name if run else f"{project}-{since}"
    about: dict[str, Any] = {"project": project, "name": name, "directory": process.track_dir}
    if life is not None:
        about |= {"id": life.tracked, "before": life.before, "step": life.step}
    return TrackerProcess(process.track, folder, about, say, process.plugins or ())
