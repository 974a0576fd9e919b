"""The process beside the training that writes to a tracker: ``python -m ps.launch.tracked NAME FOLDER [PLUGIN]...``.

It follows the record's files in FOLDER, is told the rest on its standard input, a JSON object in each line, and says on
its standard output what people should know. Whatever a tracker does, it goes on to the next values.
"""

from __future__ import annotations

import collections
import contextlib
import os
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ps import plugins
from ps.config import JobConfig
from ps.errors import PSError
from ps.json_lines import parse_object
from ps.optim.group import optimizer_of
from ps.protocol.fitting import printable
from ps.record_files import EVALUATIONS, METRICS
from ps.record_lives import FIRST, RecordLives
from ps.track import TRACKERS, ExperimentTracker, TrackedRun, Writer
from ps.track.points import Point, Points

LOOK = 0.3
"""Seconds between looks at the record."""
AGAIN = 5.0
"""Seconds after which a tracker that could not be opened is tried again."""
MOST_WAITING = 20_000
"""Points that wait for a tracker, at most; the oldest go first."""
_AT_ONCE = 1 << 20
"""Bytes of a file that are read before what is in them is delivered."""
_ABOUT = ("project", "name", "directory", "id", "before", "step")
LAST = 15.0
"""Seconds after the end, or after whoever started this is gone, when this process ends, whatever a tracker does."""


class Delivery:
    """Points on their way to one tracker. What it does not take is lost, and that is said once for each outage."""

    def __init__(
        self, tracker: ExperimentTracker, say: Callable[[str], None], now: Callable[[], float] = time.monotonic
    ) -> None:
        self._tracker = tracker
        self._say = say
        self._now = now
        self._waiting: collections.deque[Point] = collections.deque()
        self._run: TrackedRun | None = None
        self._writer: Writer | None = None
        self._retry = 0.0
        self._lost = 0
        """Points that the tracker has not taken since it last did."""
        self.down = False

    def begin(self, run: TrackedRun) -> None:
        """Know the run from now on."""
        self._run = run

    def add(self, points: list[Point]) -> None:
        """Take points to deliver."""
        self._waiting.extend(points)
        while len(self._waiting) > MOST_WAITING:
            self._waiting.popleft()
            self._lost += 1

    def go_on(self) -> None:
        """Deliver what waits, as far as the tracker takes it."""
        if self._run is None or not (self._writer or self._opened(self._run)):
            return
        while self._waiting:
            step, values = self._waiting.popleft()
            try:
                assert self._writer is not None
                self._writer.log(values, step)
            except Exception as error:
                self._lost += 1
                self._tell(error)
            else:
                self._back()

    def close(self) -> None:
        """End the run, if there is one."""
        self.go_on()
        if self._writer is None:
            self._lost += len(self._waiting)
        try:
            if self._writer is not None:
                self._writer.close()
        except Exception as error:
            self._tell(error)
        if self.down and self._lost:
            self._say(f"{self._lost:,} points are not there")

    def _opened(self, run: TrackedRun) -> bool:
        if self._now() < self._retry:
            return False
        try:
            self._writer = self._tracker.open(run)
        except Exception as error:
            self._retry = self._now() + AGAIN
            self._tell(error)
            return False
        self._back()
        return True

    def _tell(self, error: Exception) -> None:
        if not self.down:
            self.down = True
            what = printable(f"{type(error).__name__}: {error}".replace("\n", " ")[:300])
            self._say(f"takes nothing ({what}); training goes on without it")

    def _back(self) -> None:
        if self.down:
            self.down = False
            self._say(f"takes values again{f'; {self._lost:,} points are not there' if self._lost else ''}")
            self._lost = 0


