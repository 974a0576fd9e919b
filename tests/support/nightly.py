"""Nightly: seeded schedules of harm to whole runs of every mode, for ``scripts/chaos --nightly``, under a supervisor
that gives the same command again until the job has ended. After each one: it ended, as what it promises; nobody hung;
nothing is left behind.
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
from dataclasses import dataclass
from pathlib import Path

from safetensors.numpy import load_file

from ps.checkpoint.export import export_model
from ps.checkpoint.lives import Lives
from ps.checkpoint.manifest import Manifest
from ps.checkpoint.place import place
from support.cluster import PSCTL, ROOT, SCRIPTS, Process, clean_environment, is_running
from support.cut_short import family

LIMIT = 150.0
"""Seconds that a life may take before it counts as hung: a busy machine has its share."""
MOST_LIVES = 4
STEPS, WORKERS = 40, 2
ROUNDS = 15
RESUMED = (str(SCRIPTS / "resumed.py"), "--nap", "0.03", "--width", "8000")
PIPELINE = (str(ROOT / "ps" / "examples" / "pipeline_mlp.py"), "--epochs", "2")
CLIENT = (str(SCRIPTS / "client.py"), "--nap", "0.1")
LOCKSTEP = ("kill all", "kill a server", "kill the scheduler", "stop one", "terminate", "no room")
"""What changes nothing of the bits: one worker's death does, whose gradients are not there then."""
APART = (*LOCKSTEP, "kill a worker", "late worker")


@dataclass(frozen=True)
class Kind:
    """A mode, its script, what may be done to it, and what holds in the end."""

    flags: tuple[str, ...]
    script: tuple[str, ...]
    faults: tuple[str, ...]
    check: Callable[[Nightly, Kind, Path, str], None]


class Nightly:
    """A number of schedules, each of which follows from the seed and its number."""

    def __init__(self, seed: int, say: Callable[[str], None]) -> None:
        self.seed, self._say = seed, say
        self.done: Counter[tuple[str, str]] = Counter()
        """Kind and fault -> how often."""
        self._wanted: dict[str, dict[str, bytes]] = {}
        self._top = Path(tempfile.mkdtemp(prefix="nightly-"))

    def close(self) -> None:
        """Remove what the schedules have left on the disk, which is theirs."""
        shutil.rmtree(self._top, ignore_errors=True)

    def run(self, number: int) -> str:
        """Go through one schedule; return what was done. Raises AssertionError."""
        draw = random.Random(f"{self.seed}-{number}")
        name = list(KINDS)[number % len(KINDS)]
        kind, folder = KINDS[name], self._top / str(number)
        (folder / "tmp").mkdir(parents=True)
        done, text = list[str](), ""
        for life in range(MOST_LIVES):
            fault = draw.choice(kind.faults) if life < MOST_LIVES - 1 else ""
            before = set((folder / "tmp").iterdir())
            run = self._start(kind, folder, "no room" if fault == "no room" else "")
            others = list[Process]()
            try:
                if fault:
                    done.append(fault)
                    self.done[name, fault] += 1
                    with contextlib.suppress(AssertionError):  # it may have ended before anything was done to it
                        run.wait(draw.uniform(1.0, 5.0))
                    others = self._harm(run, fault, folder, draw)
                code = run.wait(LIMIT)
                for other in others:
                    other.wait(LIMIT)
            finally:
                self._await_nobody(folder, [run, *others])
            text += run.text + "\n"
            assert "Traceback" not in run.text, run.text
            if not fault or code == 0:
                assert set((folder / "tmp").iterdir()) <= before, f"left: {list((folder / 'tmp').iterdir())}"
            if code == 0 and ("nothing to do" in run.text or "has ended" in run.text or not fault):
                break
        assert code == 0, f"the last life ended with {code}:\n{run.text}"
        kind.check(self, kind, folder, text)
        shutil.rmtree(folder)
        return f"{name}: {', '.join(done)}"

    def _start(self, kind: Kind, folder: Path, limit: str = "") -> Process:
        command = [*PSCTL, "run", *kind.flags, "--heartbeat-timeout", "5", "--grace", "6", "--chunk-size", "4096"]
        kept = (
            ["--state", "job.db"] if kind.check is rounds else ["--checkpoint-dir", "kept", "--checkpoint-every", "4"]
        )
        words = [*command, *kept, *kind.script]
        if limit:  # a limit on the size of files stands for a full disk
            words = ["bash", "-c", f"ulimit -f 150; exec {shlex.join(words)}"]
        return self._process(folder.name, words, folder)

    def _process(self, name: str, words: list[str], folder: Path) -> Process:
        env = clean_environment(TMPDIR=str(folder / "tmp"), PYTHONPATH=str(ROOT))
        return Process(name, words, env, cwd=folder)

    def _harm(self, run: Process, fault: str, folder: Path, draw: random.Random) -> list[Process]:
        """Do one thing to a run; return what was started for it."""
        victims = family(run.pid)
        role = {"kill a server": "server", "kill the scheduler": "scheduler", "kill a worker": "worker"}.get(fault)
        if fault == "terminate" and run.code is None:
            run.signal(signal.SIGTERM)
        elif fault == "kill all":
            draw.shuffle(victims)
            for pid in victims:
                _signal(pid, signal.SIGKILL)
        elif role is not None:
            found = [pid for pid in victims[1:] if role in _words(pid)]
            if found:
                _signal(draw.choice(found), signal.SIGKILL)
        elif fault == "stop one" and victims[1:]:
            pid = draw.choice(victims[1:])
            _signal(pid, signal.SIGSTOP)
            time.sleep(draw.choice((0.3, 2.0, 7.0)))
            _signal(pid, signal.SIGCONT)
        elif fault == "late worker" and (join := re.search(r"can join with: psctl (.*)", run.text)):
            words = [*PSCTL, *shlex.split(join[1])]
            return [self._process("late worker", words, folder)]
        return []

    def _await_nobody(self, folder: Path, processes: list[Process]) -> None:
        """Fail unless all processes of a life are gone within what they may take."""
        until, mark = time.monotonic() + 40, f"TMPDIR={folder / 'tmp'}".encode()
        while (left := _with(mark)) and time.monotonic() < until:
            time.sleep(0.1)
        for process in processes:
            process.end()
        for pid in left:
            _signal(pid, signal.SIGKILL)
        assert not left, f"processes that never end: {left}"

    def wanted(self, name: str, kind: Kind) -> dict[str, bytes]:
        """Return the parameters of a run that nobody disturbs."""
        if name not in self._wanted:
            folder = self._top / f"undisturbed-{len(self._wanted)}"
            (folder / "tmp").mkdir(parents=True)
            run = self._start(kind, folder)
            assert run.wait(LIMIT) == 0, run.text
            self._wanted[name] = exported(folder)
        return self._wanted[name]

    def series(self, schedules: int, first: int = 0) -> int:
        """Go through so many; return how many failed."""
        failed = 0
        for number in range(first, first + schedules):
            began = time.monotonic()
            try:
                what = self.run(number)
            except AssertionError as error:
                failed += 1
                what = f"FAILED: {error}"
            self._say(f"schedule {number}, seed {self.seed}, {time.monotonic() - began:.0f} s: {what}")
        for (name, fault), count in sorted(self.done.items()):
            self._say(f"{count:5d} × {name}: {fault}")
        self._say(f"{schedules} schedules, {failed} failed")
        return failed


