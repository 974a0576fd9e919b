"""The command psctl. ``python -m ps.server`` and ``python -m ps.worker`` are doors to the same commands."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from ps.errors import PSError

INTERRUPTED = 130
"""The exit status of a process that Ctrl-C has ended."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run psctl with these arguments (default: the process's own) and return its exit status."""
    try:
        from ps.cli.ready import watch_launcher

        if argv is None and os.getpid() == 1:
            from ps.launch.first_process import stand_before

            if (status := stand_before()) is not None:
                return status
        words = sys.argv[1:] if argv is None else argv
        # First of all: loading the rest takes long where many do it at once.
        has_launcher = watch_launcher(is_worker=words[:1] == ["worker"])
        from ps.memory import uncollected

        with uncollected():
            from ps.cli.app import run_command
    except KeyboardInterrupt:
        return INTERRUPTED
    except PSError as error:
        print(f"psctl: error: {error}", file=sys.stderr)
        return error.exit_code
    return run_command(argv, has_launcher=has_launcher)
