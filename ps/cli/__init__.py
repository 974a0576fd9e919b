"""The command psctl. ``python -m ps.server`` and ``python -m ps.worker`` are doors to the same commands."""

from __future__ import annotations

from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run psctl with these arguments (default: the process's own) and return its exit status."""
    from ps.cli.app import run_command

    return run_command(argv)