def exported(folder: Path) -> dict[str, bytes]:
    """Return the trained parameters of the newest checkpoint: what workers keep is not in that of the end."""
    export_model(str(folder / "kept"), str(folder / "model.safetensors"))
    trained = {tensor.name for tensor in newest(folder).layout.tensors}
    found = load_file(folder / "model.safetensors")
    return {name: array.tobytes() for name, array in found.items() if name in trained}


def newest(folder: Path) -> Manifest:
    lives = Lives(place(str(folder / "kept")))
    life = lives.latest()
    found = lives.newest(life) if life is not None else None
    assert found is not None, f"no checkpoint is whole in {folder}"
    return found


def bits(nightly: Nightly, kind: Kind, folder: Path, text: str) -> None:
    """The parameters have the bits of a run that nobody disturbed."""
    name = next(name for name, each in KINDS.items() if each is kind)
    wanted, found = nightly.wanted(name, kind), exported(folder)
    differ = sorted(name for name in wanted if found.get(name) != wanted[name])
    assert not differ, f"other bits in {differ}:\n{text}"


def once(nightly: Nightly, kind: Kind, folder: Path, text: str) -> None:
    """What is in each chunk is what its list of contributions says, each once.

    A worker that comes late has a clock to begin at, before which it contributes nothing.
    """
    for chunk in newest(folder).chunks:
        ours = sum(clocks for rank, clocks in chunk.done.items() if rank < WORKERS)
        most = sum(chunk.done.values())
        assert ours <= chunk.version <= most, (chunk.version, chunk.done, text)
        assert max(chunk.done.values()) == STEPS, (chunk.index, chunk.done, text)


def rounds(nightly: Nightly, kind: Kind, folder: Path, text: str) -> None:
    """Each client adds one in each round: the weights say how many have counted."""
    found = set(re.findall(r"final (.*)", text))
    assert found == {f"{ROUNDS} of 1"}, text


EQUAL = ("--data-sharing", "static")
"""Each worker has as many steps as the others, however fast it is: that is what ``once`` counts."""
KINDS = {
    "sync, adam": Kind(
        ("-s", "2", "-w", "2", "--optimizer", "adam:lr=0.01", "--clip-norm", "1"), RESUMED, LOCKSTEP, bits
    ),
    "async": Kind(("-s", "2", "-w", "2", "--mode", "async", *EQUAL), RESUMED, APART, once),
    "sync, top-k": Kind(
        ("-s", "2", "-w", "2", "--optimizer", "sgd:lr=0.05", "--compress", "topk:0.05"), RESUMED, LOCKSTEP, bits
    ),
    "ssp": Kind(("-s", "2", "-w", "2", "--mode", "ssp", "--staleness", "2", *EQUAL), RESUMED, APART, once),
    "pipeline": Kind(("-s", "2", "-w", "2", "--mode", "pipeline"), PIPELINE, LOCKSTEP, bits),
    "federated": Kind(
        ("-s", "2", "-w", "3", "--mode", "federated", "--rounds", str(ROUNDS), "--min-clients", "1"),
        CLIENT,
        ("kill all", "kill a server", "kill a worker", "stop one", "terminate"),
        rounds,
    ),
}
"""A line each: what a job with ``--replicas`` promises is another one."""


def _words(pid: int) -> list[str]:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    return []


def _with(mark: bytes) -> list[int]:
    """Return the processes that have a variable in their environment."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if mark in path.read_bytes().split(b"\0") and is_running(int(path.parent.name)):
                found.append(int(path.parent.name))
    return found


def _signal(pid: int, signum: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signum)
