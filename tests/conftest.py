"""Fixtures that any test may ask for."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ps import xp

sys.path.insert(0, str(Path(__file__).parent))

from standin import STRICT


@pytest.fixture
def strict_device() -> Iterator[xp.Device]:
    """A device without hardware, whose arrays refuse every silent way to the host."""
    xp.register(STRICT)
    yield xp.Device(STRICT)
    xp.unregister(STRICT)
