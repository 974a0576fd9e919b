"""What travels between the program that runs a job on Ray and the actors that start its processes."""

from __future__ import annotations

from collections.abc import Mapping

from ps.dataclass import dataclass
from ps.launch.policy import name_of


@dataclass(frozen=True, slots=True)
class ProcessStart:
    """A process to start: ``words`` are what follows psctl on its command line."""

    role: str
    rank: int
    words: tuple[str, ...]
    env: Mapping[str, str]
    keys: Mapping[str, bytes]
    """Its folder of keys, by the names of the files; nothing where it is to do without."""
    cwd: str | None = None
    """Where it works, if there is such a folder; None: where Ray has put the actor."""
    grace: float = 25.0
    version: str = ""
    """Of this package, which must be the same there."""

    @property
    def name(self) -> str:
        """The process, as messages call it."""
        return name_of(self.role, self.rank)


@dataclass(frozen=True, slots=True)
class StartedAt:
    """Where a process was started: its host, the address by which other nodes of Ray's reach it, and its id there."""

    host: str
    ip: str
    pid: int


TextLine = tuple[bool, str]
"""Whether it came from standard error, and the line without its end."""


@dataclass(frozen=True, slots=True)
class ProcessNews:
    """What is new of a process: its lines from number ``first`` on, where it listens, and how it ended, if it has."""

    first: int
    lines: tuple[TextLine, ...]
    address: str | None = None
    code: int | None = None
    """Negative for a signal, as subprocess has it."""


@dataclass(frozen=True, slots=True)
class ProcessLost:
    """An actor, and what it had started, is gone; ``why`` is what Ray says. ``begun``: whether it had started it."""

    why: str
    begun: bool
