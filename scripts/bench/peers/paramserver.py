"""This system: a scheduler, servers and workers as psctl starts them, over each transport."""

from __future__ import annotations

import os
import sys

import numpy as np
from race.case import LR, Case, Launch, Options, Setup

from ps.config import JobConfig, ProcessConfig, settings_of

MODULE = __name__
WAYS: dict[str, dict[str, str]] = {
    "ps tcp": {"transport": "tcp"},
    "ps ipc": {"transport": "ipc"},
    "ps shm": {"transport": "shm"},
    "ps shm, private params": {"transport": "shm", "params": "private"},
    "ps shm, no NaN check": {"transport": "shm", "on_nan": "ignore"},
}


def absent(options: Options) -> str:
    table = {**settings_of(JobConfig), **settings_of(ProcessConfig)}
    for name, value in options.items():
        if name not in table or (table[name].choices and value not in table[name].choices):
            return f"this version has no {name} = {value}"
    return ""


def cases(setup: Setup) -> list[Case]:
    return [
        case(name, {**way, "optimizer": f"sgd:lr={LR}", **_chunks(setup)}, _passes(way) * setup.workers + 2)
        for name, way in WAYS.items()
    ]


def case(name: str, options: Options, passes: int = 0) -> Case:
    """Return a case of this system with some settings given."""
    words = ", ".join(f"{key}={value}" for key, value in options.items())
    lacks = []
    if options["transport"] == "shm" and options.get("params") != "private":
        lacks.append("workers get the weights as read-only views of the servers' memory")
    if options.get("on_nan") == "ignore":
        lacks.append("it does not look for NaN, as the peers do not")
    return Case(
        name,
        MODULE,
        "ps",
        f"{words}; all else by default; gradients in kv.grads",
        "; ".join(lacks),
        options,
        passes=passes,
    )


def _passes(way: Options) -> int:
    """Return how often a worker's step reads and writes as much as the model, beside the update of the weights."""
    if way["transport"] == "shm":
        return 3 if way.get("params") == "private" else 1
    return 9


def _chunks(setup: Setup) -> dict[str, str]:
    if setup.chunk is None:
        return {}
    return {"chunk_size": str(setup.chunk), "window": str(max(JobConfig().window, 2 * setup.chunk))}


def environment(options: Options) -> dict[str, str]:
    """Return options as the variables that every role reads its settings from."""
    return {f"PS_{name.upper()}": str(value) for name, value in options.items()}


def start(setup: Setup, options: Options, launch: Launch) -> str:
    psctl = [sys.executable, "-m", "ps.cli"]
    env = {**environment(options), "PS_RUNTIME_DIR": str(launch.directory)}
    size = ["-s", str(setup.servers), "-w", str(setup.workers)]
    address = launch.command("scheduler", [*psctl, "scheduler", "--port", "0", *size], env)
    for rank in range(setup.servers):
        launch.command(f"server {rank}", [*psctl, "server", "--scheduler", address, "--rank", str(rank)], env)
    return address


class Worker:
    """A training script without a model to compute: the same gradients in each step."""

    def __init__(self, setup: Setup, rank: int, address: str, options: Options) -> None:
        os.environ.update({**environment(options), "PS_SCHEDULER": address})
        import ps

        self._kv = ps.connect()
        self._params = self._kv.init({"w": setup.weights()})
        self._grads = self._kv.grads
        self._grads["w"][:] = setup.gradient(rank)

    def steps(self, count: int) -> None:
        for _ in range(count):
            self._kv.step(self._grads)

    def weights(self) -> np.ndarray:
        found: np.ndarray = self._params["w"]
        return found

    def close(self) -> None:
        self._kv.close()


def join(setup: Setup, options: Options, rank: int, meeting: str) -> Worker:
    return Worker(setup, rank, meeting, options)
