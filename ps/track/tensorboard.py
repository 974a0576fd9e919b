"""TensorBoard, by its own package: event files, without TensorFlow, PyTorch or a server."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ps.dataclass import dataclass
from ps.track.tracker import TrackedRun


@dataclass(frozen=True, slots=True)
class TensorBoard:
    """Event files in DIRECTORY/NAME; DIRECTORY is ``runs`` unless given. The settings are hyper-parameters.

    A file of a run that goes on begins with from which step on those before it do not count.
    """

    module = "tensorboard"
    package = "paramserver[tensorboard]"

    def open(self, run: TrackedRun) -> _Events:
        """Begin a file of events."""
        from tensorboard.plugins.hparams.summary_v2 import hparams_pb
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        writer = _Events(EventFileWriter(str(Path(run.directory or "runs") / run.name), flush_secs=2))
        if run.step or run.before:
            writer.begin_at(0 if run.before else run.step + 1)
        settings = {key: value for key, value in run.settings.items() if isinstance(value, bool | int | float | str)}
        writer.add(hparams_pb(settings, trial_id=run.name), 0)
        return writer


class _Events:
    def __init__(self, writer: Any) -> None:
        self._writer = writer

    def add(self, summary: Any, step: int) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        self._writer.add_event(Event(wall_time=time.time(), step=step, summary=summary))

    def begin_at(self, step: int) -> None:
        """Have what was written of this step and later ones, in files before this one, not count."""
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog

        start = SessionLog(status=SessionLog.START)
        self._writer.add_event(Event(wall_time=time.time(), step=step, session_log=start))

    def log(self, values: Mapping[str, float], step: int) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary

        self.add(Summary(value=[Summary.Value(tag=name, simple_value=number) for name, number in values.items()]), step)

    def close(self) -> None:
        self._writer.close()
