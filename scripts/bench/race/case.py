"""Setup and Case: what is to be done, and who does it in which way. The work is the same for all, and is checked.

The work: each of ``workers`` processes holds a gradient of ``nbytes`` bytes of float32. A step ends when every worker
has the weights updated by SGD with the mean of the gradients.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

import numpy as np

LR = 0.5
GRADIENT = 0.25
"""Worker r's gradient is (r + 1) times this in every element; weights begin at 1."""

Value = str | int | float | bool
Options = Mapping[str, Value]


@dataclass(frozen=True, slots=True)
class Setup:
    """The size of the work. ``servers`` and ``chunk`` (bytes) are for those that have such a thing.

    The weights after the first step are ``checked``, which holds for SGD with the mean.
    """

    workers: int
    servers: int
    nbytes: int
    chunk: int | None = None
    checked: bool = True

    @property
    def size(self) -> int:
        """The number of float32 elements."""
        return self.nbytes // 4

    @property
    def after_one_step(self) -> float:
        """What every weight is after the first step."""
        return 1 - LR * GRADIENT * (self.workers + 1) / 2

    def weights(self) -> np.ndarray:
        """Return the weights before the first step."""
        return np.ones(self.size, np.float32)

    def gradient(self, rank: int) -> np.ndarray:
        """Return a worker's gradient."""
        return np.full(self.size, GRADIENT * (rank + 1), np.float32)


@dataclass(frozen=True, slots=True)
class Case:
    """One way to do the work. ``module`` is who knows how; ``settings`` and ``lacks`` are words for the report.

    A ``limit`` does less than the work and bounds what can be had; a ``peer`` does the same work. ``ranks`` is how
    many processes are told to step, when that is not the number of workers. ``passes`` is how many times as many bytes
    as the model's a step has to read and write in memory, what the kernel copies included; 0 where that is not known.
    """

    name: str
    module: str
    kind: Literal["ps", "peer", "limit"]
    settings: str
    lacks: str = ""
    options: Options = field(default_factory=dict)
    ranks: int | None = None
    passes: int = 0


class Rank(Protocol):
    """What runs in a process that is told to step."""

    def steps(self, count: int) -> None:
        """Do so many steps and return when the last one's weights are there."""

    def weights(self) -> np.ndarray | None:
        """Return the weights, or None for what has none to check."""

    def close(self) -> None:
        """Let go of everything."""


class Launch(Protocol):
    """What a peer gets to start servers with. Each of them announces where it is to be found."""

    directory: Path

    def server(self, index: int) -> str:
        """Start a process that runs the peer's ``serve``; return what it announces."""

    def command(self, name: str, command: list[str], env: Mapping[str, str]) -> str:
        """Start a command that announces itself as psctl's roles do; return what it announces."""


class Peer(Protocol):
    """What a module of ``peers`` offers. Only ``cases``, ``absent`` and ``start`` run in the controlling process."""

    def absent(self, options: Options) -> str:
        """Return why a case cannot take part here, or nothing."""

    def cases(self, setup: Setup) -> list[Case]:
        """Return the ways in which it does the work."""

    def start(self, setup: Setup, options: Options, launch: Launch) -> str:
        """Start what serves; return where the ranks meet."""

    def serve(self, setup: Setup, options: Options, index: int, announce: Callable[[str], None]) -> None:
        """Be server ``index`` until ended; announce where."""

    def join(self, setup: Setup, options: Options, rank: int, meeting: str) -> Rank:
        """Be worker ``rank``."""
