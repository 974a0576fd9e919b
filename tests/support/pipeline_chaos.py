"""A pipeline whose stages are killed, one after the other, for ``scripts/chaos``: spares take their places, and the
parameters in the end are the bits of one process that nobody disturbed.

A death is over when each worker that is left, and whoever took a place, has done two steps more than anybody had when
the signal was sent: the step under way may need nothing but words, the one after that needs everybody. Seconds are from
the signal to the line that a worker prints after that step, as this process reads it.
"""

from __future__ import annotations

import random
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np

from support.cluster import SCRIPTS, Cluster, Process, clean_environment

SCRIPT = str(SCRIPTS / "pipeline.py")
PATIENCE = 60.0
"""Seconds without the steps that a death is over with that count as a hang."""
STEPS = 30
"""Between two deaths."""
PER_EPOCH = 4
"""Steps that an epoch of the script has."""
TWICE = 0.2
"""Of the deaths, how many are followed by another one at once."""


class PipelineChaos:
    """One job, four stages on as many workers, and two spares beside them."""

    def __init__(self, seed: int, servers: int, kills: int, timeout: float, transport: str, **job: object) -> None:
        self.random = random.Random(seed)
        self.took: list[float] = []
        """Seconds that each death took."""
        self.done: Counter[str] = Counter()
        self._kills = kills
        self._epochs = -(-(kills + 2) * STEPS // PER_EPOCH)
        self._began = time.monotonic()
        job = {"optimizer": "adam:lr=0.01", **job}
        settings = {"mode": "pipeline", "spares": 2, "heartbeat_timeout": timeout, "transport": transport, **job}
        self._alone = {f"PS_{name.upper()}": str(value) for name, value in job.items()}
        self.cluster = Cluster(servers=servers, workers=4, **settings)
        self._args = str(self.cluster.path("stage-{rank}.npz")), "--epochs", self._epochs, "--slow", "2:0.004"
        self._live = [self._start() for _ in range(6)]

    def _start(self) -> Process:
        return self.cluster.worker(SCRIPT, *self._args)

    def say(self, text: str) -> None:
        print(f"{time.monotonic() - self._began:7.2f} s  {text}", flush=True)

    def run(self) -> str:
        """Kill as many as wanted, see all go on, and return what is said of the end. Raises AssertionError."""
        for number in range(self._kills):
            self._reach(STEPS * (number + 1) + self.random.randrange(STEPS // 2))
            self._await_spares()
            time.sleep(self.random.uniform(0, 0.1))  # at any instant of a step
            self._kill(twice=self.random.random() < TWICE)
        return self._finish()

    def _seated(self) -> list[Process]:
        return [process for process in self._live if _clock(process)]

    def _reach(self, clock: int) -> None:
        self._until(lambda: max(map(_clock, self._live)) >= clock, f"step {clock}")

    def _await_spares(self) -> None:
        def ready() -> bool:
            return (
                sum(row.get("spare", False) and row["state"] == "live" for row in self.cluster.status()["workers"]) >= 2
            )

        self._until(ready, "two spares")

    def _kill(self, *, twice: bool) -> None:
        before = max(map(_clock, self._live))
        since = time.monotonic()
        for number in range(1 + twice):
            if number:
                time.sleep(self.random.uniform(0, 0.5))
            victim = self.random.choice(self._seated())
            victim.kill()
            self._live.remove(victim)
            self._live.append(self._start())
        what = "kill two workers" if twice else "kill a worker"
        self.done[what] += 1
        self._until(lambda: sum(_clock(process) >= before + 2 for process in self._live) >= 4, f"step {before + 2}")
        self.took.append(time.monotonic() - since)
        self.say(f"{what} at step {before}: all go on after {self.took[-1]:.2f} s")

    def _until(self, holds: Callable[[], bool], what: str) -> None:
        until = time.monotonic() + PATIENCE
        while not holds():
            for process in (*self._live, *self.cluster.servers, self.cluster.scheduler):
                if process.code:
                    raise AssertionError(f"{process.name} ended with {process.code}:\n{process.text[-3000:]}")
            if time.monotonic() > until:
                raise AssertionError(f"{what} was not reached within {PATIENCE:g} s")
            time.sleep(0.005)

    def _finish(self) -> str:
        for process in self._live:
            if process.wait(2 * PATIENCE) != 0:
                raise AssertionError(f"{process.name} ended with {process.code}:\n{process.text[-3000:]}")
        path = Path(self.cluster.path("whole.npz"))
        command = [sys.executable, SCRIPT, str(path), "--epochs", str(self._epochs)]
        alone = Process("alone", command, clean_environment(**self._alone))
        if alone.wait(4 * PATIENCE) != 0:
            raise AssertionError(alone.text[-3000:])
        whole, found = np.load(path), {}
        for rank in range(4):
            found |= dict(np.load(self.cluster.path(f"stage-{rank}.npz")))
        differ = [name for name in whole if name not in found or not np.array_equal(found[name], whole[name])]
        if differ:
            raise AssertionError(f"other bits than those of one process: {', '.join(differ)}")
        return f"the bits of one process after {self._epochs * PER_EPOCH} steps"


def _clock(process: Process) -> int:
    """Return the last step that a worker has done, 0 for a spare."""
    steps = (line.split() for line in reversed(list(process.lines)) if line.startswith("step "))
    return next((int(words[1]) for words in steps), 0)
