"""How much is tried by tests that go through many cases: the few of ``scripts/check``, or all with ``--long``.

The few are the same ones each time, and several times as many as the faults needed that were put into what they guard
(``tests/README.md``); the many differ from run to run, and so do those that say ``derandomize=False``.
"""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

_CHOSEN = "TESTS_LONG"


def is_long() -> bool:
    """Return whether everything is to be tried."""
    return os.environ.get(_CHOSEN) == "1"


def cases(few: int, many: int) -> int:
    """Return how many cases a test goes through."""
    return many if is_long() else few


def choose(config: pytest.Config) -> None:
    """Take it from the command line, before any test is imported; the environment hands it to processes."""
    if config.getoption("long"):
        os.environ[_CHOSEN] = "1"
    # a busy machine is no fault: pytest's time-out bounds each test
    settings.register_profile("project", deadline=None, derandomize=not is_long())
    settings.load_profile("project")


def skip(items: list[pytest.Item]) -> None:
    """Leave out the tests that are for --long alone."""
    if not is_long():
        for item in items:
            if mark := item.get_closest_marker("long"):
                item.add_marker(pytest.mark.skip(reason=f"with --long; {mark.args[0]}"))
