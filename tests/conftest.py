"""Fixtures that any test may ask for."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from threadpoolctl import threadpool_limits

from ps import testing, xp
from support import at_once, fork_server, long

threadpool_limits(
    1, user_api="blas"
)  # small products on many threads cost ten times as much, in waiting for each other

os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # or each process that a test starts compiles all it imports


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option of those who have an hour."""
    parser.addoption("--long", action="store_true", help="try all cases of what goes through many")


def pytest_configure(config: pytest.Config) -> None:
    """Set up what the tests have in common."""
    at_once.pytest_configure(config)
    long.choose(config)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out what takes long."""
    long.skip(items)


def pytest_collection_finish() -> None:
    """Leave alone what was loaded by now: going through all of it takes a quarter of a second in each collection."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def strict_device() -> Iterator[xp.Device]:
    """A device without hardware, whose arrays refuse every silent way to the host."""
    with testing.strict_device() as device:
        yield device


@pytest.fixture
def forked_roles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have what a launcher or a simulation in the tests' own process starts forked, which it need not know."""
    for name in (*fork_server.THREADS, "PYTHONUNBUFFERED"):
        monkeypatch.setenv(name, "1")
    for module in ("ps.launch.child", "ps.simulate.worker_process"):
        monkeypatch.setattr(f"{module}.subprocess", fork_server.Subprocess())


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No cluster, and no settings but the test's."""
    for name in list(os.environ):
        if name.startswith("PS_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
