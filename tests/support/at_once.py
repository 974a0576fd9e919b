"""Says at once which test has failed: the end of a lane, where pytest names it, may be minutes away."""

from __future__ import annotations

import pytest


class AtOnce:
    """A plugin that writes a line for each failure."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Name it, on a line of its own among the dots."""
        shown = self._config.pluginmanager.get_plugin("terminalreporter")
        if report.failed and shown is not None:
            shown.write_line(f"\nfailed: {report.nodeid}")


def pytest_configure(config: pytest.Config) -> None:
    """Have it told; a conftest calls this, or is this file."""
    config.pluginmanager.register(AtOnce(config))
