"""What the tests of a ShmListener ask for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.shm_desk import Desk


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    yield made
    made.listener.close()
