"""ExperimentTracker: what every tracker has: the library it needs, and how it opens a run to write to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Protocol

from ps.dataclass import dataclass


@dataclass(frozen=True, slots=True)
class TrackedRun:
    """A run as a tracker shows it: of which project, called what, with the job's settings as its hyper-parameters.

    ``directory``: where it goes, if that was said; else where the library's own settings and variables have it.

    A job that goes on from a checkpoint is the same run for people. ``id``, "" for a job without checkpoints, is what
    the tracker has it as: one that it knows is to be gone on with. It is a new one where an earlier life had told of
    steps that were then lost: those of the run are told anew then, from its first one, and ``before`` is the one that
    is left behind. A tracker that can take back what it was told may go on with what it has, called ``name``: the next
    step is that after ``step``, or, with ``before``, the first one.
    """

    project: str
    name: str
    settings: Mapping[str, Any]
    directory: str | None = None
    id: str = ""
    before: str = ""
    step: int = 0

    @property
    def label(self) -> str:
        """What people see of it where a run that was left behind is there too."""
        return f"{self.name}.{self.id.rpartition('.')[2]}" if "." in self.id else self.name


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
