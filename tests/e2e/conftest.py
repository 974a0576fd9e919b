"""Fixtures of the tests that start real processes: whatever a failing test leaves behind is killed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from support.cluster import PSCTL, Cluster, Process, clean_environment


@pytest.fixture
def start() -> Iterator[Callable[..., Cluster]]:
    """Return a function that starts a scheduler and servers; see ``Cluster``."""
    clusters: list[Cluster] = []

    def begin(*flags: str, **given: Any) -> Cluster:
        clusters.append(Cluster(*flags, **given))
        return clusters[-1]

    yield begin
    for cluster in clusters:
        cluster.close()
        for process in cluster.processes:  # pytest shows this when the test has failed
            print(f"--- {process.name}, exit code {process.code}\n{process.text[-3000:]}")


def _commands(forked: bool) -> Iterator[Callable[..., Process]]:
    processes: list[Process] = []

    def run(*args: object, program: tuple[str, ...] = PSCTL, loaded: Sequence[str] = (), **env: str) -> Process:
        name, command = " ".join(map(str, args)), [*program, *map(str, args)]
        processes.append(Process(name, command, clean_environment(**env), forked=forked, loaded=loaded))
        return processes[-1]

    yield run
    for process in processes:
        process.end()
        print(f"--- psctl {process.name}, exit code {process.code}\n{process.text[-3000:]}")


@pytest.fixture
def command(tmp_path: Path) -> Iterator[Callable[..., Process]]:
    """Return a function that runs a ``psctl`` command line, or any other with ``program``."""
    yield from _commands(forked=False)


@pytest.fixture
def forked(tmp_path: Path) -> Iterator[Callable[..., Process]]:
    """Return the same for what is not about how processes are started: psctl and what it starts are forked.

    ``loaded`` are libraries that these have before.
    """
    yield from _commands(forked=True)
