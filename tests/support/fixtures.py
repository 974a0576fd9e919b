"""Fixtures that the tests of several folders share; a folder's ``conftest.py`` imports those that it needs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ps import xp
from ps.config import job_from
from ps.testing import LocalCluster
from ps.worker import KV
from ps.worker.local import LocalStore
from ps.worker.step_log import StepLog
from support.lineserver import Fake, line_servers
from support.shm_desk import Desk


@pytest.fixture
def loopback(tmp_path: Path) -> Iterator[Callable[..., LocalCluster]]:
    """Start a job: ``loopback(servers=2, workers=2, mode="async")``."""
    with contextlib.ExitStack() as stack:

        def start(**job: Any) -> LocalCluster:
            made = LocalCluster(tmp_path, **job)
            stack.callback(made.close)
            return made

        yield start


@pytest.fixture
def local() -> Iterator[Callable[..., KV]]:
    """Make a connection without a cluster: ``local(optimizer="adam:lr=1e-3")``."""
    with contextlib.ExitStack() as stack:

        def make(device: xp.Device = xp.CPU, log: StepLog | None = None, **job: Any) -> KV:
            kv = KV(LocalStore(job_from(job)), device, log or StepLog(None))
            stack.callback(kv.close)
            return kv

        yield make


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[Fake]:
    """Listen for a worker that would share memory: ``fake(say(frame))``."""
    with line_servers(tmp_path) as start:
        yield start


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """Listen for workers that share memory, by hand."""
    made = Desk(tmp_path)
    yield made
    made.listener.close()
