"""Fixtures that any test may ask for."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import settings

from ps import testing, xp

settings.register_profile("project", deadline=None)  # a busy machine is no fault; pytest's time-out bounds each test
settings.load_profile("project")


@pytest.fixture
def strict_device() -> Iterator[xp.Device]:
    """A device without hardware, whose arrays refuse every silent way to the host."""
    with testing.strict_device() as device:
        yield device
