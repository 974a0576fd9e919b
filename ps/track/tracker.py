"""ExperimentTracker: what every tracker has: the library it needs, and how it opens a run to write to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Protocol

from ps.dataclass import dataclass


@dataclass(frozen=True, slots=True)
class TrackedRun:
    """A run as a tracker shows it: of which project, called what, with the job's settings as its hyper-parameters.

    ``directory``: where it goes, if that was said; else where the library's own settings and variables have it.
    """

    project: str
    name: str
    settings: Mapping[str, Any]
    directory: str | None = None


class Writer(Protocol):
    """An open run. Both may raise anything, and may take as long as they like: nobody waits for them."""

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Write numbers by name, among them perhaps NaN and Inf, of a step or round. Steps of one name only grow."""
        ...

    def close(self) -> None:
        """End the run, with everything written."""
        ...


class ExperimentTracker(Protocol):
    """A dataclass; ``module`` is what it imports, in ``open`` and nowhere else, ``package`` what is to be installed."""

    module: ClassVar[str]
    package: ClassVar[str]

    def open(self, run: TrackedRun) -> Writer:
        """Begin a run."""
        ...
