"""RunResult: how a run of a cluster ended."""

from __future__ import annotations

from collections.abc import Sequence

from ps import errors
from ps.dataclass import dataclass
from ps.errors import PSError
from ps.launch.policy import Exit, describe


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

    def error(self) -> PSError:
        """Return what failed first as the error of its exit code, with its last lines."""
        first = self.failed_first
        assert first is not None
        kinds = {kind.exit_code: kind for kind in PSError.__subclasses__() if kind.exit_code > 1}
        kind = kinds.get(first.code, errors.ServerLost if first.role == "server" else PSError)
        lines = "".join(f"\n    {line}" for line in self.tail)
        about = f"{first.name} failed first ({describe(first.code)})"
        return kind(f"{about}{'; its last lines:' if lines else ''}{lines}")
