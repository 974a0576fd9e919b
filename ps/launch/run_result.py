"""RunResult: how a run of a cluster ended."""

from __future__ import annotations

from collections.abc import Sequence

from ps.dataclass import dataclass
from ps.launch.policy import Exit


@dataclass(frozen=True, slots=True)
class RunResult:
    """Its exit status, and what that came from."""

    status: int
    failed_first: Exit | None = None
    tail: Sequence[str] = ()
    """The last lines of what failed first."""
    signal: int = 0
    """That by which it was ended, if it was."""
    began: bool = True
    """Whether there was anything left to do."""
