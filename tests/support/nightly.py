"""Nightly: seeded schedules of harm to whole runs of every mode, for ``scripts/chaos --nightly``, under a supervisor
that gives the same command again until the job has ended, where that goes on. After each one: it ended, as what it
promises; nobody hung; nothing is left behind.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import shlex
import shutil
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ps.errors import ConnectTimeout
from ps.protocol.query import fetch_status
from support.cluster import PSCTL, Process, clean_environment, is_running
from support.fork_server import family, forked_by
from support.links import Links
from support.nightly_kinds import KINDS, Ended, Kind

LIMIT = 300.0
"""Seconds that a life may take before it counts as hung: a busy machine has its share."""
MOST_LIVES = 4
MOST_FAULTS = 3
"""In one life, of a job that has only that."""
SHORT, LONG = (0.3, 2.0), 7.0
"""Seconds of what passes: the last is more than the heartbeat time-out."""
ROLES = {"kill a server": "server", "kill the scheduler": "scheduler", "kill a worker": "worker"}
KILLED = 128 + signal.SIGKILL
"""What a run ends with, a worker of which was killed while the others came to their end."""
PROTECTED = 60.0
"""Seconds that a standby may take until it has all."""


class Nightly:
    """A number of schedules, each of which follows from the seed and its number."""

    def __init__(self, seed: int, say: Callable[[str], None], *, forked: bool = False) -> None:
        """``forked``: by the fork server, where they can be."""
        self.seed, self._say, self._forked = seed, say, forked
        self.done: Counter[tuple[str, str]] = Counter()
        """Kind and fault -> how often."""
        self.schedules: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()
        """Kind -> how many there were, and how many were not as promised."""
        self._undisturbed: dict[tuple[str, ...], Ended] = {}
        self._top = Path(tempfile.mkdtemp(prefix="nightly-"))
        self._text = ""

    def close(self) -> None:
        """Remove what the schedules have left on the disk, which is theirs."""
        shutil.rmtree(self._top, ignore_errors=True)

    def run(self, number: int) -> str:
        """Go through one schedule; return what was done. Raises AssertionError."""
        draw = random.Random(f"{self.seed}-{number}")
        name = list(KINDS)[number % len(KINDS)]
        kind, folder = KINDS[name], self._top / str(number)
        (folder / "tmp").mkdir(parents=True)
        transport = draw.choice(("auto", "tcp", "tcp"))
        self.schedules[name] += 1
        done = [transport]
        self._text = ""
        with contextlib.closing(Links()) as links:
            (folder / "paramserver.toml").write_text(f'{links.settings}transport = "{transport}"\n')
            try:
                self._live(name, kind, folder, links, draw, done)
                kind.check(self, kind, Ended(folder, self._text))
            except AssertionError as error:
                self.failed[name] += 1
                raise AssertionError(f"{name}: {', '.join(done)}: {error}\n{self._text}") from None
        shutil.rmtree(folder)
        return f"{name}: {', '.join(done)}"

    def _live(self, name: str, kind: Kind, folder: Path, links: Links, draw: random.Random, done: list[str]) -> None:
        """Have a job live as often as it takes, and see each life end as it may."""
        lives = MOST_LIVES if kind.goes_on else 1
        for life in range(lives):
            several = draw.randint(1, MOST_FAULTS) if not kind.goes_on and not kind.says else 1
            faults = [draw.choice(kind.faults) for _ in range(several)] if life < MOST_LIVES - 1 else []
            before = set((folder / "tmp").iterdir())
            processes = [self._start(kind, folder, "no room" in faults)]
            run = processes[0]
            try:
                for fault in faults:
                    self._pause(kind, run, folder, draw)
                    done.append(fault)
                    processes += self._harm(kind, run, fault, folder, links, draw)
                    self.done[name, fault] += 1
                code = run.wait(LIMIT)
                for other in processes[1:]:
                    other.wait(LIMIT)
            except SystemExit:  # asked to end: so are they
                run.signal(signal.SIGINT)
                raise
            finally:
                self._text += "".join(f"{process.text}\n" for process in processes)
                self._await_nobody(folder, processes)
            assert "Traceback" not in self._text, "a traceback"
            assert "wants keys" not in self._text, "somebody did not find the keys"
            if kind.says:
                assert code and re.search(kind.says, run.text), f"it ended with {code}"
                return
            if not faults or code == 0:
                left = set((folder / "tmp").iterdir()) - before
                assert not left, f"left: {left}"
            if code == 0 and ("nothing to do" in run.text or "has ended" in run.text or not faults):
                break
        killed = KILLED if not kind.goes_on and "kill a worker" in done else 0
        assert code in (0, killed), f"the last life ended with {code}"

    def _start(self, kind: Kind, folder: Path, limited: bool, beside: bool = True) -> Process:
        command = [*PSCTL, "run", *kind.flags, "--heartbeat-timeout", "5", "--grace", "6", "--chunk-size", "16384"]
        words = [*command, *(kind.beside if beside else ()), *kind.kept, *kind.script]
        if limited:  # a limit on the size of files stands for a full disk
            words = ["bash", "-c", f"ulimit -f 150; exec {shlex.join(words)}"]
        return self._process(folder.name, words, folder)

    def _process(self, name: str, words: list[str], folder: Path) -> Process:
        env = clean_environment(TMPDIR=str(folder / "tmp"))
        return Process(name, words, env, cwd=folder, forked=self._forked)

    def _pause(self, kind: Kind, run: Process, folder: Path, draw: random.Random) -> None:
        """Let a run go on for a while: it may end before anything is done to it."""
        least, most = 1.0, 5.0
        if not kind.goes_on:
            least, most = 0.0, 1.0
            if kind.replicas and run.code is None:
                protected(run, temporary=folder / "tmp")
            elif run.code is None:
                run.wait_for("BEGIN 0", LIMIT)
        with contextlib.suppress(AssertionError):
            run.wait(draw.uniform(least, most))

    def _harm(
        self, kind: Kind, run: Process, fault: str, folder: Path, links: Links, draw: random.Random
    ) -> list[Process]:
        """Do one thing to a run; return what was started for it."""
        roles = family(run.pid)
        victims = list(roles)
        seconds = draw.choice((*SHORT, LONG) if kind.goes_on else SHORT)
        if fault == "terminate" and run.code is None:
            run.signal(signal.SIGTERM)
        elif fault == "kill all":
            draw.shuffle(victims)
            for pid in victims:
                _signal(pid, signal.SIGKILL)
        elif fault in ROLES:
            found = [pid for pid, role in roles.items() if role == ROLES[fault]]
            if found:
                _signal(draw.choice(found), signal.SIGKILL)
        elif fault == "stop one" and victims[1:]:
            pid = draw.choice(victims[1:])
            _signal(pid, signal.SIGSTOP)
            time.sleep(seconds)
            _signal(pid, signal.SIGCONT)
        elif fault.endswith("a link") and links.ports:
            _spoil(links, draw.choice(links.ports), fault, seconds, draw)
        elif fault == "late worker" and (join := re.search(r"can join with: psctl (.*)", run.text)):
            words = [*PSCTL, *shlex.split(join[1])]
            return [self._process("late worker", words, folder)]
        return []

    def _await_nobody(self, folder: Path, processes: list[Process]) -> None:
        """Fail unless all processes of a life are gone within what they may take."""
        until, mark = time.monotonic() + 40, f"TMPDIR={folder / 'tmp'}".encode()
        started = [process.pid for process in processes]
        while (left := _left(mark, started)) and time.monotonic() < until:
            time.sleep(0.1)
        for process in processes:
            process.end()
        for pid in left:
            _signal(pid, signal.SIGKILL)
        assert not left, f"processes that never end: {left}"

    def wanted(self, kind: Kind) -> Ended:
        """Return what a run comes to that nobody disturbs."""
        key = (*kind.flags, *kind.kept, *kind.script)
        if key not in self._undisturbed:
            folder = self._top / f"undisturbed-{len(self._undisturbed)}"
            (folder / "tmp").mkdir(parents=True)
            run = self._start(kind, folder, limited=False, beside=False)
            assert run.wait(LIMIT) == 0, run.text
            self._undisturbed[key] = Ended(folder, run.text)
        return self._undisturbed[key]

    def series(self, schedules: int, first: int = 0) -> int:
        """Go through so many; return how many failed."""
        for number in range(first, first + schedules):
            began = time.monotonic()
            try:
                what = self.run(number)
            except AssertionError as error:
                what = f"FAILED: {error}"
            self._say(f"schedule {number}, seed {self.seed}, {time.monotonic() - began:.0f} s: {what}")
        for (name, fault), count in sorted(self.done.items()):
            self._say(f"{count:5d} × {name}: {fault}")
        for name, count in self.schedules.items():
            self._say(f"{count:5d} schedules, {self.failed[name]} failed: {name}, {KINDS[name].promise}")
        failed = self.failed.total()
        self._say(f"{schedules} schedules, {failed} failed")
        return failed


def protected(run: Process, servers: int = 2, temporary: Path | None = None) -> list[dict[str, Any]]:
    """Return the rows of servers once each has a standby, which the scheduler knows; none of a run that has ended.

    ``temporary``: the run's TMPDIR, where it has one, for there are its keys.
    """
    address = run.wait_for(r"scheduler at (tcp://\S+)")[1]
    until = time.monotonic() + PROTECTED
    while time.monotonic() < until and run.code is None:
        keys = next(temporary.glob("ps-*/keys/operator"), None) if temporary is not None else None
        with contextlib.suppress(ConnectTimeout):
            status = fetch_status(address, 2.0, keys=str(keys) if keys else None)
            rows = [row for row in status["servers"] if row["state"] == "live"]
            found = [row for row in rows if row.get("replica") == "protected"]
            if len(found) == servers and [row.get("replica") for row in rows].count("protecting") == servers:
                time.sleep(0.3)  # it is said with the next word to the scheduler
                return found
        time.sleep(0.05)
    if run.code is None:
        raise AssertionError(f"no standbys for {PROTECTED:g} s:\n{run.text}")
    return []


def _spoil(links: Links, port: int, fault: str, seconds: float, draw: random.Random) -> None:
    """Do one thing to all that goes to a port."""
    if fault == "cut a link":
        links.cut(port, seconds)
    elif fault == "hold a link":
        links.hold(port, seconds)
    else:
        links.slow(port, seconds, draw.choice((2e5, 1e6)), draw.choice((0.0, 0.01)))
    time.sleep(seconds)


def _left(mark: bytes, started: list[int]) -> list[int]:
    """Return the processes that have a variable in their environment, or that were forked for these or are these."""
    found = [pid for pid in (*forked_by(*started), *started) if is_running(pid)]
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if mark in path.read_bytes().split(b"\0") and is_running(int(path.parent.name)):
                found.append(int(path.parent.name))
    return found


def _signal(pid: int, signum: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signum)
