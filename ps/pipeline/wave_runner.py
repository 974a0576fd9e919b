"""WaveRunner: the waves that one worker has under way, and which of them does what next. Like ``StageRunner`` it blocks
on nothing and knows of no sockets, threads or clocks."""

from __future__ import annotations

from collections.abc import Iterator

from ps.pipeline.runner import StageRunner, Transfer


class WaveRunner:
    """Waves in the order of their numbers, each with a runner of its own.

    The oldest goes first, and others do something only while it waits: so the last backward passes of a wave and the
    first forward passes of the next take turns, and nobody is idle between two (PipeDream-2BW: Narayanan et al., 2021,
    arXiv:2006.09503). What is left of a wave after its last transfer comes after that. A wave begins once the one
    before has no forward pass left to do here. So what goes over a channel is sent, and needed, wave by wave: each wave
    comes to its end as it does alone.
    """

    def __init__(self) -> None:
        self._runners: dict[int, StageRunner] = {}

    def __len__(self) -> int:
        return len(self._runners)

    def __iter__(self) -> Iterator[int]:
        return iter(self._runners)

    def begin(self, wave: int, runner: StageRunner) -> None:
        """Take a wave, the one after those that are here."""
        self._runners[wave] = runner

    def receive(self, wave: int, transfer: Transfer) -> None:
        """Take what has come for a wave that has begun."""
        self._runners[wave].receive(transfer)

    def unused(self, kind: str, stage: int) -> int:
        """Return how much has been received of a kind for a stage, and not been worked with yet."""
        return sum(runner.unused(kind, stage) for runner in self._runners.values())

    @property
    def next(self) -> tuple[int, StageRunner] | None:
        """The wave that can do something now; None if all wait, or are done."""
        later = None
        for wave, runner in self._runners.items():
            if not runner.done and runner.waiting_for is None:
                if not runner.can_wait:
                    return wave, runner
                later = later or (wave, runner)
            if runner.has_forwards:
                break
        return later

    @property
    def waiting_for(self) -> tuple[int, Transfer] | None:
        """What the oldest wave that is not done has to receive; None if there is none, or something can be done."""
        for wave, runner in self._runners.items():
            if not runner.done and (wanted := runner.waiting_for) is not None:
                return wave, wanted
        return None

    @property
    def is_done(self) -> bool:
        """Whether the oldest wave is done."""
        return next((runner.done for runner in self._runners.values()), False)

    @property
    def oldest(self) -> tuple[int, StageRunner]:
        """The oldest wave, if there is one."""
        return next(iter(self._runners.items()))

    def end(self, wave: int) -> None:
        """Forget a wave, the oldest one, which is done."""
        del self._runners[wave]
