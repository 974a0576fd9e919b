"""RoundFile: a simulation's rounds in a file of JSON lines, each written as its round closes.

What a simulation that was killed had done is there; a full disk costs lines and not the simulation.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from ps.errors import UsageError
from ps.regular_file import reason, refuse_pipe, shown
from ps.simulate.simulation import Moment, Scenario
from ps.sink import Sink

FORMAT = 1


class RoundFile:
    """Lines of JSON: first the ``job``, then one for each round, in the end how it ended. A context manager.

    A round's line is the scheduler's entry, with ``virtual_s``, the ``updates`` trained so far and, where it was
    evaluated, the ``accuracy`` of what the round published. The first weights have a line without a ``round``.
    """

    def __init__(self, path: str | Path, scenario: Scenario, say: Callable[[str], None]) -> None:
        """Open the file; what was there goes with the first line. UsageError when there can be no file.

        ``say`` hears, in the end, of what could not be written.
        """
        try:
            refuse_pipe(path)
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except (OSError, ValueError) as error:
            raise UsageError(f"cannot write the rounds to {shown(path)}: {reason(error)}") from None
        self._fd, self._sink, self._say = fd, Sink(fd, str(path), owns=True), say
        self._head: dict[str, Any] = {"format": FORMAT, "job": dict(scenario.job), "model": scenario.model}
        self._begun = False

    def add(self, moment: Moment) -> None:
        """Write a line for each round that was published; before the first goes what was there."""
        if not self._begun:
            self._begun = True
            with contextlib.suppress(OSError):  # a device has no length
                os.ftruncate(self._fd, 0)
            self._write(self._head)
        about: dict[str, Any] = {"virtual_s": moment.seconds, "updates": moment.trained}
        found = {} if moment.accuracy is None else {"accuracy": moment.accuracy}
        *before, last = moment.closed or ({},)
        for entry in before:
            self._write({**entry, **about})
        self._write({**last, **about, **found})

    def __enter__(self) -> RoundFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        why = "" if isinstance(error, KeyboardInterrupt | SystemExit) else str(error)
        if self._begun:  # else there is nothing to put in the place of what was there
            self._write({"ended": "finished"} if error is None else {"ended": why or "interrupted"})
        self._sink.close()
        if self._sink.lost:
            self._say(f"{self._sink.lost:,} bytes of {self._sink.name} were lost: {self._sink.why}")

    def _write(self, line: dict[str, Any]) -> None:
        self._sink.write(json.dumps(line).encode() + b"\n")
