"""Background: what a store does beside the script: contributions on their way, and steps that are sent in parts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from ps.dataclass import dataclass
from ps.worker.gradients import Gradients


class Pending(Protocol):
    """An exchange under way, as a store knows it."""

    @property
    def done(self) -> bool:
        """Whether everything was answered."""
        ...

    @property
    def vetoed(self) -> bool:
        """Whether it was a step of which nothing was applied, since a worker has vetoed it."""
        ...

    @property
    def staleness(self) -> int:
        """The greatest staleness that any chunk of it had, as the mode counts it."""
        ...


class Background(Protocol):
    """The part of a store that matters where exchanges take time; ``IDLE`` where there is nothing to wait for."""

    @property
    def eager(self) -> bool:
        """Whether a chunk may be sent before the step's other chunks are known."""
        ...

    @property
    def rejoins(self) -> int:
        """How often the weights' buffer was brought up to date unasked, because this worker came (back) late."""
        ...

    def settle(self) -> None:
        """Return when earlier pushes are done, so that the memory they were sent from may be used again."""
        ...

    def send(self, gradients: Gradients, chunks: Iterable[int], examples: float) -> None:
        """Send these chunks of the next ``push_pull`` now; it sends the others. Needs ``settle`` before the first."""
        ...

    def arrive(self, chunks: Iterable[int]) -> None:
        """Return when these chunks of the last ``push_pull`` are there."""
        ...

    def poll(self) -> None:
        """Take the answers that are here, without waiting."""
        ...

    def wait(self, pending: Pending) -> None:
        """Return when the exchange is done. Raises what went wrong with it."""
        ...


@dataclass(frozen=True, slots=True)
class Done:
    """An exchange that was done when it began."""

    done: bool = True
    vetoed: bool = False
    staleness: int = 0


class Idle:
    """The background of a store whose exchanges are all done when they begin."""

    eager = False
    rejoins = 0

    def settle(self) -> None:
        pass

    def send(self, gradients: Gradients, chunks: Iterable[int], examples: float) -> None:
        pass

    def arrive(self, chunks: Iterable[int]) -> None:
        pass

    def poll(self) -> None:
        pass

    def wait(self, pending: Pending) -> None:
        pass


IDLE: Background = Idle()
