"""Blame: what goes wrong with a place of checkpoints is one line, which names the file."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from ps.errors import CheckpointError
from ps.regular_file import reason, shown


@contextlib.contextmanager
def blaming(what: str, name: object) -> Iterator[None]:
    """Raise CheckpointError in a line for what goes wrong inside; that a file is there, or is not, is the caller's."""
    try:
        yield
    except (CheckpointError, FileExistsError, FileNotFoundError):
        raise
    except (OSError, ValueError) as error:
        raise CheckpointError(f"cannot {what} {shown(str(name))}: {reason(error)}") from None
