"""Fixtures that any test may ask for."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from threadpoolctl import threadpool_limits

from ps import testing, xp
from support.at_once import pytest_configure as pytest_configure

settings.register_profile("project", deadline=None)  # a busy machine is no fault; pytest's time-out bounds each test
settings.load_profile("project")

threadpool_limits(
    1, user_api="blas"
)  # small products on many threads cost ten times as much, in waiting for each other

os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # or each process that a test starts compiles all it imports


@pytest.fixture
def strict_device() -> Iterator[xp.Device]:
    """A device without hardware, whose arrays refuse every silent way to the host."""
    with testing.strict_device() as device:
        yield device


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No cluster, and no settings but the test's."""
    for name in list(os.environ):
        if name.startswith("PS_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