class LineFile:
    """A file to which others append lines, from its beginning on."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._at = 0
        self._rest = b""
        self.is_behind = False
        """Whether there was more than was read."""

    def new(self) -> Iterator[dict[str, Any]]:
        """Yield the objects of the lines that are new."""
        with contextlib.suppress(OSError), self._path.open("rb") as file:
            file.seek(self._at)
            data = file.read(_AT_ONCE)
            self.is_behind = len(data) == _AT_ONCE
            self._at += len(data)
            *lines, self._rest = (self._rest + data).split(b"\n")
            for line in lines:
                if (found := parse_object(line)) is not None:
                    yield found


class Follower:
    """What a record says, and what is told beside it, on their way to a tracker."""

    def __init__(self, delivery: Delivery, folder: Path) -> None:
        self._delivery = delivery
        self._metrics, self._evaluations = LineFile(folder / METRICS), LineFile(folder / EVALUATIONS)
        self._folder, self._lives = folder, RecordLives({})
        self._rate: Callable[[int, float | None], float] | None = None
        self._points = Points(self._of_clock)
        self._known = 0
        """How many steps the tracker knows of, from earlier lives of the run."""
        self._about: dict[str, Any] = {}
        self._is_known = False
        """Whether the job's settings were told."""

    def hear(self, message: dict[str, Any]) -> bool:
        """Take what is told; return whether that was all."""
        if "settings" in message:
            settings = message["settings"]
            self._rate, self._is_known = _rate(settings), True
            about = {name: self._about[name] for name in _ABOUT if name in self._about}
            self._delivery.begin(TrackedRun(settings=settings, **about))
        elif "rounds" in message:
            for entry in message["rounds"]:
                self._delivery.add(self._points.round(entry))
        elif "project" in message:
            self._about = message
            self._lives = RecordLives.read(self._folder)
            self._known = 0 if message.get("before") else message.get("step", 0)
            self._points = Points(self._of_clock, self._known)
        return "end" in message

    def look(self, *, last: bool = False) -> None:
        """Read what is new, and deliver it."""
        while (self._is_known or last) and self._look(last):
            pass

    def _look(self, last: bool) -> bool:
        """Read some of what is new, and deliver it; return whether there may be more."""
        lives, latest = self._lives, self._lives.latest
        now = time.monotonic()
        for line in self._metrics.new():
            if lives.has_step(line):
                self._points.step(line, now)
        self._delivery.add(self._points.due(float("inf") if last and not self._metrics.is_behind else now))
        for line in self._evaluations.new():
            is_told = self._known and latest is not None and line.get("life", FIRST) != latest.number
            if lives.has_evaluation(line) and not is_told:
                self._delivery.add(self._points.evaluation(line))
        is_more = self._metrics.is_behind or self._evaluations.is_behind
        if is_more or not last:
            self._delivery.go_on()
        return is_more

    def _of_clock(self, clock: int, base: float | None) -> dict[str, float]:
        return {} if self._rate is None else {"scheduled_lr": self._rate(clock, base)}


def _rate(settings: Any) -> Callable[[int, float | None], float] | None:
    """Return the learning rate that the schedule has for a clock; it multiplies that of the job, or one set anew."""
    try:
        job = JobConfig.from_dict(settings)
        if job.schedule_unit == "examples":  # how many there were by then is not in a line of one worker
            return None
        specs = job.specs
        initial, schedule = optimizer_of(specs.step_optimizer, "").lr, specs.schedule.build()
        return lambda clock, base: (initial if base is None else base) * schedule(clock)
    except (PSError, TypeError, AttributeError):
        return None


def main(name: str, folder: str, *modules: str) -> None:
    """Follow the record in a folder until the end is told."""
    told = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # whatever a library prints is nobody's
    with contextlib.suppress(OSError):
        os.nice(5)

    def say(text: str) -> None:
        with contextlib.suppress(OSError):
            told.write(text + "\n")

    messages: queue.Queue[dict[str, Any]] = queue.Queue()

    def listen() -> None:
        for line in sys.stdin.buffer:
            if (message := parse_object(line)) is not None:
                messages.put(message)
        messages.put({"end": True})
        time.sleep(LAST)
        os._exit(1)

    threading.Thread(target=listen, daemon=True).start()
    try:
        plugins.load(modules)
        delivery = Delivery(TRACKERS.parse(name).build(), say)
    except PSError as error:
        say(str(error))
        return
    follower, over = Follower(delivery, Path(folder)), False
    while not over:
        with contextlib.suppress(queue.Empty):
            message = messages.get(timeout=LOOK)
            while True:
                over |= follower.hear(message)
                message = messages.get_nowait()
        follower.look(last=over)
    delivery.close()
    told.flush()
    os._exit(0)  # some libraries have threads that do not end, or wait for a server at exit


if __name__ == "__main__":
    main(*sys.argv[1:])
