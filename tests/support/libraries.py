"""Optional libraries that the processes of a test load, and the tests themselves need not: it takes seconds."""

from __future__ import annotations

from importlib.util import find_spec

import pytest


def demand(library: str, reason: str) -> None:
    """Skip the test where a library is not installed, without loading it."""
    if find_spec(library) is None:
        pytest.skip(f"{library} is not installed: {reason}")
