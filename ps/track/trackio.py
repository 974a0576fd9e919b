"""Trackio: runs in a SQLite file on this machine, ``trackio show`` for a look at them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from ps.dataclass import dataclass
from ps.track.tracker import TrackedRun


@dataclass(frozen=True, slots=True)
class Trackio:
    """Where it goes is the directory, else the library's own ``TRACKIO_DIR``."""

    module = "trackio"
    package = "paramserver[trackio]"

    def open(self, run: TrackedRun) -> _TrackioLog:
        """Begin a run."""
        if run.directory is not None:
            os.environ["TRACKIO_DIR"] = run.directory  # read when it is imported
        import trackio

        again = {"resume": "allow"} if run.id else {}  # one of this name, if there is one
        trackio.init(project=run.project, name=run.label, config=dict(run.settings), **again)
        return _TrackioLog(trackio)


class _TrackioLog:
    def __init__(self, library: Any) -> None:
        self._library = library

    def log(self, values: Mapping[str, float], step: int) -> None:
        self._library.log(dict(values), step=step)

    def close(self) -> None:
        self._library.finish()
